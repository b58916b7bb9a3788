"""Decides when an endpoint runs next: merges baseline, back-off, hints, pauses, waits, retries and run-now. Pure.

The order of the rules is the contract (`docs/governor.md`): each of them may replace what the rules before it chose.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from scheduling.plan.backoff import backoff_gap
from scheduling.plan.decision import Candidate, Decision, Source, Verdict
from scheduling.plan.facts import MODEL, AskedWait, EndpointFacts, IntervalHint, OneShotHint, Overdue, Retry
from scheduling.plan.wording import because, duration_words, instant_words

__all__ = [
    "AskedWait",
    "EndpointFacts",
    "IntervalHint",
    "OneShotHint",
    "Overdue",
    "Retry",
    "baseline_slot_after",
    "plan_next_run",
    "planner_floor_ms",
]

TICK = timedelta(microseconds=1)
DEFAULT_MAX_HINT_MS = 86_400_000
PERSON_HINT_FLOOR_MS = 1_000
CRON_FAILURE_FLOOR_MS = 60_000
SHORTEST_CRON_GAP_MS = 60_000
FAILURES_BEFORE_CAUTION = 3

_HELD_IN_OWN_COLUMNS = frozenset({Source.RETRY, Source.MANUAL})


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
    """The next run of an endpoint as seen at `now`, with every candidate and its verdict.

    Stable: a later call with the same facts, before the run is due, gives the same run.
    """
    inputs = facts.to_json(now)
    if facts.blocked is not None:
        return Decision(None, None, None, f"Nothing is due: {facts.blocked}.", inputs=inputs)
    rejected: list[Candidate] = []
    chosen = _scheduled(facts, now, now, rejected)
    chosen = _with_overdue(facts, now, chosen, rejected)
    chosen = _with_pause(facts, now, chosen, rejected)
    chosen = _with_server_wait(facts, now, chosen, rejected)
    chosen, drop_retry = _with_retry(facts, now, chosen, rejected)
    chosen = _with_manual(facts, now, chosen, rejected)
    if chosen is None:
        return Decision(
            None, None, None, _nothing_due(facts, now), candidates=tuple(rejected), inputs=inputs, drop_retry=drop_retry
        )
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


def baseline_slot_after(facts: EndpointFacts, after: datetime) -> tuple[datetime, datetime] | None:
    """The first slot of the baseline after an instant and after the last slot, and when its run is due.

    Back-off and window count; hints, retries and run-now do not. None where no slot is left.
    """
    option = _covered(facts, _baseline(facts, after, after + facts.jitter), [])
    return (option.slot_at, option.run_at) if option is not None else None


def planner_floor_ms(facts: EndpointFacts) -> int:
    """The fastest interval that the planner may ask for, in milliseconds, where the owner set no minimum.

    It bounds speeding up only: what is no faster than the baseline is never slowed down by it.
    """
    baseline_ms = _gap_ms(facts)
    if facts.failure_count < FAILURES_BEFORE_CAUTION:
        return facts.hint_floor_ms if baseline_ms is None else min(facts.hint_floor_ms, baseline_ms)
    return facts.interval_ms or max(facts.hint_floor_ms, CRON_FAILURE_FLOOR_MS)


def _gap_ms(facts: EndpointFacts) -> int | None:
    """The baseline's interval in ms; of a cron expression its next gap, which is looked up only where it may matter."""
    if facts.interval_ms is not None or facts.cadence is None or facts.hint_floor_ms <= SHORTEST_CRON_GAP_MS:
        return facts.interval_ms
    first = facts.cadence.next_after(facts.last_slot_at or facts.created_at)
    second = None if first is None else facts.cadence.next_after(first)
    return None if first is None or second is None else (second - first) // timedelta(milliseconds=1)


def _scheduled(facts: EndpointFacts, now: datetime, after: datetime, rejected: list[Candidate]) -> _Option | None:
    """What baseline and hints ask for as seen at `now`; a baseline run starts strictly after `after`."""
    if facts.is_done:
        return None
    baseline = _covered(facts, _baseline(facts, now, after), rejected)
    return _with_oneshot_hint(facts, now, _with_interval_hint(facts, now, baseline, rejected), rejected)


