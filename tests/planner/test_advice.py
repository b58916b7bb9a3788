"""What rules and heuristics advise, by table and over many runs: no database, no clock."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from jobs.conditions import Observation
from jobs.rules import parse_rules
from planner.proposals.judgement import InForce
from planner.proposals.wishes import MAX_REASON, ClearHints, PauseUntil, ProposeInterval, ProposeNextTime, Speaker
from planner.rules.advice import MOST_TURNS, Advice, SeenRun, Watched, advise
from planner.rules.changetimes import ChangeTimes
from planner.rules.memory import Memory, Standing
from scheduling.exchange.jsonpath import MISSING

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
BUSY = {
    "name": "busy",
    "when": {"path": "$.depth", "op": ">", "value": 100},
    "then": {"interval_ms": 30_000, "ttl_minutes": 60},
}
CALM = {"name": "calm", "when": {"path": "$.depth", "op": "==", "value": 0}, "then": {"clear": True}}
SLOWER = {
    "name": "slower",
    "when": {"path": "$.depth", "op": "<", "value": 50},
    "then": {"interval_ms": 600_000, "ttl_minutes": 60},
}
NOT_YET = 'the until of "degraded" does not hold yet: 1 of the last 3 calls failed (33.3 %), waiting for below 10 %'
NOT_YET += " over 3 runs"
DEGRADED = {
    "name": "degraded",
    "when": {"error_rate": {"op": ">=", "value": 0.5, "runs": 2}},
    "until": {"error_rate": {"op": "<", "value": 0.1, "runs": 3}},
    "then": {"interval_ms": 30_000},
}


def seen(depth: int | None = None, *, failed: bool = False, status: int = 200, **fields: Any) -> SeenRun:
    document = {} if depth is None else {"depth": depth}
    return SeenRun(NOW, Observation(failed, status, 50.0, document, f"{depth}"), **fields)


def hint(speaker: Speaker, key: str | None, interval_ms: int = 30_000, left: timedelta = HOUR) -> InForce:
    return InForce(speaker, key, {"interval_ms": interval_ms, "reason": "depth is 412"}, NOW + left)


def watched(rules: Sequence[Any], *runs: SeenRun, **fields: Any) -> Watched:
    values: dict[str, Any] = {
        "endpoint_id": UUID(int=1),
        "name": "queue",
        "interval_ms": 300_000,
        "max_interval_ms": None,
        "next_run_at": NOW + timedelta(minutes=5),
        "rules": parse_rules(list(rules)),
        "interval_hint": None,
        "oneshot_hint": None,
        "pause": None,
        "runs": runs,
    }
    return Watched(**{**values, **fields})


def advised(rules: Sequence[Any], *runs: SeenRun, heuristics: bool = True, **fields: Any) -> list[Advice]:
    return advise(watched(rules, *runs, **fields), NOW, heuristics=heuristics)


FLAPS = {
    **{(Speaker.RULE, key): MOST_TURNS for key in ("busy", "slower", "degraded")},
    (Speaker.HEURISTIC, "unchanged"): MOST_TURNS,
}


@pytest.mark.parametrize(
    ("rules", "depths", "fields", "wanted"),
    [
        ([BUSY], [412], {}, "30000"),
        ([BUSY], [3], {}, None),
        ([BUSY], [412], {"interval_hint": hint(Speaker.RULE, "busy")}, None),
        ([BUSY], [412], {"interval_hint": hint(Speaker.RULE, "busy", left=HOUR / 2)}, "30000"),
        ([BUSY], [412], {"interval_hint": hint(Speaker.MODEL, None)}, "30000"),
        ([BUSY], [3, 412], {"interval_hint": hint(Speaker.RULE, "busy")}, None),
        ([BUSY], [3], {"interval_hint": hint(Speaker.RULE, "busy")}, None),
        ([BUSY], [3, 3], {"interval_hint": hint(Speaker.RULE, "busy")}, "clear own"),
        ([], [3, 3], {"interval_hint": hint(Speaker.RULE, "busy")}, "clear own"),
        ([BUSY], [3, 3], {"interval_hint": hint(Speaker.MODEL, None)}, None),
        ([BUSY], [3, 3], {"interval_hint": hint(Speaker.RULE, "busy"), "turns": FLAPS}, None),
        ([BUSY, CALM], [0], {"interval_hint": hint(Speaker.RULE, "busy")}, "clear"),
        ([BUSY, CALM], [0], {"interval_hint": hint(Speaker.MODEL, None)}, "clear"),
        ([BUSY, CALM], [0], {"oneshot_hint": hint(Speaker.HEURISTIC, None)}, "clear"),
        ([BUSY, CALM], [0], {"interval_hint": hint(Speaker.PERSON, None)}, None),
        ([BUSY, CALM], [0], {}, None),
        ([BUSY, CALM], [0], {"interval_hint": hint(Speaker.RULE, "busy"), "turns": FLAPS}, None),
        ([BUSY, CALM], [0], {"interval_hint": hint(Speaker.MODEL, None), "turns": FLAPS}, "clear"),
        ([BUSY, SLOWER], [10], {"interval_hint": hint(Speaker.RULE, "busy")}, "600000"),
        ([BUSY, SLOWER], [10], {"interval_hint": hint(Speaker.RULE, "busy"), "turns": FLAPS}, None),
        ([BUSY, SLOWER], [412], {"interval_hint": hint(Speaker.RULE, "slower", 600_000), "turns": FLAPS}, "30000"),
        ([BUSY], [412], {"interval_hint": hint(Speaker.RULE, "busy", left=HOUR / 2), "turns": FLAPS}, "30000"),
    ],
)
def test_what_the_rules_want_of_the_interval(
    rules: list[Any], depths: list[int], fields: dict[str, Any], wanted: str | None
) -> None:
    found = advised(rules, *(seen(depth) for depth in depths), **fields)
    words = [
        str(advice.wish.interval_ms)
        if isinstance(advice.wish, ProposeInterval)
        else f"clear{' own' if advice.own_only else ''}"
        for advice in found
    ]
    assert words == ([wanted] if wanted else [])
    assert all(advice.speaker is Speaker.RULE for advice in found)


@pytest.mark.parametrize(
    ("failed", "left", "wanted"),
    [
        ([False, False, True], HOUR, None),
        ([False, False, True], HOUR / 2, NOT_YET),
        ([False, False, False], HOUR, 'the until of "degraded" holds: 0 of the last 3 calls failed (0 %), below 10 %'),
        ([True, True, False], HOUR / 2, "2 of the last 2 calls failed (100 %), at least 50 %"),
    ],
)
def test_a_rule_with_until_keeps_its_hint_in_the_band_and_drops_it_at_once_after(
    failed: list[bool], left: timedelta, wanted: str | None
) -> None:
    runs = [seen(failed=bad) for bad in failed]
    found = advised([DEGRADED], *runs, interval_hint=hint(Speaker.RULE, "degraded", left=left))
    assert [advice.wish.reason for advice in found] == ([wanted] if wanted else [])


def test_a_rule_with_until_that_flaps_keeps_its_hint() -> None:
    runs = [seen(), seen(), seen()]
    in_force = hint(Speaker.RULE, "degraded")
    assert advised([DEGRADED], *runs, interval_hint=in_force, turns=FLAPS) == []


def test_a_rule_with_until_does_not_begin_in_the_band() -> None:
    assert advised([DEGRADED], seen(), seen(), seen(failed=True)) == []


def away(*, status: int | None = 503) -> SeenRun:
    """A failed run whose body says nothing of what the rule watches."""
    return SeenRun(NOW, Observation(True, status, 50.0, MISSING, None))


@pytest.mark.parametrize(
    ("runs", "dropped"),
    [
        ([away(), away(), away(), seen(900)], False),
        ([away(status=None)] * 9, False),
        ([seen(3), away(), seen(900)], False),
        ([seen(3), seen(3), away()], True),
        ([away(), seen(3), seen(3)], False),
        ([seen(3, failed=True), seen(3, failed=True)], True),
    ],
)
def test_a_failed_run_that_tells_nothing_drops_no_hint(runs: list[SeenRun], dropped: bool) -> None:
    found = advised([BUSY], *runs, interval_hint=hint(Speaker.RULE, "busy"))
    assert [type(advice.wish) for advice in found] == ([ClearHints] if dropped else [])


def test_a_failed_run_fires_no_rule_that_looks_at_the_body() -> None:
    rules = [
        BUSY,
        {"when": {"path": "$.depth", "op": "exists", "value": False}, "then": {"run_sibling": "recover"}},
        {"when": {"path": "$.depth", "op": "<", "value": 1}, "then": {"clear": True}},
        {"when": {"path": "$.depth", "op": "!=", "value": 1}, "then": {"pause_minutes": 30}},
    ]
    assert advised(rules, away(), away(), interval_hint=hint(Speaker.MODEL, None)) == []


def test_a_hint_of_a_rule_that_is_gone_is_dropped_by_failed_runs_too() -> None:
    found = advised([BUSY], away(), away(), interval_hint=hint(Speaker.RULE, "an older one"))
    assert [type(advice.wish) for advice in found] == [ClearHints]


def test_a_failed_run_between_two_matches_makes_no_new_match() -> None:
    rule = {"when": {"path": "$.depth", "op": ">", "value": 100}, "then": {"run_sibling": "recover"}}
    began = NOW - HOUR
    memory = watched([rule], replace(seen(900), finished_at=began), seen(3)).remembered()
    for between, since in ((away(), began), (seen(3), NOW)):
        (found,) = advised([rule], seen(900), between, seen(900), unseen=2, memory=memory)
        assert found.since == since


def test_a_long_reason_is_cut() -> None:
    parts = [{"path": f"$.{'a' * 60}{number}", "op": "exists", "value": False} for number in range(19)]
    found = advised([{"when": {"all": parts}, "then": {"interval_ms": 30_000}}], seen())
    assert len(found[0].wish.reason) == MAX_REASON


REST = {"name": "rest", "when": {"status": {"op": "==", "value": 500}}, "then": {"pause_minutes": 30}}


def pausing(speaker: Speaker, left: timedelta) -> InForce:
    return InForce(speaker, None, {}, NOW + left)


@pytest.mark.parametrize(
    ("fields", "pauses"),
    [
        ({}, True),
        ({"next_run_at": NOW + timedelta(minutes=30)}, False),
        ({"next_run_at": None}, False),
        ({"pause": pausing(Speaker.RULE, HOUR / 4)}, False),
        ({"pause": pausing(Speaker.PERSON, HOUR / 4)}, False),
        ({"pause": pausing(Speaker.MODEL, HOUR / 4), "next_run_at": NOW + HOUR / 4}, True),
        ({"pause": pausing(Speaker.MODEL, HOUR), "next_run_at": NOW + HOUR / 4}, False),
    ],
)
def test_a_rule_pauses_where_that_defers_the_next_run(fields: dict[str, Any], pauses: bool) -> None:
    found = advised([REST], seen(status=500), **fields)
    assert [advice.wish for advice in found] == (
        [PauseUntil(until=NOW + HOUR / 2, reason="the status is 500")] if pauses else []
    )


def test_a_rule_for_a_sibling_tells_since_when_it_matches_and_of_whom_it_speaks() -> None:
    rule = {"when": {"failing_for": 1}, "then": {"run_sibling": "recover", "every_minutes": 5}}
    for before, since in ((seen(), NOW), (seen(failed=True), None)):
        (found,) = advised([rule], seen(failed=True), before)
        assert isinstance(found.wish, ProposeNextTime)
        assert (found.wish.endpoint, found.since, found.again_after) == ("recover", since, timedelta(minutes=5))
        assert found.wish.reason == 'the last call failed (of endpoint "queue")'


@pytest.mark.parametrize(
    ("since", "again_after", "last_at", "asked"),
    [
        (NOW, None, None, False),
        (NOW, None, NOW - HOUR, False),
        (NOW, None, NOW, True),
        (NOW - 9 * HOUR, None, NOW - 8 * HOUR, True),
        (NOW - 9 * HOUR, HOUR, NOW - 8 * HOUR, False),
        (NOW - 9 * HOUR, HOUR, NOW - HOUR / 2, True),
        (None, None, NOW - 99 * HOUR, True),
        (None, HOUR, NOW - 99 * HOUR, False),
    ],
)
def test_a_sibling_is_asked_once_for_a_change_and_again_only_where_that_was_asked_for(
    since: datetime | None, again_after: timedelta | None, last_at: datetime | None, asked: bool
) -> None:
    wish = ProposeNextTime(next_run_at=NOW, reason="x")
    advice = Advice(Speaker.RULE, wish, since=since, again_after=again_after)
    assert advice.asked_already(last_at, NOW) is asked


STRONG = {
    "name": "strong",
    "when": {"path": "$.depth", "op": ">", "value": 1_000},
    "until": {"path": "$.depth", "op": "<", "value": 500},
    "then": {"interval_ms": 30_000},
}
WEAK = {
    "name": "weak",
    "when": {"path": "$.depth", "op": ">", "value": 100},
    "until": {"path": "$.depth", "op": "<", "value": 50},
    "then": {"interval_ms": 60_000},
}


def followed(rules: Sequence[Any], depths: Sequence[int]) -> list[str | None]:
    """Which rule's hint is in force after each run, with the memory stored and read again after each pass."""
    memory: Memory | None = None
    in_force: InForce | None = None
    names: list[str | None] = []
    for number in range(len(depths)):
        runs = [
            SeenRun(NOW + back * timedelta(minutes=1), seen(depths[back]).observation) for back in range(number, -1, -1)
        ]
        item = watched(rules, *runs, interval_hint=in_force, memory=memory, next_run_at=None)
        for advice in advise(item, NOW, heuristics=False):
            if isinstance(advice.wish, ClearHints):
                in_force = None
            elif isinstance(advice.wish, ProposeInterval):
                in_force = InForce(Speaker.RULE, advice.key, advice.wish.model_dump(mode="json"), NOW + HOUR)
        memory = Memory.from_json(json.loads(json.dumps(item.remembered().to_json())))
        names.append(in_force.key if in_force is not None else None)
    return names


