"""When a cron expression fires in a zone: pure, exact across changes of the clock, and never twice for one slot.

croniter finds the plain calendar days, `monthdays` those of `15W`, `LW` and `L-3`; the time of day and the zone are
ours. The time line is cut into segments of constant UTC offset, and wall-clock times are matched within each:

* a job of fixed times (neither minute nor hour begins with `*`) never goes back on the wall clock: what a segment
  repeats is passed over, and what was skipped before it collapses into its first instant;
* any other job follows the wall clock of each segment as it is, through both rounds of a repeated hour.

Every instant taken is aware (ValueError otherwise) and every instant given is aware UTC. Slots are looked for in the
years 2 to 9998.
"""

import calendar
import copy
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Self

from croniter import croniter

from scheduling.cron.cronspec import CronSpec, parse_expression
from scheduling.cron.fields import CronError
from scheduling.cron.monthdays import MonthDays
from scheduling.cron.zones import HORIZON_YEARS, Segment, check_timezone, segments_back, segments_from

__all__ = ["Cadence", "CronError", "check_timezone", "parse_cadence"]

_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_EARLIEST, _LATEST = datetime(1, 1, 3), datetime(9999, 12, 29)  # noqa: DTZ001
_EVERY_DAY = ("0 0 * * *",)
# Days that match: a croniter expression for midnight, or days that croniter does not know.
_Days = str | MonthDays


@dataclass(frozen=True, slots=True)
class Cadence:
    """A validated cron expression in a zone; raises CronError when made of anything else. Equal by its two texts."""

    expression: str
    timezone: str
    _pattern: "_Pattern" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_timezone(self.timezone)
        object.__setattr__(self, "_pattern", _Pattern.of(parse_expression(self.expression)))

    def next_after(self, instant: datetime) -> datetime | None:
        """The first slot strictly after an instant; None only at the end of the calendar."""
        return self._first_from(_naive_utc(instant) + _TICK)

    def first_at_or_after(self, instant: datetime) -> datetime | None:
        """The first slot at an instant or later; None only at the end of the calendar."""
        return self._first_from(_naive_utc(instant))

    def slots_after(self, instant: datetime, count: int) -> list[datetime]:
        """The first `count` slots strictly after an instant, fewer only at the end of the calendar."""
        slots: list[datetime] = []
        while len(slots) < count and (slot := self.next_after(slots[-1] if slots else instant)) is not None:
            slots.append(slot)
        return slots

    def latest_at_or_before(self, instant: datetime, *, not_before: datetime) -> datetime | None:
        """The last slot at an instant or earlier, and strictly after `not_before`; None where there is none."""
        last, bound = _naive_utc(instant), _naive_utc(not_before)
        for segment in segments_back(self.timezone, last):
            if segment.end <= bound:
                break
            wall = self._pattern.last_wall_until(min(last, segment.end - _TICK) + segment.offset)
            if wall is None:
                break
            if wall >= (segment.fresh_from if self._pattern.fixed_time else segment.opens_at):
                slot = max(wall - segment.offset, segment.start)
                return slot.replace(tzinfo=UTC) if slot > bound else None
        return None

    def count_between(self, after: datetime, until: datetime, *, limit: int = 100_000) -> int:
        """How many slots lie in (after, until], counted up to `limit`; a day costs one step however often it fires."""
        first, last = _naive_utc(after) + _TICK, _naive_utc(until)
        total = 0
        for segment in segments_from(self.timezone, first, last):
            begin = self._wall_from(segment, first)
            if begin < segment.opens_at:
                skipped = self._pattern.first_wall_from(begin)
                total += skipped is not None and skipped <= segment.opens_at
                begin = segment.opens_at + _TICK
            total += self._pattern.count_walls(begin, min(segment.end, last + _TICK) + segment.offset, limit - total)
            if total >= limit:
                return limit
        return total

    def _first_from(self, first: datetime) -> datetime | None:
        """The first slot at a naive UTC time or later."""
        wall = searched = None
        for segment in segments_from(self.timezone, first):
            begin = self._wall_from(segment, first)
            # A match that lay beyond the last segment is still the first one from any later start up to itself.
            if wall is None or searched is None or not searched <= begin <= wall:
                wall, searched = self._pattern.first_wall_from(begin), begin
            if wall is None:
                break
            slot = max(wall - segment.offset, segment.start)
            if slot < segment.end:
                return slot.replace(tzinfo=UTC)
        return None

    def _wall_from(self, segment: Segment, first: datetime) -> datetime:
        """The wall-clock time from which a segment is searched for slots at naive UTC `first` or later."""
        if not self._pattern.fixed_time:
            return max(segment.start, first) + segment.offset
        if first <= segment.start:
            return segment.fresh_from
        return max(first + segment.offset, segment.fresh_from)