def _baseline(facts: EndpointFacts, now: datetime, after: datetime) -> _Option | None:
    """The user's own schedule: the first slot not yet served that starts strictly after `after`; None at its end."""
    first = after - facts.jitter
    if facts.last_slot_at is not None:
        first = max(first, facts.last_slot_at)
    if facts.starts_at is not None:
        first = max(first, facts.starts_at - TICK)
    slot: datetime | None
    note = ""
    if facts.interval_ms is not None:
        slot, source, rule, note = _interval_slot(facts, facts.interval_ms, first, now)
    elif facts.cadence is not None:
        slot, source = facts.cadence.next_after(max(first, facts.created_at)), Source.BASELINE_CRON
        rule = f"By the cron expression {facts.cadence.expression} in {facts.cadence.timezone}; the next slot is"
    elif facts.run_once_at is not None:
        slot, source, rule = _not_before_start(facts, facts.run_once_at), Source.RUN_ONCE, "Once, at"
    else:
        raise ValueError("An endpoint needs a baseline: an interval, a cron expression or run_once_at.")
    if slot is None:
        return None
    run_at = slot + facts.jitter if facts.jitter else slot
    spread = f", started {duration_words(facts.jitter)} later by its jitter" if facts.jitter else ""
    if facts.run_once_at is not None and facts.paused_until is not None and run_at < facts.paused_until:
        run_at, spread = facts.paused_until, ", held back by the pause"
    return _Option(source, run_at, slot, f"{rule} {instant_words(slot, now)}{spread}.", note)


def _interval_slot(
    facts: EndpointFacts, interval_ms: int, after: datetime, now: datetime
) -> tuple[datetime, Source, str, str]:
    """The first slot of the interval's grid strictly after `after` that the back-off allows; source, rule and note."""
    if facts.starts_at is None or facts.starts_at < facts.anchor_at:
        after = max(after, facts.anchor_at)
    grid, interval = facts.grid(interval_ms), timedelta(milliseconds=interval_ms)
    source, note = Source.BASELINE_INTERVAL, ""
    clock = f" on the clock of {facts.timezone}" if grid.zone is not None else ""
    rule = f"Every {duration_words(interval_ms)}{clock} by the baseline"
    gap, by_maximum = _backoff(facts, interval)
    if gap > interval and facts.last_slot_at is not None and facts.failing_since is not None:
        # The last slot of the grid no later than `gap` from the last one, so that the bound on recovery is kept.
        after = max(after, grid.later(facts.last_slot_at, gap - interval))
        failures = "1 failure" if facts.failure_count == 1 else f"{facts.failure_count} failures in a row"
        since = instant_words(facts.failing_since, now)
        rule = f"Backed off to every {duration_words(gap)}{clock}, failing since {since} ({failures})"
        note = f"backed off to every {duration_words(gap)}"
        if by_maximum:
            source = Source.CLAMPED_MAX
            rule += ", limited by the maximum interval"
    return grid.next_after(after), source, f"{rule}; the next slot is", note


def _backoff(facts: EndpointFacts, interval: timedelta) -> tuple[timedelta, bool]:
    """The longest wait after a failed run, the interval itself where nothing backs off; and whether a maximum cut it.

    It grows with the time between the slots of the first and the last failed run, up to `recovery_check_ms`.
    """
    if not facts.failure_count or facts.failing_since is None or facts.last_slot_at is None:
        return interval, False
    bound = interval if facts.recovery_check_ms is None else timedelta(milliseconds=facts.recovery_check_ms)
    gap = max(min(backoff_gap(interval, facts.last_slot_at - facts.failing_since), bound), interval)
    if facts.max_interval_ms is None:
        return gap, False
    limit = max(interval, timedelta(milliseconds=facts.max_interval_ms))
    return min(gap, limit), gap > limit