@pytest.mark.parametrize(
    ("rules", "depths", "names"),
    [
        ([STRONG, WEAK], [0, 1500, 80, 40], [None, "strong", "weak", None]),
        ([STRONG, WEAK], [0, 150, 1500, 700, 80, 80, 40], [None, "weak", *["strong"] * 2, "weak", "weak", None]),
        ([STRONG, WEAK], [0, 1500, 300, 20], [None, "strong", "weak", None]),
        ([STRONG, WEAK], [0, 1500, 20, 80], [None, "strong", None, None]),
        ([WEAK, STRONG], [0, 1500, 80, 40], [None, "weak", "weak", None]),
        ([STRONG, BUSY], [0, 1500, 300, 3, 3], [None, "strong", "busy", "busy", None]),
        ([STRONG, BUSY], [0, 1500, 3], [None, "strong", None]),
    ],
)
def test_a_weaker_rule_that_still_holds_takes_over_when_the_stronger_one_ends(
    rules: list[Any], depths: list[int], names: list[str | None]
) -> None:
    assert followed(rules, depths) == names


def test_a_person_who_clears_the_hint_ends_what_a_rule_remembers() -> None:
    runs = [seen(80), seen(1500)]
    memory = Memory({"weak": Standing("weak", "x", NOW), "strong": Standing("strong", "y", NOW)})
    assert advised([STRONG, WEAK], *runs, memory=memory, heuristics=False) == []


