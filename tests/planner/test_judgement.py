"""Judgement by table: what becomes of a wish, whatever stands on its endpoint."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from planner.models import ProposalStatus
from planner.proposals.judgement import (
    InForce,
    Judged,
    Standing,
    Verdict,
    judge,
    may_clear,
    pointless_pause,
    says_the_same,
)
from planner.proposals.wishes import (
    Bounds,
    ClearHints,
    PauseUntil,
    ProposeInterval,
    ProposeNextTime,
    Refusal,
    Speaker,
    Wish,
    bound,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
BOUNDS = Bounds(None, None, 10_000, None, timedelta(hours=48))
STANDING = Standing("auto", True, None, None, None, None, BOUNDS, next_run_at=NOW + timedelta(minutes=5))
FASTER = ProposeInterval(interval_ms=30_000, reason="busy")
LOOK = ProposeNextTime(next_run_at=NOW + timedelta(minutes=2), reason="look")
REST = PauseUntil(until=NOW + HOUR, reason="rest")
RESUME = PauseUntil(until=None, reason="it is back")
CLEAR = ClearHints(reason="calm")


def by(speaker: Speaker, asked: Wish = FASTER, key: str | None = None, left: timedelta = HOUR) -> InForce:
    return InForce(speaker, key, asked.model_dump(mode="json"), NOW + left)


def judged(wish: Wish, speaker: Speaker = Speaker.MODEL, own_only: bool = False, **changes: Any) -> Judged:
    standing = replace(STANDING, **changes)
    return judge(wish, standing, speaker=speaker, key=None, own_only=own_only, now=NOW)


def test_verdicts_are_the_statuses_that_are_stored() -> None:
    assert {verdict.value for verdict in Verdict if verdict is not Verdict.NOTHING} <= set(ProposalStatus.values)


@pytest.mark.parametrize(
    ("wish", "standing", "verdict", "why"),
    [
        (FASTER, {}, "applied", ""),
        (FASTER, {"mode": "approve"}, "pending", ""),
        (FASTER, {"mode": "shadow"}, "shadow", ""),
        (FASTER, {"mode": "off"}, "nothing", "The planner is off"),
        (FASTER, {"active": False}, "nothing", "not active"),
        (FASTER, {"bounds": replace(BOUNDS, min_interval_ms=60_000)}, "applied", "interval clamped from 30 s"),
        (FASTER, {"bounds": replace(BOUNDS, min_interval_ms=7_200_000)}, "refused", "would end before its first run"),
        (FASTER, {"bounds": replace(BOUNDS, runs_once=True)}, "refused", "runs once"),
        (FASTER, {"hold_until": NOW + HOUR}, "held", "A person's word stands until 2030-01-01 13:00 UTC."),
        (FASTER, {"hold_until": NOW}, "applied", ""),
        (FASTER, {"hold_until": NOW + HOUR, "mode": "shadow"}, "held", "A person's word"),
        (FASTER, {"interval": by(Speaker.PERSON)}, "refused", "What the person set"),
        (FASTER, {"interval": by(Speaker.RULE)}, "refused", "What the rule set"),
        (FASTER, {"interval": by(Speaker.MODEL)}, "nothing", "in force already"),
        (FASTER, {"interval": by(Speaker.MODEL, left=timedelta(minutes=30))}, "applied", ""),
        (FASTER, {"interval": by(Speaker.HEURISTIC)}, "applied", ""),
        (FASTER, {"oneshot": by(Speaker.PERSON), "pause": by(Speaker.PERSON)}, "applied", ""),
        (LOOK, {}, "applied", ""),
        (LOOK, {"oneshot": by(Speaker.RULE)}, "refused", "What the rule set"),
        (LOOK, {"oneshot": by(Speaker.MODEL, LOOK)}, "nothing", "in force already"),
        (REST, {}, "applied", ""),
        (REST, {"pause": by(Speaker.PERSON)}, "refused", "What the person set"),
        (REST, {"pause": by(Speaker.MODEL, REST)}, "nothing", "in force already"),
        (REST, {"pause": by(Speaker.MODEL, left=2 * HOUR)}, "applied", ""),
        (REST, {"next_run_at": NOW + 2 * HOUR}, "nothing", "end before the next run at 14:00 UTC and defer nothing"),
        (REST, {"next_run_at": NOW + HOUR}, "nothing", "defer nothing"),
        (REST, {"next_run_at": None}, "nothing", "Nothing is due"),
        (REST, {"next_run_at": NOW + 2 * HOUR, "mode": "approve"}, "nothing", "defer nothing"),
        (REST, {"bounds": replace(BOUNDS, pause_left=timedelta(minutes=2))}, "nothing", "defer nothing"),
        (REST, {"bounds": replace(BOUNDS, pause_left=timedelta(0))}, "refused", "48 h within a week"),
        (RESUME, {}, "nothing", "no pause to end"),
        (RESUME, {"pause": by(Speaker.MODEL)}, "applied", ""),
        (RESUME, {"pause": by(Speaker.PERSON)}, "refused", "What the person set"),
        (CLEAR, {}, "nothing", "no hint that you may clear"),
        (CLEAR, {"interval": by(Speaker.MODEL)}, "applied", ""),
        (CLEAR, {"oneshot": by(Speaker.HEURISTIC)}, "applied", ""),
        (CLEAR, {"interval": by(Speaker.RULE), "oneshot": by(Speaker.PERSON)}, "nothing", "no hint that you may clear"),
        (CLEAR, {"interval": by(Speaker.MODEL), "hold_until": NOW + HOUR}, "held", "A person's word"),
    ],
)
def test_what_becomes_of_a_wish(wish: Wish, standing: dict[str, Any], verdict: str, why: str) -> None:
    found = judged(wish, **standing)
    assert found.verdict.value == verdict
    assert why in found.why
    assert bool(found.why) == bool(why)
    stored = found.verdict in (Verdict.APPLIED, Verdict.PENDING, Verdict.SHADOW, Verdict.HELD)
    refused_by_bounds = isinstance(
        bound(wish, replace(STANDING, **standing).bounds, NOW, speaker=Speaker.MODEL), Refusal
    )
    assert (found.bounded is not None) == (stored or (found.verdict is Verdict.REFUSED and not refused_by_bounds))


USUAL = {"bounds": replace(BOUNDS, usual_gap_ms=300_000)}
IDLE = ProposeInterval(interval_ms=600_000, reason="idle")
LATER = ProposeNextTime(next_run_at=NOW + timedelta(minutes=20), reason="later")
CALMER = ProposeInterval(interval_ms=240_000, reason="calmer")


@pytest.mark.parametrize(
    ("wish", "standing", "why"),
    [
        (FASTER, USUAL, None),
        (LOOK, USUAL, None),
        (LOOK, USUAL | {"oneshot": by(Speaker.MODEL, LATER)}, None),
        (CALMER, USUAL | {"interval": by(Speaker.HEURISTIC, IDLE)}, None),
        (ProposeInterval(interval_ms=300_000, reason="calm"), USUAL, "only be made to run sooner; it runs every 5 min"),
        (FASTER, {"bounds": replace(BOUNDS, usual_gap_ms=20_000)}, "it runs every 20 s"),
        (FASTER, {"bounds": replace(BOUNDS, usual_gap_ms=60_000, min_interval_ms=60_000)}, "it runs every 1 min"),
        (CALMER, USUAL | {"interval": by(Speaker.MODEL)}, "it runs every 30 s"),
        (FASTER, {}, "it runs at its own time"),
        (
            ProposeInterval(interval_ms=29_000, ttl_minutes=1, reason="brief"),
            USUAL | {"interval": by(Speaker.MODEL)},
            "lasts longer, until 13:00 UTC",
        ),
        (LATER, USUAL | {"oneshot": by(Speaker.MODEL, LOOK)}, "no later than that already"),
        (REST, USUAL, "only be made to run sooner"),
        (RESUME, USUAL | {"pause": by(Speaker.MODEL)}, "only be made to run sooner"),
        (CLEAR, USUAL | {"interval": by(Speaker.MODEL)}, "only be made to run sooner"),
    ],
)
def test_a_siblings_word_only_makes_it_run_sooner(wish: Wish, standing: dict[str, Any], why: str | None) -> None:
    word: dict[str, Any] = {"speaker": Speaker.MODEL, "key": None, "own_only": False, "now": NOW}
    found = judge(wish, replace(STANDING, **standing), **word, from_sibling=True)
    assert found.verdict is (Verdict.APPLIED if why is None else Verdict.REFUSED)
    assert (why or "") in found.why
    assert judge(wish, replace(STANDING, **standing), **word).verdict is Verdict.APPLIED


def test_precedence_is_person_then_rule_then_model_then_heuristic() -> None:
    order = [Speaker.PERSON, Speaker.RULE, Speaker.MODEL, Speaker.HEURISTIC]
    slower = ProposeInterval(interval_ms=60_000, reason="calm")
    for place, standing in enumerate(order):
        for rank, speaker in enumerate(order):
            found = judged(slower, speaker, interval=by(standing))
            assert (found.verdict is Verdict.APPLIED) == (rank <= place), (standing, speaker)


@pytest.mark.parametrize(
    ("hint", "own_only", "cleared_by"),
    [
        (None, False, set()),
        (Speaker.PERSON, False, set()),
        (Speaker.RULE, False, {Speaker.PERSON, Speaker.RULE}),
        (Speaker.MODEL, False, {Speaker.PERSON, Speaker.RULE, Speaker.MODEL}),
        (Speaker.HEURISTIC, False, set(Speaker)),
        (Speaker.MODEL, True, {Speaker.MODEL}),
    ],
)
def test_who_may_clear_what(hint: Speaker | None, own_only: bool, cleared_by: set[Speaker]) -> None:
    in_force = by(hint) if hint is not None else None
    assert {speaker for speaker in Speaker if may_clear(in_force, speaker, own_only)} == cleared_by


@pytest.mark.parametrize(
    ("hint", "wish", "same"),
    [
        (None, FASTER, False),
        (by(Speaker.RULE, key="busy"), FASTER, True),
        (by(Speaker.RULE, key="other"), FASTER, False),
        (by(Speaker.MODEL, key="busy"), FASTER, False),
        (by(Speaker.RULE, ProposeInterval(interval_ms=60_000, reason="x"), key="busy"), FASTER, False),
        (by(Speaker.RULE, key="busy", left=timedelta(minutes=30)), FASTER, False),
        (by(Speaker.RULE, key="busy", left=timedelta(minutes=30, seconds=1)), FASTER, True),
        (by(Speaker.RULE, LOOK, key="busy"), LOOK, True),
        (by(Speaker.RULE, LOOK, key="busy"), LOOK.model_copy(update={"next_run_at": NOW}), False),
        (by(Speaker.RULE, REST, key="busy", left=timedelta(minutes=60, seconds=59)), REST, True),
        (by(Speaker.RULE, REST, key="busy", left=timedelta(minutes=61)), REST, False),
        (by(Speaker.RULE, REST, key="busy"), RESUME, False),
        (by(Speaker.RULE, key="busy"), CLEAR, False),
    ],
)
def test_whether_a_hint_says_the_same_already(hint: InForce | None, wish: Wish, same: bool) -> None:
    assert says_the_same(hint, Speaker.RULE, "busy", wish, NOW) is same


def test_only_a_pause_can_be_pointless() -> None:
    assert pointless_pause(FASTER, None, NOW) is None
    assert pointless_pause(RESUME, None, NOW) is None