def _with_interval_hint(
    facts: EndpointFacts, now: datetime, baseline: _Option | None, rejected: list[Candidate]
) -> _Option | None:
    """The hint in place of the baseline while it is in force; an endpoint that runs once has no interval to replace."""
    hint = facts.interval_hint
    if hint is None:
        return baseline
    author = hint.set_by
    if facts.run_once_at is not None:
        rejected.append(Candidate(Source.AI_INTERVAL, None, Verdict.OVERRIDDEN, "the endpoint runs once"))
        return baseline
    if hint.expires_at is None or hint.expires_at <= now:
        rejected.append(Candidate(Source.AI_INTERVAL, None, Verdict.EXPIRED, f"set by {author}"))
        return baseline
    interval_ms, source = _bounded(facts, hint)
    start = facts.last_started_at or facts.created_at
    hinted_at = start + timedelta(milliseconds=interval_ms)
    at = _after_last(facts, _not_before_start(facts, max(hinted_at, now)))
    note = "" if interval_ms == hint.interval_ms else f"clamped from {duration_words(hint.interval_ms)}"
    every, until = duration_words(interval_ms), instant_words(hint.expires_at, now)
    if at >= hint.expires_at:
        rejected.append(Candidate(source, at, Verdict.EXPIRED, "the hint ends before this time"))
        held = _covered(facts, _baseline(facts, now, hint.expires_at - TICK), rejected)
        ends = f"The hint of {every}, set by {author}, ends at {until}, before its next call."
        return held and replace(held, sentence=f"{held.sentence} {ends}")
    if baseline is not None and _yields(facts, author) and hinted_at < _backed_off_until(facts):
        rejected.append(Candidate(source, at, Verdict.OVERRIDDEN, "it waits until the endpoint answers again"))
        waits = f"The hint of {every}, set by {author}, waits until the endpoint answers again."
        return replace(baseline, sentence=f"{baseline.sentence} {waits}")
    if baseline is not None:
        rejected.append(baseline.judged(Verdict.OVERRIDDEN))
    limits = f" ({note})" if note else ""
    instead = f"; baseline would be {instant_words(baseline.run_at, now)}" if baseline is not None else ""
    sentence = f"Every {every}{limits} until {until}, set by {author}{because(hint.reason)}{instead}."
    return _covered(facts, _Option(source, at, at, sentence, note), rejected)


def _yields(facts: EndpointFacts, author: str) -> bool:
    """Whether what this author set gives way to the back-off now. A cron expression and a single run have none."""
    return author == MODEL and facts.failure_count > 0 and facts.interval_ms is not None


def _backed_off_until(facts: EndpointFacts) -> datetime:
    """When the run after the last slot is due by the baseline and its back-off, whether that is over by now or not."""
    last = facts.last_slot_at or facts.created_at
    found = baseline_slot_after(facts, last)
    return last if found is None else found[1]


def _bounded(facts: EndpointFacts, hint: IntervalHint) -> tuple[int, Source]:
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


def _with_oneshot_hint(
    facts: EndpointFacts, now: datetime, scheduled: _Option | None, rejected: list[Candidate]
) -> _Option | None:
    """The earlier of the one-shot and the schedule; a tie goes to the one-shot, so that its run consumes it."""
    hint = facts.oneshot_hint
    if hint is None:
        return scheduled
    if hint.expires_at is None or hint.expires_at <= now:
        rejected.append(Candidate(Source.AI_ONESHOT, hint.at, Verdict.EXPIRED))
        return scheduled
    at = max(hint.at, now)
    if facts.min_interval_ms is not None and facts.last_started_at is not None:
        at = max(at, facts.last_started_at + timedelta(milliseconds=facts.min_interval_ms))
    if scheduled is not None and _yields(facts, hint.author):
        at = max(at, scheduled.run_at)
    at = _after_last(facts, _not_before_start(facts, at))
    if at >= hint.expires_at:
        rejected.append(Candidate(Source.AI_ONESHOT, at, Verdict.EXPIRED, "the hint ends before this time"))
        return scheduled
    instead = ""
    if scheduled is not None and scheduled.run_at > at:
        instead = f"; otherwise it would be {instant_words(scheduled.run_at, now)}"
    sentence = f"Once at {instant_words(at, now)}, set by {hint.author}{because(hint.reason)}{instead}."
    note = "" if at == hint.at else f"moved from {instant_words(hint.at, now)}"
    oneshot = _covered(facts, _Option(Source.AI_ONESHOT, at, at, sentence, note), rejected)
    if oneshot is None:
        return scheduled
    if scheduled is not None and scheduled.run_at < oneshot.run_at:
        rejected.append(oneshot.judged(Verdict.LATER))
        return scheduled
    if scheduled is not None:
        rejected.append(scheduled.judged(Verdict.LATER))
    return oneshot


