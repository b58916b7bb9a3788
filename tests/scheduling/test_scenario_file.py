"""Scenario files: what is read, and that every fault is named by its path, with a remedy."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduling.simulation import scenario_file
from scheduling.simulation.scenario import ClearHints, Edit, OutcomeModel, Pause, SetIntervalHint, SetOneShotHint
from scheduling.simulation.scenario_file import parse_scenario, read_scenario
from scheduling.simulation.scenario_reader import ScenarioError

START = datetime(2026, 3, 1, tzinfo=UTC)
SMALL: dict[str, Any] = {
    "version": 1,
    "start": "2026-03-01T00:00:00Z",
    "duration": "1d",
    "endpoints": [{"name": "a", "baseline_interval_ms": 60_000}],
}


def with_endpoint(**fields: Any) -> dict[str, Any]:
    """The small scenario, with fields of its endpoint; None takes one away."""
    endpoint = {**SMALL["endpoints"][0], **fields}
    return {**SMALL, "endpoints": [{name: value for name, value in endpoint.items() if value is not None}]}


def with_event(**fields: Any) -> dict[str, Any]:
    return {**SMALL, "events": [{"at": "+1h", "endpoint": "a", "do": "run_now", **fields}]}


def test_defaults_are_those_of_a_real_endpoint() -> None:
    scenario = parse_scenario(SMALL)
    (spec,) = scenario.endpoints
    row = spec.new_row()
    assert (scenario.start, scenario.end, scenario.seed, scenario.hint_floor_ms) == (
        START, START + timedelta(days=1), 0, 10_000,
    )  # fmt: skip
    assert (row.created_at, row.anchor_at, row.timezone, row.jitter_ms, row.retry_limit) == (START, START, "UTC", 0, 0)
    assert (row.status, row.job_status, spec.misfire_grace_ms) == ("active", "active", None)
    assert spec.outcome == OutcomeModel()


def test_instants_are_iso_in_any_zone_or_counted_from_the_start() -> None:
    read = parse_scenario(with_endpoint(created_at="-1d", starts_at="+1h30m", ends_at="2026-03-01T04:00:00+01:00"))
    (spec,) = read.endpoints
    assert spec.created_at == START - timedelta(days=1)
    assert spec.columns["starts_at"] == START + timedelta(minutes=90)
    assert spec.columns["ends_at"] == START + timedelta(hours=3)


def test_one_entry_stands_for_many_endpoints_spread_in_time() -> None:
    specs = parse_scenario(with_endpoint(count=3, spread="90s")).endpoints
    assert [spec.name for spec in specs] == ["a-1", "a-2", "a-3"]
    assert [spec.created_at - START for spec in specs] == [timedelta(seconds=seconds) for seconds in (0, 30, 60)]
    assert len({spec.id for spec in specs}) == 3


def test_outcome_is_read_whole() -> None:
    outcome = {"duration_ms": [5, 50], "pattern": "ok*2 fail", "failure": {"status_code": None, "retry_after": "9"}}
    (spec,) = parse_scenario(with_endpoint(outcome=outcome)).endpoints
    assert spec.outcome == OutcomeModel((5, 50), 0.0, (True, True, False), None, "9")


def test_events_are_read_whole() -> None:
    events = [
        {"do": "set_interval_hint", "interval_ms": 5_000, "ttl_ms": 9_000, "reason": "why", "author": "user"},
        {"do": "set_oneshot_hint", "next_run_in_ms": 5, "ttl_ms": 9},
        {"do": "clear_hints"},
        {"do": "pause", "until": "+2h"},
        {"do": "edit", "changes": {"baseline_cron": "0 9 * * *", "timezone": "Asia/Tokyo", "retry_limit": 2}},
    ]
    read = parse_scenario({**SMALL, "events": [{"at": "+1h", "endpoint": "a", **event} for event in events]}).events
    assert [event.change for event in read] == [
        SetIntervalHint(5_000, 9_000, "why", "user"),
        SetOneShotHint(5, 9),
        ClearHints(),
        Pause(START + timedelta(hours=2)),
        Edit({"retry_limit": 2, "baseline_cron": "0 9 * * *", "timezone": "Asia/Tokyo"}),
    ]
    assert {event.at for event in read} == {START + timedelta(hours=1)}


def test_real_id_gives_the_real_jitter() -> None:
    text = "0198c0de-0000-7000-8000-000000000001"
    assert str(parse_scenario(with_endpoint(id=text)).endpoints[0].id) == text


FAULTS: list[tuple[object, str, str]] = [
    ([], "", "JSON object"),
    ({}, "version", "Write 1"),
    ({**SMALL, "version": 2}, "version", "Write 1"),
    ({**SMALL, "version": True}, "version", "Write 1"),
    ({**SMALL, "start": "2026-03-01T00:00:00"}, "start", "with its zone"),
    ({**SMALL, "start": "+1h"}, "start", "with its zone"),
    ({**SMALL, "start": "1850-01-01T00:00:00Z"}, "start", "with its zone"),
    ({**SMALL, "duration": "1.5h"}, "duration", "as in"),
    ({**SMALL, "duration": 60}, "duration", "as in"),
    ({**SMALL, "duration": "0s"}, "duration", "as in"),
    ({**SMALL, "duration": "9999d"}, "duration", "at most 3660 days"),
    ({**SMALL, "duration": ""}, "duration", "as in"),
    ({**SMALL, "seed": -1}, "seed", "whole number"),
    ({**SMALL, "seed": True}, "seed", "whole number"),
    ({**SMALL, "name": ""}, "name", "Write a text"),
    ({**SMALL, "sed": 1}, "sed", "did you mean seed?"),
    ({**SMALL, "endpoints": []}, "endpoints", "at least one"),
    ({**SMALL, "endpoints": {}}, "endpoints", "list of objects"),
    ({**SMALL, "endpoints": [1]}, "endpoints[0]", "Write an object"),
    ({**SMALL, "endpoints": SMALL["endpoints"] * 2}, "endpoints[1].name", "taken"),
    ({**SMALL, "outages": [{"from": "+2h", "to": "+1h"}]}, "outages[0].to", "after it begins"),
    ({**SMALL, "outages": [{"from": "+2h"}]}, "outages[0].to", "missing"),
    (with_endpoint(name=None), "endpoints[0].name", "missing"),
    (with_endpoint(count=0), "endpoints[0].count", "whole number"),
    (with_endpoint(created_at="+2d"), "endpoints[0].created_at", "after the end"),
    (with_endpoint(spread="x"), "endpoints[0].spread", "Write a duration"),
    (with_endpoint(baseline_interval_ms=None), "endpoints[0]", "exactly one of"),
    (with_endpoint(baseline_cron="0 9 * * *"), "endpoints[0]", "exactly one of"),
    (with_endpoint(baseline_interval_ms=999), "endpoints[0].baseline_interval_ms", "from 1000"),
    (with_endpoint(baseline_interval_ms=6e4), "endpoints[0].baseline_interval_ms", "whole number"),
    (with_endpoint(baseline_interval_ms=None, baseline_cron="61 * * * *"), "endpoints[0].baseline_cron", "character 1"),
    (with_endpoint(timezone="europe/berlin"), "endpoints[0].timezone", "did you mean Europe/Berlin?"),
    (with_endpoint(baseline_interval_ms=None, run_once_at="-1h"), "endpoints[0].run_once_at", "give a later time"),
    (with_endpoint(starts_at="+2h", ends_at="+2h"), "endpoints[0].ends_at", "come after starts_at"),
    (with_endpoint(min_interval_ms=9_000, max_interval_ms=8_000), "endpoints[0].max_interval_ms", "not be below"),
    (with_endpoint(min_interval_ms=90_000), "endpoints[0].baseline_interval_ms", "outside its own bounds"),
    (with_endpoint(retry_limit=11), "endpoints[0].retry_limit", "from 0 to 10"),
    (with_endpoint(id="7"), "endpoints[0].id", "Write a UUID"),
    (with_endpoint(id=7), "endpoints[0].id", "Write a UUID"),
    (with_endpoint(id="7", count=2), "endpoints[0].id", "cannot share"),
    (with_endpoint(outcome=[]), "endpoints[0].outcome", "Write an object"),
    (with_endpoint(outcome={"duration_ms": [9, 1]}), "endpoints[0].outcome.duration_ms", "whole milliseconds"),
    (with_endpoint(outcome={"duration_ms": "9"}), "endpoints[0].outcome.duration_ms", "whole milliseconds"),
    (with_endpoint(outcome={"duration_ms": None}), "endpoints[0].outcome.duration_ms", "whole milliseconds"),
    (with_endpoint(outcome={"fail_probability": 2}), "endpoints[0].outcome.fail_probability", "from 0 to 1"),
    (with_endpoint(outcome={"pattern": "ok*2,fail"}), "endpoints[0].outcome.pattern", "ok*20 fail*3"),
    (with_endpoint(outcome={"pattern": ""}), "endpoints[0].outcome.pattern", "ok*20 fail*3"),
    (with_endpoint(outcome={"pattern": 5}), "endpoints[0].outcome.pattern", "ok*20 fail*3"),
    (
        with_endpoint(outcome={"pattern": "ok", "fail_probability": 0.1}),
        "endpoints[0].outcome.pattern",
        "nothing to chance",
    ),
    (with_endpoint(outcome={"failure": {"status_code": 99}}), "endpoints[0].outcome.failure.status_code", "from 100"),
    (with_event(endpoint="b"), "events[0].endpoint", "no such endpoint"),
    (with_event(at="+1d"), "events[0].at", "after the end"),
    (with_event(at="-1h"), "events[0].at", "before the endpoint is created"),
    (with_event(at=5), "events[0].at", "count from the start"),
    (with_event(do="runnow"), "events[0].do", "did you mean run_now?"),
    (with_event(do=7), "events[0].do", "Write one of"),
    (with_event(until="+2h"), "events[0].until", "not known"),
    (with_event(do="pause"), "events[0].until", "missing"),
    (with_event(do="set_interval_hint", interval_ms=5_000), "events[0].ttl_ms", "missing"),
    (with_event(do="set_oneshot_hint", next_run_in_ms=9, ttl_ms=9), "events[0].ttl_ms", "end before its run"),
    (with_event(do="edit", changes={}), "events[0].changes", "at least one column"),
    (
        with_event(do="edit", changes={"baseline_interval_ms": 60_000, "run_once_at": "+2h"}),
        "events[0].changes",
        "at most one of",
    ),
]


@pytest.mark.parametrize(("document", "path", "remedy"), FAULTS)
def test_fault_is_named_by_its_path_with_a_remedy(document: object, path: str, remedy: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(document)
    assert [fault.path for fault in caught.value.faults] == [path]
    assert remedy in str(caught.value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario({**with_event(do="x"), "seed": "1", "more": 1})
    assert {fault.path for fault in caught.value.faults} == {"seed", "events[0].do", "more"}


@pytest.mark.parametrize("text", ["", "{", '{"seed": NaN}', "[" * 100_000, "\ufeff{}"])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match="not JSON"):
        read_scenario(text)


def test_field_that_stands_twice_is_refused() -> None:
    with pytest.raises(ScenarioError, match="seed: This field stands twice"):
        read_scenario('{"version": 1, "seed": 1, "seed": 2}')


def test_more_endpoints_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario_file, "MAX_ENDPOINTS", 3)
    document = {**SMALL, "endpoints": [{"name": name, "count": 2, "baseline_interval_ms": 60_000} for name in "ab"]}
    with pytest.raises(ScenarioError, match=r"endpoints\[1\]\.count: A scenario has at most 3"):
        parse_scenario(document)


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "bench" / "scenarios").glob("*.json")), ids=str)
def test_shipped_scenario_is_named_like_its_file(file: Path) -> None:
    assert read_scenario(file.read_text()).name == file.stem
    assert json.loads(file.read_text())["description"]