@lru_cache(maxsize=4096)
def parse_cadence(expression: str, timezone: str = "UTC") -> Cadence:
    """A cadence for an expression in an IANA zone; raises CronError. Cached: the same texts give the same object."""
    return Cadence(expression, timezone)


def _naive_utc(instant: datetime) -> datetime:
    """The UTC time of an aware instant; beyond the years that hold slots it is only as far as arithmetic allows."""
    offset = instant.utcoffset()
    if offset is None:
        raise ValueError("An instant must be aware: it has no time zone.")
    return min(max(instant.replace(tzinfo=None), _EARLIEST), _LATEST) - offset


@dataclass(frozen=True, slots=True)
class _Pattern:
    """An expression on the wall clock alone: naive minutes that match."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[_Days, ...]
    fixed_time: bool

    @classmethod
    def of(cls, spec: CronSpec) -> Self:
        days = _matching_days(spec)
        if not _fires_in_every_horizon(days):
            raise CronError(
                f"This expression does not fire in every {HORIZON_YEARS} years; choose a day that its months have.",
                code="never_fires",
            )
        return cls(spec.minutes, spec.hours, days, spec.fixed_time)

    def first_wall_from(self, wall: datetime) -> datetime | None:
        """The first match at a wall-clock time or later; None beyond the horizon."""
        day = _first_day(self.days, wall.date())
        if day == wall.date():
            hour, minute = wall.hour, wall.minute + (1 if wall.second or wall.microsecond else 0)
            at = bisect_left(self.hours, hour)
            if at < len(self.hours) and self.hours[at] == hour:
                if minute <= self.minutes[-1]:
                    return datetime.combine(day, time(hour, self.minutes[bisect_left(self.minutes, minute)]))
                at += 1
            if at < len(self.hours):
                return datetime.combine(day, time(self.hours[at], self.minutes[0]))
            day = _first_day(self.days, day + _DAY)
        return None if day is None else datetime.combine(day, time(self.hours[0], self.minutes[0]))

    def last_wall_until(self, wall: datetime) -> datetime | None:
        """The last match at a wall-clock time or earlier; None beyond the horizon."""
        day = _last_day(self.days, wall.date())
        if day == wall.date():
            at = bisect_right(self.hours, wall.hour) - 1
            if at >= 0 and self.hours[at] == wall.hour:
                if wall.minute >= self.minutes[0]:
                    minute = self.minutes[bisect_right(self.minutes, wall.minute) - 1]
                    return datetime.combine(day, time(wall.hour, minute))
                at -= 1
            if at >= 0:
                return datetime.combine(day, time(self.hours[at], self.minutes[-1]))
            day = _last_day(self.days, day - _DAY)
        return None if day is None else datetime.combine(day, time(self.hours[-1], self.minutes[-1]))

    def count_walls(self, begin: datetime, end: datetime, limit: int) -> int:
        """How many matches lie in [begin, end); stops at the first day on which `limit` is reached."""
        total = 0
        day = _first_day(self.days, begin.date())
        while day is not None and day <= end.date() and total < limit:
            total += len(self.hours) * len(self.minutes) if day < end.date() else self._times_before(end.time())
            if day == begin.date():
                total -= self._times_before(begin.time())
            day = _first_day(self.days, day + _DAY)
        return max(total, 0)

    def _times_before(self, moment: time) -> int:
        """How many of a day's matches come before a time of day."""
        whole = bisect_left(self.hours, moment.hour)
        minute = moment.minute + (1 if moment.second or moment.microsecond else 0)
        begun = bisect_left(self.minutes, minute) if moment.hour in self.hours else 0
        return whole * len(self.minutes) + begun