def _with_overdue(
    facts: EndpointFacts, now: datetime, scheduled: _Option | None, rejected: list[Candidate]
) -> _Option | None:
    """The slot that is due already and not yet served, before anything that is still to come."""
    due = facts.overdue
    if due is None or due.source in _HELD_IN_OWN_COLUMNS or _after_last(facts, due.slot_at) != due.slot_at:
        return scheduled
    sentence = f"Due since {instant_words(due.run_at, now)} ({due.source}), not started by {instant_words(now, now)}."
    overdue = _covered(facts, _Option(due.source, due.run_at, due.slot_at, sentence), rejected)
    if overdue is None:
        return scheduled
    if scheduled is not None and scheduled.slot_at != overdue.slot_at:
        rejected.append(scheduled.judged(Verdict.LATER))
    return overdue


def _with_pause(
    facts: EndpointFacts, now: datetime, scheduled: _Option | None, rejected: list[Candidate]
) -> _Option | None:
    """The first run after a pause: its end for an interval, else what the schedule asks for as seen from its end."""
    until = facts.paused_until
    if until is None or until <= now:
        return scheduled
    yields = _yields(facts, facts.pause_author)
    if scheduled is not None:
        if yields and scheduled.run_at >= until:
            return scheduled
        rejected.append(scheduled.judged(Verdict.BLOCKED_BY_PAUSE))
    held = _scheduled(facts, until, until - TICK, [])
    end = _after_last(facts, until)
    ends_with_a_run = facts.interval_ms is not None and not yields and facts.covers(end)
    if ends_with_a_run and _has_slot(facts, held, now):
        run_at = slot_at = end
    elif held is None:
        return None
    else:
        run_at, slot_at = held.run_at, held.slot_at
    then = "it runs then" if run_at == until else f"the next run is {instant_words(run_at, now)}"
    author = f" by {facts.pause_author}" if facts.pause_author else ""
    sentence = f"Paused until {instant_words(until, now)}{author}{because(facts.pause_reason)}; {then}."
    return _covered(facts, _Option(Source.PAUSED, run_at, slot_at, sentence), rejected)


def _has_slot(facts: EndpointFacts, held: _Option | None, now: datetime) -> bool:
    """Whether an interval has something to run at the end of its pause: what is held, or a slot not yet served.

    A slot that passes inside the pause counts, so that the answer stays the same until the pause ends.
    """
    if held is not None:
        return True
    after = facts.last_slot_at if facts.last_slot_at is not None else facts.anchor_at - TICK
    return _covered(facts, _baseline(facts, now, after + facts.jitter), []) is not None


def _with_server_wait(
    facts: EndpointFacts, now: datetime, chosen: _Option | None, rejected: list[Candidate]
) -> _Option | None:
    """Holds what comes before the end of the wait that the server asked for, until then.

    What is held is planned as seen from the moment of the answer: the plan stays the same while slots pass. It keeps
    its slot; of the baseline's slots that pass meanwhile the last one is served.
    """
    wait = facts.server_wait
    if wait is None or wait.until <= now:
        return chosen
    held = _with_pause(facts, wait.since, _scheduled(facts, wait.since, wait.since, []), [])
    if held is None or held.run_at >= wait.until:
        held = chosen
    if held is None or held.run_at >= wait.until:
        return chosen
    rejected.append(held.judged(Verdict.PUT_OFF))
    slot_at = _last_baseline_slot(facts, held, wait.until)
    why = because(wait.reason)
    sentence = f"The server asked to wait until {instant_words(wait.until, now)}{why}; it runs then."
    return _Option(Source.SERVER_ASKED, wait.until, slot_at, sentence)


def _last_baseline_slot(facts: EndpointFacts, held: _Option, until: datetime) -> datetime:
    """The slot that a held run serves: the last one of its baseline that has come by `until`, else its own."""
    last: datetime | None = held.slot_at
    end = until if facts.ends_at is None else min(until, facts.ends_at - TICK)
    if held.source in (Source.BASELINE_INTERVAL, Source.CLAMPED_MAX) and facts.interval_ms is not None:
        last = facts.grid(facts.interval_ms).latest_at_or_before(end)
    elif held.source is Source.BASELINE_CRON and facts.cadence is not None:
        last = facts.cadence.latest_at_or_before(end, not_before=held.slot_at)
    return held.slot_at if last is None else max(last, held.slot_at)


