"""Days of a month that depend on its length and its weekdays: `L-3`, `15W` and `LW`. Pure."""

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Self

from scheduling.cron.cronspec import CronSpec

_SATURDAY, _SUNDAY = 6, 0
# As far as croniter looks for the other days: 8 years on, the eighth to its end.
_HORIZON_MONTHS = 9 * 12


@dataclass(frozen=True, slots=True)
class MonthDays:
    """The days of an expression that are given as `L-n`, `nW` or `LW`.

    `weekdays`, `nth_weekdays` and `last_weekdays` say which of them count: all where the day of week is not to match
    too.
    """

    months: frozenset[int]
    days_before_last: frozenset[int]
    nearest_weekdays: frozenset[int]
    last_weekday: bool
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    last_weekdays: frozenset[int]

    @classmethod
    def of(cls, spec: CronSpec) -> Self:
        """Those of an expression."""
        return cls(
            months=spec.months,
            days_before_last=spec.days_before_last,
            nearest_weekdays=spec.nearest_weekdays,
            last_weekday=spec.last_weekday,
            weekdays=spec.weekdays if spec.both_days else frozenset(range(7)),
            nth_weekdays=spec.nth_weekdays,
            last_weekdays=spec.last_weekdays,
        )

    def first_from(self, start: date) -> date | None:
        """The first of them from a date on; None within 8 years."""
        for year, month in _months(start, 1):
            found = [
                day for day in self._days(year, month) if (year, month) != (start.year, start.month) or day >= start.day
            ]
            if found:
                return date(year, month, min(found))
        return None

    def last_until(self, start: date) -> date | None:
        """The last of them up to a date; None within 8 years."""
        for year, month in _months(start, -1):
            found = [
                day for day in self._days(year, month) if (year, month) != (start.year, start.month) or day <= start.day
            ]
            if found:
                return date(year, month, max(found))
        return None

    def _days(self, year: int, month: int) -> set[int]:
        if month not in self.months:
            return set()
        # calendar counts weekdays from Monday, cron from Sunday.
        first_weekday, length = calendar.monthrange(year, month)

        def weekday_of(day: int) -> int:
            return (first_weekday + day) % 7

        def counts(day: int) -> bool:
            weekday = weekday_of(day)
            return (
                weekday in self.weekdays
                or (weekday, (day + 6) // 7) in self.nth_weekdays
                or (weekday in self.last_weekdays and day + 7 > length)
            )

        def nearest(day: int) -> int:
            if weekday_of(day) == _SATURDAY:
                return day - 1 if day > 1 else day + 2
            if weekday_of(day) == _SUNDAY:
                return day + 1 if day < length else day - 2
            return day

        days = {length - back for back in self.days_before_last if back < length}
        # A month without the day has none near it either.
        days |= {nearest(day) for day in self.nearest_weekdays if day <= length}
        if self.last_weekday:
            days.add(nearest(length))
        return {day for day in days if counts(day)}


def _months(start: date, step: int) -> Iterator[tuple[int, int]]:
    """The months from that of a date on, forwards or backwards, as far as the horizon and the calendar go."""
    number = start.year * 12 + start.month - 1
    for each in range(number, number + step * (_HORIZON_MONTHS + 1), step):
        year, month = divmod(each, 12)
        if not 1 <= year <= 9999:
            return
        yield year, month + 1
