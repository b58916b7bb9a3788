"""What holds for every schedule, whatever its hints, pauses, failures and state."""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from scheduling.cron.cadence import parse_cadence
from scheduling.plan.decision import Decision, Source, Verdict
from scheduling.plan.facts import (
    MODEL,
    PLANNER,
    AskedWait,
    EndpointFacts,
    IntervalHint,
    OneShotHint,
    Overdue,
    Retry,
)
from scheduling.plan.governor import DEFAULT_MAX_HINT_MS, PERSON_HINT_FLOOR_MS, plan_next_run, planner_floor_ms
from tests.support.schedules import DAY, HOUR, MINUTE, NOON, SECOND, from_noon

TICK = timedelta(microseconds=1)
MILLISECOND = timedelta(milliseconds=1)
HINT_SOURCES = {Source.AI_INTERVAL, Source.CLAMPED_MIN, Source.CLAMPED_MAX}
CRONS = [
    parse_cadence("* * * * *"),
    parse_cadence("*/5 * * * *"),
    parse_cadence("*/30 * * * *"),
    parse_cadence("0 * * * *"),
    parse_cadence("0 9 * * MON-FRI", "Europe/Berlin"),
    parse_cadence("30 2 * * *", "America/New_York"),
]

# Round durations meet each other at the same instants, where ties and boundaries lie; odd ones try all the rest.
ROUND = [0, SECOND, 2 * SECOND, 10 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, HOUR, DAY]
spans = st.sampled_from(ROUND) | st.integers(0, 2 * DAY)
durations = (st.sampled_from(ROUND[1:]) | st.integers(SECOND, 2 * DAY)).filter(bool)
past = spans.map(lambda ms: NOON - ms * MILLISECOND)
future = spans.map(lambda ms: NOON + ms * MILLISECOND)
around = past | future
authors = st.sampled_from([MODEL, PLANNER, 'the rule "busy"'])


@st.composite
def schedules(draw: st.DrawFn, kinds: str = "interval cron once") -> EndpointFacts:
    """An endpoint as it may stand in the database at noon; nothing overdue."""
    created_at = draw(past)
    last_slot_at = draw(st.none() | spans.map(lambda ms: max(created_at, NOON - ms * MILLISECOND)))
    last_started_at = None
    if last_slot_at is not None:
        last_started_at = last_slot_at + draw(st.sampled_from([0, 1, 700])) * MILLISECOND
        last_started_at = min(last_started_at, NOON)
    facts: dict[str, Any] = {
        "created_at": created_at,
        "anchor_at": created_at,
        "last_slot_at": last_slot_at,
        "last_started_at": last_started_at,
        "failure_count": draw(st.integers(0, 7)),
        "jitter": draw(st.sampled_from([0, 0, 0, 1, SECOND, 45 * SECOND, 10 * MINUTE])) * MILLISECOND,
        "starts_at": draw(st.none() | around),
        "paused_until": draw(st.none() | around),
        "manual_run_at": draw(st.none() | st.none() | past),
    }
    if facts["failure_count"] and last_slot_at is not None and draw(st.booleans()):
        facts["failing_since"] = last_slot_at - draw(spans) * MILLISECOND
    facts["recovery_check_ms"] = draw(st.none() | durations)
    if draw(st.booleans()):
        since = max(draw(past), last_started_at or created_at)
        facts["server_wait"] = AskedWait(since, since + draw(durations) * MILLISECOND)
    kind = draw(st.sampled_from(kinds.split()))
    if kind == "interval":
        facts["interval_ms"] = draw(durations)
    elif kind == "cron":
        facts["cadence"] = draw(st.sampled_from(CRONS))
    else:
        facts["run_once_at"] = draw(around)
    minimum, maximum = draw(st.none() | durations), draw(st.none() | durations)
    if minimum is not None and maximum is not None:
        minimum, maximum = sorted((minimum, maximum))
    facts |= {"min_interval_ms": minimum, "max_interval_ms": maximum}
    if (ends_at := draw(st.none() | around)) is not None and (not facts["starts_at"] or facts["starts_at"] < ends_at):
        facts["ends_at"] = ends_at
    if draw(st.booleans()):
        hint = IntervalHint(draw(durations), draw(around), by_person=draw(st.booleans()), author=draw(authors))
        facts["interval_hint"] = hint
    if draw(st.booleans()):
        facts["oneshot_hint"] = OneShotHint(draw(around), draw(around), author=draw(authors))
    facts["pause_author"] = draw(authors)
    if last_slot_at is not None and draw(st.booleans()):
        facts["retry"] = Retry(max(draw(around), last_slot_at), last_slot_at, attempt=2, limit=3)
    return EndpointFacts(**facts)