def _with_retry(
    facts: EndpointFacts, now: datetime, chosen: _Option | None, rejected: list[Candidate]
) -> tuple[_Option | None, bool]:
    """The retry if it comes before the next slot, and whether it is dropped. A pause holds it back.

    One that is due by now goes first, also where a hint or a run-once slot came due before it: those stay due, while
    the slot of a lost worker would be forgotten.
    """
    retry = facts.retry
    if retry is None:
        return chosen, False
    run_at = retry.at if facts.paused_until is None else max(retry.at, facts.paused_until)
    note = "" if run_at == retry.at else "held back by the pause"
    if facts.server_wait is not None and facts.server_wait.until > run_at:
        run_at, note = facts.server_wait.until, f"put off{because(facts.server_wait.reason)}"
    repeat = retry.attempt - 1
    of_the_owner = 0 < repeat <= retry.limit and not retry.after_loss
    which = f"Retry {repeat} of {retry.limit}" if of_the_owner else f"Attempt {retry.attempt}"
    why = ", because the worker of the last attempt was lost" if retry.after_loss else ""
    sentence = f"{which} at {instant_words(run_at, now)} for the slot of {instant_words(retry.slot_at, now)}{why}."
    option = _covered(facts, _Option(Source.RETRY, run_at, retry.slot_at, sentence, note, retry.attempt), rejected)
    if option is None:
        return chosen, True
    if chosen is None:
        return option, False
    due = facts.overdue
    slot_waits = due is not None and due.source not in _HELD_IN_OWN_COLUMNS
    if option.run_at < chosen.run_at or (option.run_at <= now and not slot_waits):
        rejected.append(chosen.judged(Verdict.LATER))
        return option, False
    rejected.append(option.judged(Verdict.DROPPED, "the next slot comes first"))
    return replace(chosen, sentence=f"{chosen.sentence} The retry was dropped: this slot comes first."), True


def _with_manual(
    facts: EndpointFacts, now: datetime, chosen: _Option | None, rejected: list[Candidate]
) -> _Option | None:
    """The run that a person asked for, inside a pause and outside the window too, unless another is due before it.

    A tie goes to the person's run, so that one call serves both. The slot of a lost worker goes first: there is room
    for one repeat, and if the person's run were lost too, its own would take that room. A run-once slot that has come,
    and that a pause holds back, is served by it: with a slot of its own it would leave the other behind, done without a
    run.
    """
    if facts.manual_run_at is None:
        return chosen
    at = slot_at = _after_last(facts, facts.manual_run_at)
    if facts.run_once_at is not None and not facts.is_done:
        slot_at = min(at, facts.run_once_at)
    manual = _Option(Source.MANUAL, at, slot_at, f"Run now, asked for at {instant_words(facts.manual_run_at, now)}.")
    repeats_a_lost_slot = (
        chosen is not None
        and chosen.source is Source.RETRY
        and facts.retry is not None
        and facts.retry.after_loss
        and chosen.run_at == facts.retry.at
    )
    if chosen is not None and (chosen.run_at < manual.run_at or repeats_a_lost_slot):
        rejected.append(manual.judged(Verdict.LATER))
        return chosen
    if chosen is not None:
        rejected.append(chosen.judged(Verdict.LATER))
    return manual


def _after_last(facts: EndpointFacts, instant: datetime) -> datetime:
    """The instant, moved past the last slot where needed: a slot is never used twice."""
    return instant if facts.last_slot_at is None else max(instant, facts.last_slot_at + TICK)


def _not_before_start(facts: EndpointFacts, instant: datetime) -> datetime:
    return instant if facts.starts_at is None else max(instant, facts.starts_at)


def _covered(facts: EndpointFacts, option: _Option | None, rejected: list[Candidate]) -> _Option | None:
    """The option, or None with a verdict when its slot lies outside [starts_at, ends_at)."""
    if option is None or facts.covers(option.slot_at):
        return option
    rejected.append(option.judged(Verdict.OUTSIDE_WINDOW))
    return None


def _nothing_due(facts: EndpointFacts, now: datetime) -> str:
    if facts.is_done:
        return "Nothing is due: the one run of this endpoint is done."
    if facts.ends_at is None:
        return "Nothing is due: the cron expression has no further slot."
    if facts.ends_at <= now:
        return f"Nothing is due: the schedule ended at {instant_words(facts.ends_at, now)}."
    return f"Nothing is due: no slot is left before the schedule ends at {instant_words(facts.ends_at, now)}."