def test_a_rule_that_flapped_does_not_hold_up_another_one() -> None:
    turns = {(Speaker.RULE, "busy"): MOST_TURNS}
    found = advised([WEAK], seen(3), interval_hint=hint(Speaker.RULE, "weak"), turns=turns)
    assert [type(advice.wish) for advice in found] == [ClearHints]


SAME = [seen(7)] * 11
SLOW_WORDS = "the response did not change for 10 runs, and usually does not now"
KNOWN = Memory({}, (), ChangeTimes(NOW - timedelta(days=20), "7", NOW - HOUR))
SLOW = hint(Speaker.HEURISTIC, "unchanged", 600_000)


@pytest.mark.parametrize(
    ("runs", "fields", "wanted"),
    [
        (SAME, {}, ProposeInterval(interval_ms=600_000, reason=SLOW_WORDS)),
        (SAME, {"max_interval_ms": None}, None),
        (SAME, {"interval_ms": 46_800_000, "max_interval_ms": 86_400_000}, None),
        (SAME, {"interval_hint": SLOW}, None),
        (SAME, {"interval_hint": hint(Speaker.MODEL, None)}, None),
        (SAME, {"turns": FLAPS}, None),
        (SAME, {"overruled": True}, None),
        ([seen(8), *SAME], {"interval_hint": SLOW, "overruled": True}, ClearHints(reason="the response changed")),
        (SAME, {"turns": {(Speaker.RULE, "x"): 9, (Speaker.HEURISTIC, "unchanged"): MOST_TURNS - 1}}, "slower"),
        (SAME, {"memory": None}, None),
        (SAME, {"memory": Memory({}, (), ChangeTimes(NOW - timedelta(days=13), "7", NOW - HOUR))}, None),
        (
            SAME,
            {
                "memory": Memory(
                    {}, (), ChangeTimes(NOW - timedelta(days=20), "7", NOW - HOUR, days={26: NOW.toordinal() - 1})
                )
            },
            None,
        ),
        (SAME, {"max_interval_ms": 400_000}, ProposeInterval(interval_ms=400_000, reason=SLOW_WORDS)),
        ([seen(8), *SAME], {"interval_hint": SLOW}, ClearHints(reason="the response changed")),
        ([seen(8), *SAME], {"interval_hint": SLOW, "turns": FLAPS}, ClearHints(reason="the response changed")),
        ([seen(7, failed=True), *SAME], {"interval_hint": SLOW}, ClearHints(reason="the last call failed")),
        ([seen(8), *SAME], {}, None),
    ],
)
def test_what_never_changes_is_slowed_down_and_taken_back(
    runs: list[SeenRun], fields: dict[str, Any], wanted: Any
) -> None:
    found = advised([], *runs, **{"max_interval_ms": 900_000, "memory": KNOWN, **fields})
    if wanted == "slower":
        assert isinstance(found[0].wish, ProposeInterval)
    else:
        assert [advice.wish for advice in found] == ([wanted] if wanted else [])
    assert all((advice.speaker, advice.key) == (Speaker.HEURISTIC, "unchanged") for advice in found)