@st.composite
def zoned(draw: st.DrawFn) -> EndpointFacts:
    """The same with an interval of whole days on the clock of a zone, from its start on."""
    facts = draw(schedules("interval"))
    begin = draw(around) - timedelta(days=draw(st.sampled_from([0, 1, 27])))
    zone = draw(st.sampled_from(["Europe/Berlin", "America/New_York", "Pacific/Apia"]))
    ends_at = facts.ends_at if facts.ends_at is not None and facts.ends_at > begin else None
    days = {"interval_ms": draw(st.sampled_from([1, 2, 7])) * DAY, "starts_at": begin, "anchor_at": begin}
    return replace(facts, **days, ends_at=ends_at, timezone=zone)


def applied(facts: EndpointFacts, decision: Decision) -> EndpointFacts:
    """The row once the plan is written: a dropped retry is gone."""
    return replace(facts, retry=None) if decision.drop_retry else facts


def unclaimed(facts: EndpointFacts, decision: Decision) -> EndpointFacts:
    """The row once the plan is written and its time has come, with no worker free to claim it."""
    assert decision.run_at is not None
    assert decision.slot_at is not None
    assert decision.source is not None
    return replace(applied(facts, decision), overdue=Overdue(decision.slot_at, decision.source, decision.run_at))


def served(facts: EndpointFacts, decision: Decision, *, failed: bool = False) -> EndpointFacts:
    """The row once the planned run has ended: what the worker writes at claim and settle."""
    assert decision.run_at is not None
    assert decision.slot_at is not None
    facts = replace(
        applied(facts, decision),
        last_slot_at=max(decision.slot_at, facts.last_slot_at or decision.slot_at),
        last_started_at=decision.run_at,
        failure_count=facts.failure_count + 1 if failed else 0,
        failing_since=(facts.failing_since or decision.slot_at) if failed else None,
        server_wait=facts.server_wait if failed else None,
    )
    hint = facts.oneshot_hint
    if (
        decision.source in (Source.AI_ONESHOT, Source.PAUSED, Source.SERVER_ASKED)
        and hint
        and hint.at <= decision.run_at
    ):
        facts = replace(facts, oneshot_hint=None)
    if decision.source is Source.RETRY:
        facts = replace(facts, retry=None)
    if decision.source is Source.MANUAL:
        facts = replace(facts, manual_run_at=None)
    return facts


def moment(decision: Decision) -> tuple[datetime | None, datetime | None, int]:
    return decision.run_at, decision.slot_at, decision.attempt


def plan(decision: Decision) -> tuple[datetime | None, datetime | None, Source | None]:
    return decision.run_at, decision.slot_at, decision.source


@settings(deadline=None)
@given(schedules())
def test_a_run_never_starts_before_its_slot(facts: EndpointFacts) -> None:
    decision = plan_next_run(facts, NOON)
    if decision.run_at is not None:
        assert decision.slot_at is not None
        assert decision.run_at >= decision.slot_at


@settings(deadline=None)
@given(schedules())
def test_only_a_retry_repeats_a_slot(facts: EndpointFacts) -> None:
    decision = plan_next_run(facts, NOON)
    if decision.source is Source.RETRY:
        assert facts.retry is not None
        assert (decision.slot_at, decision.attempt) == (facts.retry.slot_at, facts.retry.attempt)
    elif decision.slot_at is not None and facts.last_slot_at is not None:
        assert decision.slot_at > facts.last_slot_at


@settings(deadline=None)
@given(schedules(), future, durations, future)
def test_nothing_but_run_now_starts_inside_a_pause(
    facts: EndpointFacts, until: datetime, hint_ms: int, at: datetime
) -> None:
    """Hints in force do not get past it either."""
    forever = from_noon(days=30)
    hints = {"interval_hint": IntervalHint(hint_ms, forever), "oneshot_hint": OneShotHint(at, forever)}
    for paused in (replace(facts, paused_until=until), replace(facts, paused_until=until, **hints)):
        decision = plan_next_run(paused, NOON)
        if decision.source is not Source.MANUAL:
            assert decision.run_at is None or decision.run_at >= until


