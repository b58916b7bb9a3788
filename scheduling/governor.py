"""Decides when an endpoint runs next: merges baseline, back-off, hints, pauses, retries and run-now. Pure.

The order of the rules is the contract (`docs/governor.md`): a later rule outranks an earlier one.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from scheduling.cadence import Cadence
from scheduling.decision import Candidate, Decision, Source, Verdict
from scheduling.wording import duration_words, instant_words

TICK = timedelta(microseconds=1)
DEFAULT_MAX_HINT_MS = 86_400_000
PERSON_HINT_FLOOR_MS = 1_000
CRON_FAILURE_FLOOR_MS = 60_000
FAILURES_BEFORE_CAUTION = 3
MAX_BACKOFF_DOUBLINGS = 5


@dataclass(frozen=True, slots=True)
class IntervalHint:
    """Advice on the interval, in force until `expires_at` (exclusive); None there means not in force."""

    interval_ms: int
    expires_at: datetime | None
    reason: str = ""
    by_person: bool = False


@dataclass(frozen=True, slots=True)
class OneShotHint:
    """Advice on one moment, in force until `expires_at` (exclusive); None there means not in force."""

    at: datetime
    expires_at: datetime | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """A repeat of the slot `slot_at`, to start at `at` as the given attempt."""

    at: datetime
    slot_at: datetime
    attempt: int
    limit: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """A planned slot that no worker has claimed yet although its time has come; a re-plan must not lose it."""

    slot_at: datetime
    source: Source


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """All that the governor looks at. Instants are aware UTC; durations carry their unit; None means not set.

    Exactly one of `interval_ms`, `cadence` and `run_once_at` is set. `blocked` names what makes the endpoint not
    schedulable ("paused", "archived", "its job is paused", ...). `jitter` is the endpoint's own stable delay.
    """

    created_at: datetime
    anchor_at: datetime
    interval_ms: int | None = None
    cadence: Cadence | None = None
    run_once_at: datetime | None = None
    blocked: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    jitter: timedelta = timedelta(0)
    min_interval_ms: int | None = None
    max_interval_ms: int | None = None
    hint_floor_ms: int = 10_000
    last_slot_at: datetime | None = None
    last_started_at: datetime | None = None
    failure_count: int = 0
    interval_hint: IntervalHint | None = None
    oneshot_hint: OneShotHint | None = None
    paused_until: datetime | None = None
    pause_reason: str = ""
    retry: Retry | None = None
    manual_run_at: datetime | None = None
    overdue: Overdue | None = None


@dataclass(frozen=True, slots=True)
class _Option:
    """A candidate that may still be chosen, with the sentence that would explain it."""

    source: Source
    run_at: datetime
    slot_at: datetime
    sentence: str
    note: str = ""
    attempt: int = 1

    def judged(self, verdict: Verdict, note: str | None = None) -> Candidate:
        return Candidate(self.source, self.run_at, verdict, self.note if note is None else note)


def plan_next_run(facts: EndpointFacts, now: datetime) -> Decision:
    """The next run of an endpoint as seen at `now`, with every candidate and its verdict."""
    inputs = _inputs(facts, now)
    if facts.blocked is not None:
        return Decision(None, None, None, f"Nothing is due: {facts.blocked}.", inputs=inputs)

    rejected: list[Candidate] = []
    drop_retry = False

    baseline = _baseline(facts, now)
    chosen = _with_interval_hint(facts, now, baseline, rejected)
    chosen = _with_oneshot_hint(facts, now, chosen, rejected)
    if facts.retry is not None:
        retry = _retry(facts.retry, now)
        if chosen is not None and retry.run_at >= chosen.run_at:
            rejected.append(retry.judged(Verdict.DROPPED, "the next slot comes first"))
            chosen = replace(chosen, sentence=f"{chosen.sentence} The retry was dropped: this slot comes first.")
            drop_retry = True
        else:
            if chosen is not None:
                rejected.append(chosen.judged(Verdict.LATER))
            chosen = retry
    chosen = _with_pause(facts, now, chosen, rejected)
    chosen = _with_manual(facts, now, chosen, rejected)

    if chosen is None:
        return Decision(None, None, None, _nothing_due(facts, now), candidates=tuple(rejected), inputs=inputs)
    if facts.ends_at is not None and chosen.slot_at >= facts.ends_at and chosen.source is not Source.MANUAL:
        rejected.append(chosen.judged(Verdict.OUTSIDE_WINDOW))
        return Decision(None, None, None, _nothing_due(facts, now), candidates=tuple(rejected), inputs=inputs)
    return Decision(
        run_at=chosen.run_at,
        slot_at=chosen.slot_at,
        source=chosen.source,
        sentence=chosen.sentence,
        attempt=chosen.attempt,
        candidates=(chosen.judged(Verdict.CHOSEN), *rejected),
        inputs=inputs,
        drop_retry=drop_retry,
    )


def _after_last(facts: EndpointFacts, instant: datetime) -> datetime:
    """The instant, moved past the last slot where needed: a slot is never used twice."""
    return instant if facts.last_slot_at is None else max(instant, facts.last_slot_at + TICK)


def _baseline(facts: EndpointFacts, now: datetime) -> _Option | None:
    """The user's own schedule; None when it has no more slots."""
    if facts.overdue is not None and _after_last(facts, facts.overdue.slot_at) == facts.overdue.slot_at:
        due = facts.overdue
        sentence = f"Due since {instant_words(due.slot_at, now)} by the baseline and waiting for a free worker."
        return _Option(due.source, max(due.slot_at + facts.jitter, due.slot_at), due.slot_at, sentence)
    if facts.run_once_at is not None:
        return _once(facts, now)
    slot, source, words = _grid_slot(facts, now)
    if slot is None:
        return None
    when = instant_words(slot, now)
    return _Option(source, slot + facts.jitter, slot, f"{words}; the next slot is {when}.")