def test_heuristics_are_silent_where_a_rule_spoke_or_they_are_switched_off() -> None:
    assert advised([], *SAME, max_interval_ms=900_000, heuristics=False) == []
    runs = [seen(412)] * 11
    (found,) = advised([BUSY], *runs, max_interval_ms=900_000)
    assert found.speaker is Speaker.RULE


def test_an_oscillating_value_turns_the_schedule_about_a_few_times_an_hour_and_not_more() -> None:
    """Four runs above the limit, four below, every 30 s for four hours."""
    in_force: InForce | None = None
    turned: list[datetime] = []
    wished = 0
    for number in range(480):
        now = NOW + number * timedelta(seconds=30)
        runs = [seen(412 if (number - back) // 4 % 2 == 0 else 3) for back in range(2)]
        if in_force is not None and in_force.expires_at <= now:
            in_force = None
        turns = {(Speaker.RULE, "busy"): sum(at > now - HOUR for at in turned)}
        for advice in advise(watched([BUSY], *runs, interval_hint=in_force, turns=turns), now, heuristics=True):
            wished += 1
            if isinstance(advice.wish, ClearHints):
                in_force = None
                turned.append(now)
            else:
                in_force = InForce(Speaker.RULE, "busy", advice.wish.model_dump(mode="json"), now + HOUR)
    assert all(sum(now - HOUR < at <= now for at in turned) <= MOST_TURNS for now in turned)
    assert len(turned) <= 4 * MOST_TURNS
    assert wished <= 4 * (2 * MOST_TURNS + 2)