@settings(deadline=None)
@given(schedules(), durations, durations, future)
def test_nothing_but_run_now_starts_before_the_server_wants_it(
    facts: EndpointFacts, wait_ms: int, hint_ms: int, at: datetime
) -> None:
    """Hints in force do not get past it either."""
    wait, forever = AskedWait(NOON, NOON + wait_ms * MILLISECOND), from_noon(days=30)
    hints = {"interval_hint": IntervalHint(hint_ms, forever), "oneshot_hint": OneShotHint(at, forever)}
    for waiting in (replace(facts, server_wait=wait), replace(facts, server_wait=wait, **hints)):
        decision = plan_next_run(waiting, NOON)
        if decision.source is not Source.MANUAL:
            assert decision.run_at is None or decision.run_at >= wait.until


@settings(deadline=None)
@given(schedules(), durations)
def test_what_the_server_asks_for_takes_no_run_away(facts: EndpointFacts, wait_ms: int) -> None:
    free = replace(facts, server_wait=None, retry=None, manual_run_at=None)
    waiting = replace(free, server_wait=AskedWait(NOON, NOON + wait_ms * MILLISECOND))
    planned, put_off = plan_next_run(free, NOON), plan_next_run(waiting, NOON)
    assert (planned.run_at is None) == (put_off.run_at is None)
    if planned.run_at is not None:
        assert put_off.run_at == max(planned.run_at, NOON + wait_ms * MILLISECOND)


@settings(deadline=None)
@given(schedules("interval"), st.integers(1, 500), spans)
def test_back_off_meets_recovery_within_its_bound(facts: EndpointFacts, failures: int, failing_for: int) -> None:
    assert facts.interval_ms is not None
    last = facts.last_slot_at or NOON
    facts = EndpointFacts(
        created_at=facts.created_at,
        anchor_at=facts.anchor_at,
        interval_ms=facts.interval_ms,
        max_interval_ms=facts.max_interval_ms,
        recovery_check_ms=facts.recovery_check_ms,
        last_slot_at=last,
        failure_count=failures,
        failing_since=last - failing_for * MILLISECOND,
    )
    decision = plan_next_run(facts, last)
    assert decision.slot_at is not None
    bound_ms = max(facts.recovery_check_ms or 0, facts.interval_ms)
    if facts.max_interval_ms is not None:
        bound_ms = min(bound_ms, max(facts.max_interval_ms, facts.interval_ms))
    if last >= facts.anchor_at:
        assert decision.slot_at - last <= bound_ms * MILLISECOND


@settings(deadline=None)
@given(schedules("interval cron"), past)
def test_a_pause_that_is_over_counts_as_none(facts: EndpointFacts, until: datetime) -> None:
    # What waits for the server is seen from its answer on, when the pause may not have been over.
    facts = replace(facts, retry=None, server_wait=None)
    over, without = replace(facts, paused_until=until), replace(facts, paused_until=None)
    assert plan(plan_next_run(over, NOON)) == plan(plan_next_run(without, NOON))


@settings(deadline=None)
@given(schedules())
def test_nothing_but_run_now_serves_a_slot_outside_the_window(facts: EndpointFacts) -> None:
    decision = plan_next_run(facts, NOON)
    if decision.slot_at is not None and decision.source is not Source.MANUAL:
        assert facts.starts_at is None or decision.slot_at >= facts.starts_at
        assert facts.ends_at is None or decision.slot_at < facts.ends_at


@settings(deadline=None)
@given(schedules(), durations, st.none() | past, around, st.none() | past)
def test_an_expired_hint_counts_as_none(
    facts: EndpointFacts, hint_ms: int, hint_ended: datetime | None, at: datetime, oneshot_ended: datetime | None
) -> None:
    without = replace(facts, interval_hint=None, oneshot_hint=None)
    expired = replace(
        facts, interval_hint=IntervalHint(hint_ms, hint_ended), oneshot_hint=OneShotHint(at, oneshot_ended)
    )
    assert plan(plan_next_run(expired, NOON)) == plan(plan_next_run(without, NOON))


