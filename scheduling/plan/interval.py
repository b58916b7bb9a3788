"""The grid of an interval: `anchor + n * interval`, in elapsed time or on the clock of a zone. Pure.

The grid has no ends: which of its slots a schedule has, its window says. Instants are aware, those given are UTC.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from scheduling.cron.zones import check_timezone, instant_at

TICK = timedelta(microseconds=1)
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A grid. With `zone`, `step` is whole days and each slot has the anchor's time of day on the clock of the zone.

    There a time that the clock skips stands at the first instant after the gap, and of a time that comes twice the
    first is taken, as in cron expressions of fixed times; the anchor itself is always a slot.
    """

    step: timedelta
    anchor_at: datetime
    zone: ZoneInfo | None = None

    @classmethod
    def of(cls, interval_ms: int, anchor_at: datetime, starts_at: datetime | None, timezone: str) -> Self:
        """The grid of a row. Raises CronError where it needs a zone that is not known.

        On the clock of the zone where the owner anchored whole days by `starts_at`: the grid then begins with it.
        """
        step = timedelta(milliseconds=interval_ms)
        local = is_local(interval_ms, anchor_at, starts_at, timezone)
        return cls(step, anchor_at, check_timezone(timezone) if local else None)

    def next_after(self, instant: datetime) -> datetime:
        """The first slot strictly after an instant."""
        if self.zone is None:
            return self.anchor_at + ((instant - self.anchor_at) // self.step + 1) * self.step
        number = self._number_near(instant) - 1
        while (slot := self._slot(number)) <= instant:
            number += 1
        return slot

    def latest_at_or_before(self, instant: datetime) -> datetime:
        """The last slot at an instant or earlier."""
        if self.zone is None:
            return self.anchor_at + (instant - self.anchor_at) // self.step * self.step
        number = self._number_near(instant) + 1
        while (slot := self._slot(number)) > instant:
            number -= 1
        return slot

    def slots_after(self, instant: datetime, count: int) -> list[datetime]:
        """The first `count` slots strictly after an instant."""
        slots: list[datetime] = []
        while len(slots) < count:
            slots.append(self.next_after(slots[-1] if slots else instant))
        return slots

    def count_between(self, after: datetime, until: datetime) -> int:
        """How many slots lie in (after, until]; by the clock of a zone a day costs one step."""
        if self.zone is None:
            return max((until - self.anchor_at) // self.step - (after - self.anchor_at) // self.step, 0)
        numbers = range(self._number_near(after) - 1, self._number_near(until) + 2)
        # Where a clock leaves a whole day out, two numbers stand for one instant.
        return len({slot for number in numbers if after < (slot := self._slot(number)) <= until})

    def later(self, instant: datetime, duration: timedelta) -> datetime:
        """An instant moved on by a duration, on the clock of the zone where the grid has one."""
        if self.zone is None:
            return instant + duration
        return instant_at(self.zone, instant.astimezone(self.zone).replace(tzinfo=None) + duration)

    def _slot(self, number: int) -> datetime:
        assert self.zone is not None
        if number == 0:
            return self.anchor_at
        return instant_at(self.zone, self._wall_anchor() + number * self.step)

    def _number_near(self, instant: datetime) -> int:
        """The number of the slot at an instant, or of one beside it."""
        return (instant.astimezone(self.zone).replace(tzinfo=None) - self._wall_anchor()) // self.step

    def _wall_anchor(self) -> datetime:
        return self.anchor_at.astimezone(self.zone).replace(tzinfo=None)


def is_local(interval_ms: int, anchor_at: datetime, starts_at: datetime | None, timezone: str) -> bool:
    """Whether a grid keeps to the clock of its zone: whole days in a zone, from the start that the owner gave."""
    return starts_at is not None and starts_at == anchor_at and timezone != "UTC" and interval_ms % _DAY_MS == 0


def anchor_of(starts_at: datetime | None, now: datetime) -> datetime:
    """Where the grid of a schedule begins that is new, or whose interval or start changes at `now`."""
    return now if starts_at is None else starts_at