def _once(facts: EndpointFacts, now: datetime) -> _Option | None:
    at = facts.run_once_at
    assert at is not None
    if facts.last_slot_at is not None and facts.last_slot_at >= at:
        return None
    at = at if facts.starts_at is None else max(at, facts.starts_at)
    return _Option(Source.RUN_ONCE, at + facts.jitter, at, f"Once, at {instant_words(at, now)}.")


def _grid_slot(facts: EndpointFacts, now: datetime) -> tuple[datetime | None, Source, str]:
    """The first slot of the user's grid that is still to serve, its source and the words for it."""
    after = now - facts.jitter
    if facts.last_slot_at is not None:
        after = max(after, facts.last_slot_at)
    if facts.starts_at is not None:
        after = max(after, facts.starts_at - TICK)
    if facts.cadence is not None:
        words = f"By the cron expression {facts.cadence.expression} in {facts.cadence.timezone}"
        return facts.cadence.next_after(after), Source.BASELINE_CRON, words
    assert facts.interval_ms is not None
    if facts.starts_at is None:
        after = max(after, facts.anchor_at)
    interval = timedelta(milliseconds=facts.interval_ms)
    words, source = f"Every {duration_words(facts.interval_ms)} by the baseline", Source.BASELINE_INTERVAL
    if facts.failure_count:
        cap = max(facts.interval_ms, facts.max_interval_ms) if facts.max_interval_ms is not None else None
        wanted = facts.interval_ms * 2 ** min(facts.failure_count, MAX_BACKOFF_DOUBLINGS)
        backoff_ms = wanted if cap is None else min(wanted, cap)
        after = max(after, (facts.last_slot_at or facts.anchor_at) + timedelta(milliseconds=backoff_ms) - TICK)
        if backoff_ms > facts.interval_ms:
            clamped = backoff_ms < wanted
            source = Source.CLAMPED_MAX if clamped else source
            failures = f"{facts.failure_count} failure{'s' if facts.failure_count != 1 else ''} in a row"
            limit = ", limited by the maximum interval" if clamped else ""
            words = f"Backing off to {duration_words(backoff_ms)} after {failures}{limit}"
    return grid_slot_after(facts.anchor_at, interval, after), source, words