@settings(deadline=None)
@given(schedules("interval cron"), durations, st.booleans())
def test_a_hinted_run_keeps_inside_the_bounds(facts: EndpointFacts, hint_ms: int, by_person: bool) -> None:
    hint = IntervalHint(hint_ms, from_noon(days=10), by_person=by_person)
    facts = replace(facts, interval_hint=hint, oneshot_hint=None, ends_at=None, server_wait=None)
    candidates = plan_next_run(facts, NOON).candidates
    hinted = next(c for c in candidates if c.source in HINT_SOURCES and c.verdict is not Verdict.OVERRIDDEN)
    assert hinted.at is not None
    high = facts.max_interval_ms or DEFAULT_MAX_HINT_MS
    floor = PERSON_HINT_FLOOR_MS if by_person else planner_floor_ms(facts)
    low = min(facts.min_interval_ms or floor, high)
    since_start = hinted.at - (facts.last_started_at or facts.created_at)
    assert since_start >= low * MILLISECOND
    after_last = NOON if facts.last_slot_at is None else facts.last_slot_at + TICK
    no_earlier_than = max(NOON, facts.starts_at or NOON, after_last)
    assert since_start <= high * MILLISECOND or hinted.at == no_earlier_than


@settings(deadline=None)
@given(schedules())
def test_a_run_caused_by_a_hint_starts_while_the_hint_is_in_force(facts: EndpointFacts) -> None:
    decision = plan_next_run(facts, NOON)
    expiry = {
        Source.AI_INTERVAL: facts.interval_hint and facts.interval_hint.expires_at,
        Source.AI_ONESHOT: facts.oneshot_hint and facts.oneshot_hint.expires_at,
    }
    if decision.source in expiry:
        assert decision.run_at is not None
        assert decision.run_at < expiry[decision.source]


@settings(deadline=None)
@given(schedules())
def test_the_same_facts_give_the_same_decision(facts: EndpointFacts) -> None:
    assert plan_next_run(facts, NOON) == plan_next_run(replace(facts), NOON)


@settings(deadline=None)
@given(schedules(), st.integers(1, 100), spans)
def test_more_failures_and_a_longer_streak_never_make_it_earlier(facts: EndpointFacts, more: int, longer: int) -> None:
    fewer = plan_next_run(facts, NOON)
    since = facts.failing_since and facts.failing_since - longer * MILLISECOND
    worse = plan_next_run(replace(facts, failure_count=facts.failure_count + more, failing_since=since), NOON)
    if fewer.run_at is not None and worse.run_at is not None:
        assert worse.run_at >= fewer.run_at
    else:
        assert worse.run_at is None


@settings(deadline=None)
@given(schedules("cron"))
def test_a_cron_slot_is_always_on_the_grid(facts: EndpointFacts) -> None:
    decision = plan_next_run(facts, NOON)
    assume(decision.source is Source.BASELINE_CRON)
    assert facts.cadence is not None
    assert decision.slot_at is not None
    assert facts.cadence.first_at_or_after(decision.slot_at) == decision.slot_at
    assert decision.run_at == decision.slot_at + facts.jitter


@settings(deadline=None)
@given(schedules("interval"))
def test_an_interval_slot_is_always_on_the_grid(facts: EndpointFacts) -> None:
    decision = plan_next_run(replace(facts, interval_hint=None), NOON)
    assume(decision.source in (Source.BASELINE_INTERVAL, Source.CLAMPED_MAX))
    assert facts.interval_ms is not None
    assert decision.slot_at is not None
    assert (decision.slot_at - facts.anchor_at) % (facts.interval_ms * MILLISECOND) == timedelta(0)
    assert decision.run_at == decision.slot_at + facts.jitter


@settings(deadline=None)
@given(schedules("interval cron"))
def test_without_failures_no_slot_of_the_baseline_is_left_out(facts: EndpointFacts) -> None:
    facts = EndpointFacts(
        created_at=facts.created_at,
        anchor_at=facts.anchor_at,
        interval_ms=facts.interval_ms,
        cadence=facts.cadence,
    )
    decision = plan_next_run(facts, NOON)
    assert decision.run_at is not None
    assert decision.run_at > NOON
    if facts.interval_ms is not None:
        assert decision.run_at - facts.interval_ms * MILLISECOND <= NOON
    else:
        assert facts.cadence is not None
        assert facts.cadence.next_after(NOON) == decision.run_at


