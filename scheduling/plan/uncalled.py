"""Slots of the baseline that passed and were never called: counted with each plan, for the next run to tell of. Pure.

The count rides in the decision. A plan made at some moment adds the slots that have passed since the last slot, or
since an earlier plan counted. It leaves out what was no slot at the time: while an interval hint or a back-off was in
force, while the owner was deactivated, and before the last change of the schedule. Slots inside a pause count, whether
it has an end or not. The next run of a new slot takes the count; a repeat does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from scheduling.plan.decision import HOLDING_SOURCES, Decision, Source
from scheduling.plan.facts import EndpointFacts
from scheduling.plan.governor import TICK, baseline_slot_after
from scheduling.plan.tardiness import judge_tardiness


class Cause(StrEnum):
    """Why a slot passed without a call."""

    LONG_CALL = "long_call"
    PAUSE = "pause"
    WORKER_LOST = "worker_lost"
    NO_WORKER = "no_worker"
    RESULT_WAITED = "result_waited"
    SERVER_ASKED = "server_asked"


_WORDS = {
    Cause.LONG_CALL: "in a long call",
    Cause.PAUSE: "in a pause",
    Cause.WORKER_LOST: "after the loss of a worker",
    Cause.NO_WORKER: "without a free worker",
    Cause.RESULT_WAITED: "while a result waited to be stored",
    Cause.SERVER_ASKED: "while the server had asked to wait",
}

# The stored form while nothing is due: no slot can pass.
NO_PLAN: dict[str, Any] = {"stopped": True}

# Up to when slots passed for which cause, in the order of time; None is up to now.
Spans = Sequence[tuple[datetime | None, Cause]]
IDLE: Spans = ((None, Cause.NO_WORKER),)
LOST: Spans = ((None, Cause.WORKER_LOST),)


def in_call(started_at: datetime | None, finished_at: datetime | None = None) -> Spans:
    """The causes around a call: before its start, during it, and after its end until its result is stored."""
    waited = ((started_at, Cause.NO_WORKER),) if started_at is not None else ()
    return (*waited, (finished_at, Cause.LONG_CALL), (None, Cause.RESULT_WAITED))


@dataclass(frozen=True, slots=True)
class Uncalled:
    """What passed after the slot `after`, counted up to `through`, and what holds since the plan that counted.

    `ahead` are slots inside a pause, or a wait that the server asked for, that is still to end before the planned run.
    Until `paced_until` an interval hint or a back-off stands in the place of slots; until `held_until` nothing starts,
    by `held_by`. `paused`: nothing starts until somebody resumes the endpoint or its job. `stopped`: nothing is due for
    another reason.
    """

    after: datetime | None
    through: datetime | None
    counts: Mapping[Cause, int] = field(default_factory=dict)
    ahead: int = 0
    paced_until: datetime | None = None
    held_until: datetime | None = None
    held_by: Cause = Cause.PAUSE
    paused: bool = False
    stopped: bool = False

    @property
    def causes(self) -> dict[Cause, int]:
        """All that the next run stands for, by cause."""
        found = dict(self.counts)
        if self.ahead:
            found[self.held_by] = found.get(self.held_by, 0) + self.ahead
        return found

    def to_json(self, *, taken: bool) -> dict[str, Any]:
        """The stored form; `slots` and `cause` are there where the planned run takes them."""
        values: dict[str, Any] = {}
        if taken and (causes := self.causes):
            values |= {"slots": sum(causes.values()), "cause": main_cause(causes).value}
        values |= {"after": _text(self.after), "through": _text(self.through)}
        if self.counts:
            values["counts"] = {cause.value: count for cause, count in self.counts.items()}
        if self.ahead:
            values["ahead"] = self.ahead
        if self.paced_until is not None:
            values["paced_until"] = _text(self.paced_until)
        if self.held_until is not None:
            values |= {"held_until": _text(self.held_until), "held_by": self.held_by.value}
        if self.paused:
            values["paused"] = True
        if self.stopped:
            values["stopped"] = True
        return values

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Uncalled":
        """The stored form, read."""
        return cls(
            after=_instant(stored.get("after")),
            through=_instant(stored.get("through")),
            counts={Cause(cause): count for cause, count in stored.get("counts", {}).items()},
            ahead=stored.get("ahead", 0),
            paced_until=_instant(stored.get("paced_until")),
            held_until=_instant(stored.get("held_until")),
            held_by=Cause(stored.get("held_by", Cause.PAUSE)),
            paused=stored.get("paused", False),
            stopped=stored.get("stopped", False),
        )


def main_cause(causes: Mapping[Cause, int]) -> Cause:
    """The cause of most of the slots; of equals the first of `Cause`, since the stored form keeps no order."""
    return max(Cause, key=lambda cause: causes.get(cause, 0))


def with_uncalled(
    decision: Decision, facts: EndpointFacts, now: datetime, before: Mapping[str, Any] | None, spans: Spans
) -> Decision:
    """The decision with the count of uncalled slots; `before` is that of the plan in force until now, as stored."""
    previous = Uncalled.from_json(before) if before is not None else None
    counted = _count(decision, facts, now, previous, spans)
    if counted is None:
        return decision
    taken = decision.source is not None and decision.source is not Source.RETRY
    sentence = decision.sentence
    if taken and (causes := counted.causes):
        sentence = f"{sentence} {uncalled_words(causes)}"
    return replace(decision, sentence=sentence, uncalled=counted.to_json(taken=taken))


def carried(
    facts: EndpointFacts,
    now: datetime,
    before: Mapping[str, Any] | None,
    spans: Spans,
    *,
    waiting: datetime | None = None,
) -> dict[str, Any]:
    """The count of what passed up to now under a schedule that is about to change, as stored.

    `waiting` is the planned slot where the new schedule has it too.
    """
    previous = Uncalled.from_json(before) if before is not None else None
    lower = _counted_through(facts, now, previous)
    through = _settled_through(facts, now, waiting)
    counts = _added(facts, lower, through, previous, spans)
    kept = previous or Uncalled(None, None)
    return replace(kept, after=facts.last_slot_at, through=through, counts=counts, ahead=0).to_json(taken=False)


def uncalled_words(causes: Mapping[Cause, int]) -> str:
    """What the decision's sentence says of uncalled slots."""
    total = sum(causes.values())
    slots = "1 earlier slot" if total == 1 else f"{total} earlier slots"
    if len(causes) == 1:
        return f"It also stands for {slots} without a call: {_WORDS[next(iter(causes))]}."
    parts = [f"{causes[cause]} {_WORDS[cause]}" for cause in Cause if cause in causes]
    return f"It also stands for {slots} without a call: {', '.join(parts)}."


