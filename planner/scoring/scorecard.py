"""What a hint or a pause did, once it has ended, beside what the baseline would have done in its stead. Pure.

Both sides count first attempts at slots, by their slots and not by when the calls started: repeats would have been made
either way, and lateness and jitter are nobody's advice. The baseline is the owner's schedule as it stands when the hint
is judged, without back-off; so a hint that kept calling through an outage is shown with fewer calls added than a
backed-off baseline would tell.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from scheduling.cron.cadence import Cadence
from scheduling.plan.interval import Interval

TICK = timedelta(microseconds=1)
MILLISECOND = timedelta(milliseconds=1)
FLAPS_WITHIN = timedelta(hours=1)
# No cron expression has more slots in the life of a hint, which is at most a day.
_MOST_SLOTS = 100_000


class HintKind(StrEnum):
    """What was in force; the values are those of the tools that ask for it."""

    INTERVAL = "propose_interval"
    ONE_SHOT = "propose_next_time"
    PAUSE = "pause_until"


class Direction(StrEnum):
    """Where a hint moves the schedule, `same` where its interval is the baseline's own; a one-shot only adds a run."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    PAUSE = "pause"
    ONCE = "once"


@dataclass(frozen=True, slots=True)
class Baseline:
    """The owner's own schedule: exactly one of `interval`, `cadence` and `run_once_at` is set."""

    interval: Interval | None = None
    cadence: Cadence | None = None
    run_once_at: datetime | None = None

    def next_after(self, instant: datetime) -> datetime | None:
        """The first slot strictly after an instant; None where there is no further one."""
        if self.interval is not None:
            return self.interval.next_after(instant)
        if self.cadence is not None:
            return self.cadence.next_after(instant)
        return self.run_once_at if self.run_once_at is not None and self.run_once_at > instant else None

    def count(self, begin: datetime, end: datetime) -> int:
        """How many slots lie in [begin, end)."""
        if self.interval is not None:
            return self.interval.count_between(begin - TICK, end - TICK)
        if self.cadence is not None:
            return self.cadence.count_between(begin - TICK, end - TICK, limit=_MOST_SLOTS)
        return int(self.run_once_at is not None and begin <= self.run_once_at < end)

    def gap_after(self, instant: datetime) -> timedelta | None:
        """The time from one slot to the next, for cron that of the two slots after an instant; None where runs once."""
        if self.interval is not None:
            return self.interval.step
        first = self.next_after(instant)
        second = None if first is None else self.next_after(first)
        return None if first is None or second is None else second - first


@dataclass(frozen=True, slots=True)
class Change:
    """The slot of a run that failed after one that had not, or the reverse, and the slot of that other run.

    `previous_at` is the hint's beginning where no earlier run is known.
    """

    at: datetime
    previous_at: datetime


@dataclass(frozen=True, slots=True)
class Stretch:
    """The time [began_at, ended_at) for which a hint or a pause was in force; `interval_ms` only of an interval."""

    kind: HintKind
    began_at: datetime
    ended_at: datetime
    interval_ms: int | None = None


@dataclass(frozen=True, slots=True)
class HintLife:
    """All that a hint is judged by.

    `shadow` tells that it was never in force: then `own` is the time for which it would have been, and the runs are
    those of the schedule as it was. `calls` are the slots called under it (not by a person, and for an interval not by
    a one-shot), `failures` those that failed. `failure` and `recovery` are the first changes that its runs saw, or,
    where they saw none, the first run after its end. `run_at` is the slot of a one-shot's run, None where it did not
    come. `last_start_at` is the last start before it, from which an interval counts. `earlier` are the hints and
    pauses of the same standing (shadow or not) that overlap the hour before it.
    """

    own: Stretch
    ended_by: str
    baseline: Baseline
    shadow: bool = False
    calls: int = 0
    failures: int = 0
    failure: Change | None = None
    recovery: Change | None = None
    run_at: datetime | None = None
    last_start_at: datetime | None = None
    earlier: Sequence[Stretch] = ()


@dataclass(frozen=True, slots=True)
class Met:
    """By how much sooner than the other schedule a change was seen, in ms: at least and at most; negative is later.

    The two differ where the other schedule would have called between the last run that saw the old state and the first
    that saw the new: the change came somewhere between these two. None: that schedule had no slot left, so it would
    never have seen the change.
    """

    least_ms: int | None
    most_ms: int | None


@dataclass(frozen=True, slots=True)
class Scorecard:
    """What a hint did, or, with `shadow`, would have done.

    * `kind`, `direction`: what it was, and where it moved the schedule.
    * `in_force_ms`: how long it was in force, in ms; `ended_by`: what ended it (`expired`, `superseded`, `cleared`,
      `undone`, `used`).
    * `calls_made`: slots called under it; `calls_baseline`: slots that the baseline has in the same time (one-shot: at
      the moment of its run); `calls_added`, `calls_saved`: the difference, one of them 0.
    * `failures`: how many of the slots called failed; of a shadow, those that the schedule as it was met.
    * `first_failure`, `first_recovery`: by how much sooner the hint met the first of each than the baseline; None where
      there was none, or another run saw it first. What was missed by calling less often shows in the first run after
      the end, which counts where the hint had skipped a slot of the baseline.
    * `earlier_ms`: how much earlier a one-shot's run came than the next slot of the baseline, in ms; None for others,
      where the run did not come, and where the baseline has no further slot.
    * `flaps`: changes between hint and no hint, or of direction, in the hour up to and including its beginning; the
      first onset in a calm hour is none. One-shots neither count nor are counted as changes.
    """

    kind: HintKind
    shadow: bool
    direction: Direction
    in_force_ms: int
    ended_by: str
    calls_made: int
    calls_baseline: int
    calls_added: int
    calls_saved: int
    failures: int
    first_failure: Met | None
    first_recovery: Met | None
    earlier_ms: int | None
    flaps: int

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        return asdict(self)