@settings(max_examples=300, deadline=None)
@given(schedules() | zoned(), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
@example(  # a hint on a cron, seen before and after the end of the pause
    EndpointFacts(
        created_at=NOON,
        anchor_at=NOON,
        cadence=CRONS[3],
        paused_until=from_noon(minutes=10),
        interval_hint=IntervalHint(30 * SECOND, from_noon(hours=2)),
    ),
    0.5,
    0.9,
)
@example(  # a retry that a pause holds back
    EndpointFacts(
        created_at=NOON,
        anchor_at=NOON,
        last_slot_at=NOON,
        cadence=CRONS[3],
        paused_until=from_noon(minutes=10),
        retry=Retry(from_noon(seconds=2), NOON, 2, 3),
    ),
    0.5,
    0.9,
)
@example(  # jitter that carries a slot over the end of a pause
    EndpointFacts(
        created_at=from_noon(hours=-1),
        anchor_at=NOON,
        cadence=CRONS[1],
        jitter=timedelta(minutes=10),
        paused_until=from_noon(minutes=2),
    ),
    0.5,
    0.9,
)
@example(  # a hint that ends in the pause, and no slot before the end
    EndpointFacts(
        created_at=NOON,
        anchor_at=NOON,
        interval_ms=10_000,
        ends_at=from_noon(seconds=10),
        paused_until=from_noon(seconds=2),
        oneshot_hint=OneShotHint(NOON, from_noon(seconds=1)),
    ),
    0.0,
    0.5,
)
@example(  # the last slot passes in the pause
    EndpointFacts(
        created_at=NOON,
        anchor_at=NOON,
        interval_ms=10_000,
        ends_at=from_noon(seconds=12),
        paused_until=from_noon(seconds=11),
    ),
    0.1,
    0.95,
)
@example(  # a pause of the model while the endpoint fails, with a slot between now and its end
    EndpointFacts(
        created_at=NOON,
        anchor_at=NOON,
        interval_ms=30_000,
        last_slot_at=NOON,
        failure_count=1,
        paused_until=from_noon(seconds=137),
        pause_author=MODEL,
    ),
    0.0,
    0.9,
)
@example(  # a slower hint of the model while the endpoint fails, off the grid
    EndpointFacts(
        created_at=NOON,
        anchor_at=NOON,
        interval_ms=300_000,
        last_slot_at=NOON,
        last_started_at=NOON,
        failure_count=1,
        interval_hint=IntervalHint(1_770_000, from_noon(hours=2), author=MODEL),
    ),
    0.1,
    0.95,
)
@example(  # a slot whose jitter carries it over the end of a pause, which is the end of the window
    EndpointFacts(
        created_at=from_noon(hours=-1),
        anchor_at=NOON,
        starts_at=NOON,
        interval_ms=86_400_000,
        jitter=timedelta(seconds=45),
        ends_at=from_noon(seconds=1),
        paused_until=from_noon(seconds=1),
    ),
    0.1,
    0.95,
)
def test_a_replan_before_the_run_is_due_changes_nothing(facts: EndpointFacts, early: float, late: float) -> None:
    planned = plan_next_run(facts, NOON)
    assume(planned.run_at is not None and planned.run_at > NOON)
    assert planned.run_at is not None
    facts = applied(facts, planned)
    for share in sorted((early, late)):
        again = plan_next_run(facts, NOON + (planned.run_at - NOON - TICK) * share)
        assert moment(again) == moment(planned)
        # What waits for a slot after the pause is no longer paused when the pause has ended.
        assert again.source is planned.source or planned.source is Source.PAUSED


@settings(deadline=None)
@given(schedules() | zoned(), spans)
def test_nothing_due_stays_nothing_due(facts: EndpointFacts, ms: int) -> None:
    planned = plan_next_run(facts, NOON)
    if planned.run_at is None:
        assert plan_next_run(applied(facts, planned), NOON + ms * MILLISECOND).run_at is None


@settings(max_examples=300, deadline=None)
@given(schedules() | zoned(), spans)
def test_a_replan_of_an_overdue_slot_keeps_it(facts: EndpointFacts, ms: int) -> None:
    planned = plan_next_run(facts, NOON)
    assume(planned.run_at is not None)
    assert planned.run_at is not None
    later = plan_next_run(unclaimed(facts, planned), max(planned.run_at, NOON) + ms * MILLISECOND)
    if planned.source is Source.MANUAL and later.source is not Source.MANUAL:
        # The end of a pause lets go what was due before the run-now, which then comes second.
        assert later.run_at is not None
        assert later.run_at < planned.run_at
    else:
        assert (plan(later), later.attempt) == (plan(planned), planned.attempt)


@settings(deadline=None)
@given(schedules("interval cron"), durations, spans)
def test_an_overdue_slot_is_not_lost_to_a_new_hint(facts: EndpointFacts, hint_ms: int, ms: int) -> None:
    facts = replace(facts, retry=None, manual_run_at=None, paused_until=None)
    planned = plan_next_run(facts, NOON)
    assume(planned.run_at is not None)
    assert planned.run_at is not None
    now = max(planned.run_at, NOON) + ms * MILLISECOND
    hinted = replace(
        unclaimed(facts, planned),
        interval_hint=IntervalHint(hint_ms, now + timedelta(days=1)),
        oneshot_hint=OneShotHint(now, now + timedelta(days=1)),
    )
    assert plan(plan_next_run(hinted, now)) == plan(planned)


@dataclass(frozen=True)
class Step:
    """One call of the life of an endpoint: how long it takes, and whether it fails."""

    duration_ms: int
    failed: bool


steps = st.builds(Step, st.sampled_from([0, 1, 40, 700, 30 * SECOND, 7 * MINUTE]), st.booleans())


@settings(max_examples=60, deadline=None)
@given(schedules("interval cron"), st.lists(steps, min_size=1, max_size=8))
def test_a_long_life_never_repeats_a_slot_and_never_leaves_the_grid(facts: EndpointFacts, cycle: list[Step]) -> None:
    facts = replace(facts, ends_at=None)
    now, slots = NOON, [facts.last_slot_at] if facts.last_slot_at is not None else []
    for count in range(200):
        decision = plan_next_run(facts, now)
        assert decision.run_at is not None
        assert decision.slot_at is not None
        if decision.source is not Source.RETRY:
            assert not slots or decision.slot_at > slots[-1]
            slots.append(decision.slot_at)
        if decision.source is Source.BASELINE_INTERVAL:
            assert facts.interval_ms is not None
            assert (decision.slot_at - facts.anchor_at) % (facts.interval_ms * MILLISECOND) == timedelta(0)
        if decision.source is Source.BASELINE_CRON:
            assert facts.cadence is not None
            assert facts.cadence.first_at_or_after(decision.slot_at) == decision.slot_at
        step = cycle[count % len(cycle)]
        facts = served(facts, decision, failed=step.failed)
        now = max(decision.run_at, now) + step.duration_ms * MILLISECOND


@settings(deadline=None)
@given(schedules("interval cron"))
def test_a_oneshot_is_consumed_exactly_once(facts: EndpointFacts) -> None:
    facts = replace(
        facts,
        ends_at=None,
        retry=None,
        manual_run_at=None,
        oneshot_hint=OneShotHint(from_noon(minutes=1), from_noon(days=90)),
        interval_hint=None,
        min_interval_ms=None,
    )
    now, runs = NOON, 0
    while facts.oneshot_hint is not None:
        decision = plan_next_run(facts, now)
        assert decision.run_at is not None
        facts, now, runs = served(facts, decision), max(decision.run_at, now), runs + 1
        assume(runs < 1_000)
    assert plan_next_run(facts, now).source is not Source.AI_ONESHOT


@settings(deadline=None)
@given(schedules())
def test_the_stored_form_survives_json(facts: EndpointFacts) -> None:
    planned = plan_next_run(facts, NOON)
    decisions = [planned]
    if planned.run_at is not None:
        decisions.append(plan_next_run(unclaimed(facts, planned), max(planned.run_at, NOON)))
    for decision in decisions:
        stored = decision.to_json()
        assert json.loads(json.dumps(stored, allow_nan=False)) == stored