def _count(
    decision: Decision, facts: EndpointFacts, now: datetime, previous: Uncalled | None, spans: Spans
) -> Uncalled | None:
    """None where a later plan can count from the last slot on and finds the same."""
    paced_until = _paced_until(facts, now)
    held_until, held_by = _hold(facts, now)
    # What a server's wait puts off keeps its slot, which has come and is still to be called.
    put_off = decision.slot_at if decision.source is Source.SERVER_ASKED else None
    lower, through = _counted_through(facts, now, previous), _settled_through(facts, now, put_off)
    counts = _added(facts, lower, through, previous, spans)
    if facts.paused_without_end:
        return Uncalled(facts.last_slot_at, _latest(lower, through), counts, paced_until=paced_until, paused=True)
    if decision.run_at is None:
        return Uncalled(facts.last_slot_at, _latest(lower, through), counts, stopped=True) if counts else None
    ahead = 0
    if decision.source in HOLDING_SOURCES and held_until is not None and decision.slot_at is not None:
        begin = _latest(lower, through, paced_until - TICK if paced_until is not None else None)
        ahead = sum(_passed(facts, begin, decision.slot_at - TICK, ((None, held_by),)).values())
    continues = previous is not None and (
        previous.paced_until is not None or previous.stopped or previous.after == facts.last_slot_at
    )
    if not (counts or ahead or paced_until or held_until or continues):
        return None
    return Uncalled(facts.last_slot_at, _latest(lower, through), counts, ahead, paced_until, held_until, held_by)


def _hold(facts: EndpointFacts, now: datetime) -> tuple[datetime | None, Cause]:
    """Until when nothing starts, by a pause or because the server asked for it: the one that ends later."""
    pause, wait = facts.paused_until, facts.server_wait
    if wait is not None and wait.until > now and (pause is None or wait.until > pause):
        return wait.until, Cause.SERVER_ASKED
    return (pause, Cause.PAUSE) if pause is not None and pause > now else (None, Cause.PAUSE)