def _matching_days(spec: CronSpec) -> tuple[_Days, ...]:
    """The matching days; those of any of the parts match."""
    unknown: list[_Days] = []
    if any(offset for offset in spec.days_before_last) or spec.nearest_weekdays or spec.last_weekday:
        unknown.append(MonthDays.of(spec))
    if unknown and spec.both_days and not spec.days and 0 not in spec.days_before_last:
        return tuple(unknown)
    return (*_day_expressions(spec), *unknown)


def _day_expressions(spec: CronSpec) -> tuple[str, ...]:
    """The matching days that croniter knows as its expressions for midnight, any of which may match.

    Each is a plain intersection. croniter cannot be trusted with the union of a day of month and a `#`, and refuses
    plain weekdays beside a `#`.
    """
    numbers = [*map(str, sorted(spec.days)), *(["l"] if 0 in spec.days_before_last else [])]
    day = "*" if len(spec.days) == 31 else ",".join(numbers)
    month = "*" if len(spec.months) == 12 else ",".join(map(str, sorted(spec.months)))
    marked = [f"{weekday}#{nth}" for weekday, nth in sorted(spec.nth_weekdays)]
    marked += [f"L{weekday}" for weekday in sorted(spec.last_weekdays)]
    plain = list(map(str, sorted(spec.weekdays)))
    weekdays = ["*"] if len(plain) == 7 else [",".join(texts) for texts in (plain, marked) if texts]
    if spec.both_days:
        return tuple(f"0 0 {day} {month} {weekday}" for weekday in weekdays)
    by_day = [f"0 0 {day} {month} *"] if day else []
    return (*by_day, *(f"0 0 * {month} {weekday}" for weekday in weekdays))


@lru_cache(maxsize=1024)
def _fires_in_every_horizon(days: tuple[_Days, ...]) -> bool:
    """Whether the years with a match are never more than 8 apart, over the 400 years after which the calendar repeats.

    A year has one of 14 shapes (leap or not, weekday of its first day), all of which occur in 2000 to 2027.
    """
    if days == _EVERY_DAY:
        return True
    fires: dict[tuple[bool, int], bool] = {}
    for year in range(2000, 2028):
        day = _first_day(days, date(year, 1, 1))
        fires[_shape(year)] = day is not None and day.year == year
    years = [year for year in range(2000, 2400) if fires[_shape(year)]]
    return bool(years) and all(b - a <= HORIZON_YEARS for a, b in pairwise([*years, years[0] + 400]))


def _shape(year: int) -> tuple[bool, int]:
    return calendar.isleap(year), date(year, 1, 1).weekday()


@lru_cache(maxsize=16_384)
def _first_day(days: tuple[_Days, ...], start: date) -> date | None:
    """The first matching day from a date on; None within 8 years."""
    if days == _EVERY_DAY:
        return start
    return min(filter(None, (_search(part, start, back=False) for part in days)), default=None)


@lru_cache(maxsize=16_384)
def _last_day(days: tuple[_Days, ...], start: date) -> date | None:
    """The last matching day up to a date; None within 8 years."""
    if days == _EVERY_DAY:
        return start
    return max(filter(None, (_search(part, start, back=True) for part in days)), default=None)


def _search(days: _Days, start: date, *, back: bool) -> date | None:
    if isinstance(days, MonthDays):
        return days.last_until(start) if back else days.first_from(start)
    # croniter keeps its position in itself: a copy for each search keeps threads apart.
    finder = copy.copy(_finder(days))
    midnight = datetime.combine(start, time())
    try:
        if back:
            found: datetime = finder.get_prev(datetime, midnight + timedelta(minutes=1))
        else:
            found = finder.get_next(datetime, midnight - timedelta(minutes=1))
    except (ValueError, OverflowError):  # croniter found none, or left the calendar
        return None
    return found.date()


@lru_cache(maxsize=1024)
def _finder(text: str) -> croniter:
    return croniter(text, datetime(2000, 1, 1), day_or=False, max_years_between_matches=HORIZON_YEARS)  # noqa: DTZ001