def grid_slot_after(anchor: datetime, interval: timedelta, after: datetime) -> datetime:
    """The first instant of the grid `anchor + n * interval` strictly after the given one."""
    return anchor + ((after - anchor) // interval + 1) * interval


def _with_interval_hint(
    facts: EndpointFacts, now: datetime, baseline: _Option | None, rejected: list[Candidate]
) -> _Option | None:
    hint = facts.interval_hint
    if hint is None:
        return baseline
    author = "a person" if hint.by_person else "the planner"
    if hint.expires_at is None or hint.expires_at <= now:
        rejected.append(Candidate(Source.AI_INTERVAL, None, Verdict.EXPIRED, f"hint by {author}"))
        return baseline
    bounded_ms, source = _bounded_hint(facts, hint)
    start = facts.last_started_at or facts.created_at
    at = max(start + timedelta(milliseconds=bounded_ms), now)
    if facts.starts_at is not None:
        at = max(at, facts.starts_at)
    at = _after_last(facts, at)
    note = "" if bounded_ms == hint.interval_ms else f"clamped from {duration_words(hint.interval_ms)}"
    if at >= hint.expires_at:
        rejected.append(Candidate(source, at, Verdict.EXPIRED, "the hint ends before this time"))
        return _baseline(replace(facts, overdue=None), hint.expires_at - TICK) if baseline else None
    if baseline is not None:
        rejected.append(baseline.judged(Verdict.OVERRIDDEN))
    because = f" because {hint.reason.rstrip('.')}" if hint.reason else ""
    instead = f"; baseline would be {instant_words(baseline.run_at, now)}" if baseline is not None else ""
    limits = f" ({note})" if note else ""
    sentence = (
        f"Every {duration_words(bounded_ms)}{limits} until {instant_words(hint.expires_at, now)}, set by {author}"
        f"{because}{instead}."
    )
    return _Option(source, at, at, sentence, note)


def _bounded_hint(facts: EndpointFacts, hint: IntervalHint) -> tuple[int, Source]:
    """The hinted interval inside the endpoint's bounds, in milliseconds, and the source that tells of a clamp."""
    high = DEFAULT_MAX_HINT_MS if facts.max_interval_ms is None else facts.max_interval_ms
    low = facts.min_interval_ms
    if low is None:
        low = PERSON_HINT_FLOOR_MS if hint.by_person else planner_floor_ms(facts)
    low = min(low, high)
    if hint.interval_ms < low:
        return low, Source.CLAMPED_MIN
    if hint.interval_ms > high:
        return high, Source.CLAMPED_MAX
    return hint.interval_ms, Source.AI_INTERVAL


def planner_floor_ms(facts: EndpointFacts) -> int:
    """The fastest interval that the planner may ask for, in milliseconds, where the owner set no minimum."""
    if facts.failure_count < FAILURES_BEFORE_CAUTION:
        return facts.hint_floor_ms
    return max(facts.hint_floor_ms, facts.interval_ms or CRON_FAILURE_FLOOR_MS)


def _with_oneshot_hint(
    facts: EndpointFacts, now: datetime, scheduled: _Option | None, rejected: list[Candidate]
) -> _Option | None:
    hint = facts.oneshot_hint
    if hint is None:
        return scheduled
    if hint.expires_at is None or hint.expires_at <= now:
        rejected.append(Candidate(Source.AI_ONESHOT, hint.at, Verdict.EXPIRED))
        return scheduled
    at = max(hint.at, now)
    if facts.min_interval_ms is not None and facts.last_started_at is not None:
        at = max(at, facts.last_started_at + timedelta(milliseconds=facts.min_interval_ms))
    if facts.starts_at is not None:
        at = max(at, facts.starts_at)
    at = _after_last(facts, at)
    if at >= hint.expires_at:
        rejected.append(Candidate(Source.AI_ONESHOT, at, Verdict.EXPIRED, "the hint ends before this time"))
        return scheduled
    because = f" because {hint.reason.rstrip('.')}" if hint.reason else ""
    instead = f"; otherwise {instant_words(scheduled.run_at, now)}" if scheduled is not None else ""
    note = f"moved from {instant_words(hint.at, now)}" if at != hint.at else ""
    oneshot = _Option(Source.AI_ONESHOT, at, at, f"Once at {instant_words(at, now)}{because}{instead}.", note)
    if scheduled is None or oneshot.run_at <= scheduled.run_at:
        if scheduled is not None:
            rejected.append(scheduled.judged(Verdict.LATER))
        return oneshot
    rejected.append(oneshot.judged(Verdict.LATER))
    return scheduled


def _retry(retry: Retry, now: datetime) -> _Option:
    sentence = (
        f"Retry {retry.attempt - 1} of {retry.limit} of the slot {instant_words(retry.slot_at, now)}"
        f" at {instant_words(retry.at, now)}."
    )
    return _Option(Source.RETRY, retry.at, retry.slot_at, sentence, attempt=retry.attempt)


def _with_pause(
    facts: EndpointFacts, now: datetime, scheduled: _Option | None, rejected: list[Candidate]
) -> _Option | None:
    until = facts.paused_until
    if until is None or until <= now or scheduled is None:
        return scheduled
    rejected.append(scheduled.judged(Verdict.BLOCKED_BY_PAUSE))
    at: datetime | None = until
    if facts.cadence is not None:
        at = facts.cadence.first_at_or_after(_after_last(facts, max(until, facts.starts_at or until)))
    elif facts.run_once_at is not None:
        at = max(facts.run_once_at, until)
    else:
        at = max(until, facts.starts_at or until)
    if at is None:
        return None
    at = _after_last(facts, at)
    because = f" because {facts.pause_reason.rstrip('.')}" if facts.pause_reason else ""
    sentence = f"Paused until {instant_words(until, now)}{because}; the next run is {instant_words(at, now)}."
    return _Option(Source.PAUSED, at, at, sentence)


def _with_manual(
    facts: EndpointFacts, now: datetime, scheduled: _Option | None, rejected: list[Candidate]
) -> _Option | None:
    if facts.manual_run_at is None:
        return scheduled
    at = _after_last(facts, facts.manual_run_at)
    manual = _Option(Source.MANUAL, at, at, f"Run now, asked for at {instant_words(facts.manual_run_at, now)}.")
    if scheduled is not None and scheduled.run_at <= manual.run_at:
        rejected.append(manual.judged(Verdict.LATER))
        return scheduled
    if scheduled is not None:
        rejected.append(scheduled.judged(Verdict.LATER))
    return manual


def _nothing_due(facts: EndpointFacts, now: datetime) -> str:
    if facts.ends_at is not None and not (facts.run_once_at is not None and facts.last_slot_at is not None):
        return f"Nothing is due: the schedule ends at {instant_words(facts.ends_at, now)}."
    if facts.run_once_at is not None:
        return "Nothing is due: the one run of this endpoint is done."
    return "Nothing is due: the cron expression has no further slot."


def _inputs(facts: EndpointFacts, now: datetime) -> dict[str, Any]:
    """The facts that the decision rests on, as stored beside it; unset ones are left out."""
    hint, oneshot = facts.interval_hint, facts.oneshot_hint
    values: dict[str, Any] = {
        "now": now,
        "interval_ms": facts.interval_ms,
        "cron": facts.cadence.expression if facts.cadence else None,
        "timezone": facts.cadence.timezone if facts.cadence else None,
        "run_once_at": facts.run_once_at,
        "min_interval_ms": facts.min_interval_ms,
        "max_interval_ms": facts.max_interval_ms,
        "failure_count": facts.failure_count or None,
        "last_slot_at": facts.last_slot_at,
        "last_started_at": facts.last_started_at,
        "hint_interval_ms": hint.interval_ms if hint else None,
        "hint_interval_expires_at": hint.expires_at if hint else None,
        "hint_next_run_at": oneshot.at if oneshot else None,
        "hint_next_run_expires_at": oneshot.expires_at if oneshot else None,
        "paused_until": facts.paused_until,
        "retry_at": facts.retry.at if facts.retry else None,
        "manual_run_at": facts.manual_run_at,
        "starts_at": facts.starts_at,
        "ends_at": facts.ends_at,
        "jitter_ms": facts.jitter // timedelta(milliseconds=1) or None,
    }
    return {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in values.items()
        if value is not None
    }