def _paced_until(facts: EndpointFacts, now: datetime) -> datetime | None:
    """The end of the interval hint that is in force, or of the back-off after failures: until then no slot is due."""
    if facts.run_once_at is not None:
        return None
    hint = facts.interval_hint
    ends = [hint.expires_at] if hint is not None and hint.expires_at is not None else []
    if facts.failure_count and facts.interval_ms is not None and facts.last_slot_at is not None:
        waits_for = baseline_slot_after(facts, facts.last_slot_at)
        if waits_for is not None and waits_for[0] - facts.last_slot_at > timedelta(milliseconds=facts.interval_ms):
            ends.append(waits_for[0])
    until = max(ends, default=now)
    return until if until > now else None


def _counted_through(facts: EndpointFacts, now: datetime, previous: Uncalled | None) -> datetime | None:
    """Up to when every slot is accounted for: served, counted, or none at the time."""
    if previous is not None and previous.after == facts.last_slot_at and previous.through is not None:
        lower = _latest(facts.last_slot_at, previous.through)
    else:
        lower = _latest(facts.last_slot_at, facts.schedule_changed_at)
    if previous is None:
        return lower
    if previous.stopped:
        lower = _latest(lower, _settled_through(facts, now))
    elif previous.paced_until is not None:
        lower = _latest(lower, min(previous.paced_until - TICK, now))
    return lower


def _settled_through(facts: EndpointFacts, now: datetime, waiting: datetime | None = None) -> datetime:
    """Up to when no slot will be called any more: those that are due wait, and those with jitter are still to come.

    `waiting` is a slot that is planned and may have come.
    """
    passed = now - facts.jitter
    if waiting is not None:
        passed = min(passed, waiting - TICK)
    if facts.overdue is None or facts.blocked is not None:
        return passed
    return min(passed, facts.overdue.slot_at - TICK)


def _added(
    facts: EndpointFacts, lower: datetime | None, through: datetime, previous: Uncalled | None, spans: Spans
) -> dict[Cause, int]:
    """The counts so far and those of the slots in (lower, through]."""
    counts: dict[Cause, int] = {}
    if previous is not None and previous.after == facts.last_slot_at:
        counts.update(previous.counts)
    if previous is not None and previous.paused and spans is IDLE:
        spans = ((None, Cause.PAUSE),)
    elif previous is not None and previous.held_until is not None and _held_before(previous.held_until, spans):
        spans = ((previous.held_until - TICK, previous.held_by), *spans)
    for cause, count in _passed(facts, lower, through, spans).items():
        counts[cause] = counts.get(cause, 0) + count
    return counts


def _held_before(held_until: datetime, spans: Spans) -> bool:
    """Whether the pause or wait of the plan before ended before what the spans tell of: before the call, if any."""
    started_at = spans[0][0]
    return spans is IDLE or (started_at is not None and held_until <= started_at)


def _passed(facts: EndpointFacts, lower: datetime | None, through: datetime, spans: Spans) -> dict[Cause, int]:
    """How many slots of the baseline lie in (lower, through], by cause."""
    if facts.run_once_at is not None:
        return {}
    begin = lower if lower is not None else facts.created_at if facts.interval_ms is None else facts.anchor_at
    if through <= begin or _plainly_none(facts, begin, through):
        return {}
    first = baseline_slot_after(facts, begin)
    if first is None or first[0] > through:
        return {}
    found: dict[Cause, int] = {}
    before = 0
    for until, cause in spans:
        count = _slots_from(facts, first[0], through if until is None else min(until, through))
        if count > before:
            found[cause] = found.get(cause, 0) + count - before
            before = count
    return found


def _plainly_none(facts: EndpointFacts, begin: datetime, through: datetime) -> bool:
    """Whether a cheap look tells that no slot lies in (begin, through], as with nearly every result."""
    if facts.cadence is not None:
        following = facts.cadence.next_after(begin)
        return following is None or following > through
    if facts.interval_ms is None:
        return False
    return facts.grid(facts.interval_ms).count_between(begin, through) == 0


def _slots_from(facts: EndpointFacts, first: datetime, until: datetime) -> int:
    """How many slots lie in [first, until]; `first` is one."""
    if until < first:
        return 0
    tardy = judge_tardiness(
        slot_at=first,
        now=until,
        interval=facts.grid(facts.interval_ms) if facts.interval_ms is not None else None,
        cadence=facts.cadence,
        ends_at=facts.ends_at,
        grace_ms=None,
    )
    return 1 if tardy is None else 1 + tardy.folded


def _latest(*instants: datetime | None) -> datetime | None:
    return max((instant for instant in instants if instant is not None), default=None)


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant is not None else None


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
