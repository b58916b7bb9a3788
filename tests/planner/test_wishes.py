"""Strict arguments, the schemas made from them, and the bounds."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.models import Cause, Tool
from planner.proposals.wishes import (
    TOOLS,
    WISHES,
    BadArgumentsError,
    Bounded,
    Bounds,
    ClearHints,
    PauseUntil,
    ProposeInterval,
    ProposeNextTime,
    Refusal,
    Speaker,
    bound,
    read_arguments,
    tool_schemas,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_INSTANTS = (
    *("1700000000", "1700000000000", "-1700000000", "1.7e9", "1700000000.5", " 1700000000 ", "0", ""),
    *("tomorrow", "2026-03-01", "20260301T120000Z", "2026-03-01T12:00:00", "2026-03-01T12:00:00 UTC", "12:00:00Z"),
    *("2026-13-01T12:00:00Z", "2026-03-01T25:00:00Z"),
    *(1_700_000_000, 1_700_000_000_000, 1.7e9, True, [], {}),
)
FREE = Bounds(None, None, 10_000, NOW, timedelta(hours=48))


def interval(interval_ms: int, ttl_minutes: int = 60) -> ProposeInterval:
    return ProposeInterval(interval_ms=interval_ms, ttl_minutes=ttl_minutes, reason="x")


def test_speakers_and_tools_are_those_of_the_tables() -> None:
    assert [speaker.value for speaker in Speaker] == list(Cause.values)
    assert [wish.tool for wish in WISHES] == list(Tool.values)


def test_a_person_outranks_a_rule_a_rule_the_model_and_the_model_a_heuristic() -> None:
    assert Speaker.PERSON.outranks(Speaker.RULE)
    assert Speaker.RULE.outranks(Speaker.MODEL)
    assert Speaker.MODEL.outranks(Speaker.HEURISTIC)
    assert not Speaker.MODEL.outranks(Speaker.MODEL)
    assert not Speaker.HEURISTIC.outranks(Speaker.RULE)


@pytest.mark.parametrize("value", NO_INSTANTS, ids=repr)
@pytest.mark.parametrize(("tool", "name"), [("propose_next_time", "next_run_at"), ("pause_until", "until")])
def test_a_time_that_is_not_iso_8601_with_an_offset_is_refused_by_its_name(tool: str, name: str, value: Any) -> None:
    with pytest.raises(BadArgumentsError, match=rf"^Refused: {name}"):
        read_arguments(tool, json.dumps({name: value, "reason": "x"}))


@pytest.mark.parametrize(
    "value",
    ["2026-03-01T12:00:00Z", "2026-03-01 13:00+01:00", "2026-03-01T12:00:00.000000+0000", "2026-03-01t12:00:00z"],
)
def test_a_time_in_iso_8601_with_an_offset_is_read(value: str) -> None:
    found = read_arguments("propose_next_time", json.dumps({"next_run_at": value, "reason": "x"}))
    assert isinstance(found, ProposeNextTime)
    assert found.next_run_at == NOW


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("unknown", {}),
        ("propose_interval", []),
        ("propose_interval", {"interval_ms": 30_000}),
        ("propose_interval", {"interval_ms": "30000", "reason": "x"}),
        ("propose_interval", {"interval_ms": 30_000.5, "reason": "x"}),
        ("propose_interval", {"interval_ms": True, "reason": "x"}),
        ("propose_interval", {"interval_ms": 999, "reason": "x"}),
        ("propose_interval", {"interval_ms": 10**30, "reason": "x"}),
        ("propose_interval", {"interval_ms": 30_000, "reason": ""}),
        ("propose_interval", {"interval_ms": 30_000, "reason": "\u200b\u2060"}),
        ("propose_interval", {"interval_ms": 30_000, "reason": 7}),
        ("propose_interval", {"interval_ms": 30_000, "reason": "x" * 501}),
        ("propose_interval", {"interval_ms": 30_000, "reason": "x", "endpoint_id": "y"}),
        ("propose_interval", {"interval_ms": 30_000, "reason": "x", "ttl_minutes": 1_441}),
        ("propose_next_time", {"next_run_at": "tomorrow", "reason": "x"}),
        ("propose_next_time", {"next_run_at": "2026-03-01T12:00:00", "reason": "x"}),
        ("propose_next_time", {"next_run_at": 1_800_000_000, "reason": "x"}),
        ("pause_until", {"reason": "x"}),
        ("clear_hints", {"reason": "x", "endpoint": "sibling"}),
        ("pause_until", {"until": "2026-03-01T12:00:00Z", "reason": "x", "endpoint": "sibling"}),
        ("pause_until", {"until": None, "reason": "x", "endpoint": "sibling"}),
        ("submit_analysis", {"reasoning": "x", "confidence": 1.5}),
        ("submit_analysis", {"reasoning": "x", "confidence": 1, "next_analysis_in_ms": 1}),
    ],
)
def test_unfit_arguments_are_refused_with_what_to_mend(tool: str, arguments: Any) -> None:
    with pytest.raises(BadArgumentsError) as refused:
        read_arguments(tool, json.dumps(arguments))
    assert 10 < len(str(refused.value)) <= 500


@pytest.mark.parametrize("text", ["", "{}", "null", "[", "1" * 5_000, "[" * 100_000, '{"a": 1, "a": 2}'])
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(BadArgumentsError):
        read_arguments("propose_interval", text)


@pytest.mark.parametrize(("tool", "field"), [("propose_next_time", "next_run_at"), ("pause_until", "until")])
def test_a_time_is_read_in_utc_or_refused(tool: str, field: str) -> None:
    read = read_arguments(tool, json.dumps({field: "2026-03-02T11:00:00+23:00", "reason": "x"}))
    assert getattr(read, field).isoformat() == "2026-03-01T12:00:00+00:00"
    for text in ("0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"):
        with pytest.raises(BadArgumentsError, match="out of range"):
            read_arguments(tool, json.dumps({field: text, "reason": "x"}))


def test_missing_arguments_of_a_tool_without_any_are_fine() -> None:
    assert read_arguments("get_latest_response", "").tool == "get_latest_response"


@pytest.mark.parametrize(
    ("wish", "bounds", "expected"),
    [
        (interval(2_000), FREE, (10_000, "interval clamped from 2 s")),
        (interval(30_000), FREE, (30_000, "")),
        (interval(5_000), replace(FREE, min_interval_ms=30_000), (30_000, "interval clamped from 5 s")),
        (interval(5_000), replace(FREE, min_interval_ms=1_000), (5_000, "")),
        (interval(7_200_000, 600), replace(FREE, max_interval_ms=1_800_000), (1_800_000, "interval clamped from 2 h")),
        (interval(2_000), replace(FREE, max_interval_ms=5_000), (5_000, "interval clamped from 2 s")),
        (interval(86_400_000), replace(FREE, usual_gap_ms=60_000), (480_000, "interval clamped from 1 d")),
        (interval(480_000), replace(FREE, usual_gap_ms=60_000), (480_000, "")),
        (interval(5_000), replace(FREE, usual_gap_ms=1_000), (10_000, "interval clamped from 5 s")),
        (interval(900_000), replace(FREE, usual_gap_ms=60_000, max_interval_ms=900_000), (900_000, "")),
        (interval(600_000), replace(FREE, usual_gap_ms=60_000, min_interval_ms=600_000), (600_000, "")),
    ],
)
def test_an_interval_is_brought_inside_the_bounds(wish: ProposeInterval, bounds: Bounds, expected: Any) -> None:
    bounded = bound(wish, bounds, NOW, speaker=Speaker.MODEL)
    assert isinstance(bounded, Bounded)
    assert isinstance(bounded.wish, ProposeInterval)
    assert (bounded.wish.interval_ms, bounded.note) == expected


@pytest.mark.parametrize(
    ("wish", "bounds"),
    [
        (interval(3_600_000, 60), FREE),
        (interval(30_000, 1), replace(FREE, min_interval_ms=60_000)),
        (interval(30_000), replace(FREE, runs_once=True)),
        (ProposeNextTime(next_run_at=NOW + timedelta(minutes=30), reason="x"), FREE),
        (ProposeNextTime(next_run_at=NOW, reason="x"), replace(FREE, min_interval_ms=3_600_000)),
        (PauseUntil(until=NOW, reason="x"), FREE),
        (PauseUntil(until=NOW + timedelta(hours=1), reason="x"), replace(FREE, pause_left=timedelta(0))),
        (PauseUntil(until=NOW + timedelta(hours=1), reason="x"), replace(FREE, pause_left=timedelta(hours=-1))),
    ],
)
def test_what_cannot_take_effect_is_refused(wish: Any, bounds: Bounds) -> None:
    refused = bound(wish, bounds, NOW, speaker=Speaker.MODEL)
    assert isinstance(refused, Refusal)
    assert refused.why.endswith(".")


def test_an_extra_run_is_not_sooner_than_the_floor_after_the_last_start() -> None:
    bounded = bound(ProposeNextTime(next_run_at=NOW - timedelta(days=1), reason="x"), FREE, NOW, speaker=Speaker.MODEL)
    assert isinstance(bounded, Bounded)
    assert isinstance(bounded.wish, ProposeNextTime)
    assert bounded.wish.next_run_at == NOW + timedelta(seconds=10)
    never_ran = bound(bounded.wish, replace(FREE, last_started_at=None), NOW, speaker=Speaker.MODEL)
    assert isinstance(never_ran, Bounded)
    assert never_ran.note == ""


@pytest.mark.parametrize(("left_hours", "hours"), [(48, 24), (3, 3)])
def test_a_pause_is_shortened_to_what_is_allowed(left_hours: int, hours: int) -> None:
    wish = PauseUntil(until=NOW + timedelta(days=300), reason="x")
    bounded = bound(wish, replace(FREE, pause_left=timedelta(hours=left_hours)), NOW, speaker=Speaker.MODEL)
    assert isinstance(bounded, Bounded)
    assert isinstance(bounded.wish, PauseUntil)
    assert bounded.wish.until == NOW + timedelta(hours=hours)
    assert bounded.note.startswith("shortened from")


@pytest.mark.parametrize(
    ("speaker", "granted"),
    [(Speaker.MODEL, False), (Speaker.HEURISTIC, False), (Speaker.RULE, True), (Speaker.PERSON, True)],
)
def test_weeks_allowance_of_pauses_limits_model_and_heuristics_only(speaker: Speaker, granted: bool) -> None:
    wish = PauseUntil(until=NOW + timedelta(hours=20), reason="x")
    bounded = bound(wish, replace(FREE, pause_left=timedelta(0)), NOW, speaker=speaker)
    assert isinstance(bounded, Bounded) is granted
    if isinstance(bounded, Bounded):
        assert (bounded.wish, bounded.note) == (wish, "")


def test_ending_a_pause_and_clearing_are_never_out_of_bounds() -> None:
    for wish in (PauseUntil(until=None, reason="x"), ClearHints(reason="x")):
        assert bound(wish, FREE, NOW, speaker=Speaker.MODEL) == Bounded(wish, None)


def test_a_reason_loses_what_does_not_show() -> None:
    bounded = bound(ClearHints(reason="a\u200b\u202e\U000e0041b"), FREE, NOW, speaker=Speaker.MODEL)
    assert isinstance(bounded, Bounded)
    assert bounded.wish.reason == "ab"


@given(
    st.integers(1_000, 86_400_000),
    st.integers(1, 1_440),
    st.none() | st.integers(1_000, 10**8),
    st.none() | st.integers(1_000, 10**8),
    st.none() | st.integers(1_000, 10**11),
)
def test_no_interval_ever_leaves_the_bounds(
    ask: int, ttl: int, low: int | None, high: int | None, gap: int | None
) -> None:
    bounds = replace(FREE, min_interval_ms=low, max_interval_ms=high, usual_gap_ms=gap)
    bounded = bound(interval(ask, ttl), bounds, NOW, speaker=Speaker.MODEL)
    if isinstance(bounded, Bounded):
        assert isinstance(bounded.wish, ProposeInterval)
        ceiling = 86_400_000 if high is None else high
        if high is None and gap is not None:
            ceiling = min(ceiling, max(8 * gap, 10_000 if low is None else low))
        assert min(10_000 if low is None else low, ceiling) <= bounded.wish.interval_ms <= ceiling
        assert bounded.wish.interval_ms < (bounded.ttl_ms or 0) <= 86_400_000


def test_the_schemas_tell_of_siblings_only_where_there_are_some() -> None:
    with_siblings, without = json.dumps(tool_schemas(siblings=True)), json.dumps(tool_schemas(siblings=False))
    assert "sibling" not in without
    assert "get_sibling_latest_responses" in with_siblings
    names = [schema["function"]["name"] for schema in tool_schemas(siblings=True)]
    assert names == list(TOOLS)
    targeted = [
        each["function"]["name"]
        for each in tool_schemas(siblings=True)
        if "endpoint" in each["function"]["parameters"]["properties"]
    ]
    assert targeted == ["propose_interval", "propose_next_time"]
    pause = next(schema for schema in tool_schemas(siblings=True) if schema["function"]["name"] == "pause_until")
    assert pause["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "reason": {"type": "string"},
            "until": {"type": ["string", "null"], "format": "date-time"},
        },
        "required": ["reason", "until"],
    }