def score(life: HintLife) -> Scorecard:
    """What the hint did in its life, beside its baseline."""
    own, baseline = life.own, life.baseline
    made, window = life.calls, (own.began_at, own.ended_at)
    if life.shadow:
        made = _would_have_made(life)
    if own.kind is HintKind.ONE_SHOT:
        window = (own.began_at, own.began_at) if life.run_at is None else (life.run_at, life.run_at + TICK)
    by_baseline = baseline.count(*window)
    return Scorecard(
        kind=own.kind,
        shadow=life.shadow,
        direction=_direction(own, baseline),
        in_force_ms=(own.ended_at - own.began_at) // MILLISECOND,
        ended_by=life.ended_by,
        calls_made=made,
        calls_baseline=by_baseline,
        calls_added=max(made - by_baseline, 0),
        calls_saved=max(by_baseline - made, 0),
        failures=life.failures,
        first_failure=_met(life.failure, life),
        first_recovery=_met(life.recovery, life),
        earlier_ms=_earlier_ms(life),
        flaps=_flaps(life),
    )


def _would_have_made(life: HintLife) -> int:
    """How many calls a hint that was not in force would have made."""
    own = life.own
    if own.kind is HintKind.ONE_SHOT:
        return int(life.run_at is not None)
    if own.kind is HintKind.PAUSE:
        return 0
    first, interval = _would_start(life)
    return max(-((first - own.ended_at) // interval), 0)


def _would_start(life: HintLife) -> tuple[datetime, timedelta]:
    """When the first call by a hinted interval would have been, and the interval."""
    assert life.own.interval_ms is not None
    interval = timedelta(milliseconds=life.own.interval_ms)
    start = life.own.began_at if life.last_start_at is None else life.last_start_at
    return max(start + interval, life.own.began_at), interval


def _would_be_next(life: HintLife, after: datetime) -> datetime | None:
    """The first slot strictly after an instant, had the hint been in force; after its end the baseline's."""
    own, baseline = life.own, life.baseline
    if own.kind is HintKind.ONE_SHOT:
        slot = baseline.next_after(after)
        if life.run_at is None or life.run_at <= after:
            return slot
        return life.run_at if slot is None else min(slot, life.run_at)
    if own.kind is HintKind.INTERVAL:
        first, interval = _would_start(life)
        at = first if after < first else Interval(interval, first).next_after(after)
        if at < own.ended_at:
            return at
    elif baseline.interval is not None and after < own.ended_at:
        # An interval goes on at the end of a pause, cron at its next slot.
        return own.ended_at
    return baseline.next_after(max(after, own.ended_at - TICK))


def _met(change: Change | None, life: HintLife) -> Met | None:
    if change is None:
        return None
    at, own = change.at, life.own
    after = min(change.previous_at, at - TICK)
    if life.shadow:
        return Met(
            least_ms=_ms_from(_would_be_next(life, at - TICK), at), most_ms=_ms_from(_would_be_next(life, after), at)
        )
    met = Met(
        least_ms=_ms_to(life.baseline.next_after(after), at), most_ms=_ms_to(life.baseline.next_after(at - TICK), at)
    )
    if at < own.ended_at or own.kind is HintKind.ONE_SHOT:
        return met
    resumed = life.baseline.next_after(own.ended_at - TICK)
    skipped = met.least_ms is not None and met.least_ms < 0
    return met if skipped and resumed is not None and at <= resumed else None


def _ms_to(slot: datetime | None, at: datetime) -> int | None:
    return None if slot is None else round((slot - at) / MILLISECOND)


def _ms_from(slot: datetime | None, at: datetime) -> int | None:
    return None if slot is None else round((at - slot) / MILLISECOND)


def _earlier_ms(life: HintLife) -> int | None:
    if life.own.kind is not HintKind.ONE_SHOT or life.run_at is None:
        return None
    return _ms_to(life.baseline.next_after(life.run_at - TICK), life.run_at)


def _direction(hint: Stretch, baseline: Baseline) -> Direction:
    if hint.kind is HintKind.ONE_SHOT:
        return Direction.ONCE
    if hint.kind is HintKind.PAUSE:
        return Direction.PAUSE
    gap = baseline.gap_after(hint.began_at)
    hinted = timedelta(milliseconds=hint.interval_ms or 0)
    if gap is None or hinted == gap:
        return Direction.SAME
    return Direction.FASTER if hinted < gap else Direction.SLOWER


def _flaps(life: HintLife) -> int:
    """How often the direction in force changed in the hour up to the hint's beginning; a pause covers an interval."""
    began = life.own.began_at
    stretches = [(hint, _direction(hint, life.baseline)) for hint in (*life.earlier, life.own)]
    lasting = [(hint, direction) for hint, direction in stretches if direction is not Direction.ONCE]

    def in_force(at: datetime) -> Direction | None:
        found = [direction for hint, direction in lasting if hint.began_at <= at < hint.ended_at]
        return Direction.PAUSE if Direction.PAUSE in found else found[-1] if found else None

    moments = {moment for hint, _ in lasting for moment in (hint.began_at, hint.ended_at)}
    states = [in_force(began - FLAPS_WITHIN)]
    for moment in sorted(moment for moment in moments if began - FLAPS_WITHIN < moment <= began):
        state = in_force(moment)
        if state is not states[-1]:
            states.append(state)
    onset = len(states) > 1 and states[0] is None
    return len(states) - 1 - onset
