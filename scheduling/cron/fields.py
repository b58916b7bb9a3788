"""The five fields of a cron expression: their names, numbers and words; and the error that refuses one. Pure."""

from dataclasses import dataclass
from typing import Literal

Code = Literal["invalid_cron", "invalid_timezone", "never_fires"]

MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class CronError(ValueError):
    """A cron expression or zone that is refused; its text names the fault and the remedy.

    `position` is a 0-based index into the expression: its length where something is missing at the end, None where the
    fault is not in one place.
    """

    def __init__(self, message: str, *, code: Code = "invalid_cron", position: int | None = None) -> None:
        super().__init__(message)
        self.code: Code = code
        self.position = position


@dataclass(frozen=True, slots=True)
class CronField:
    """One of the five. A weekday is 0 (Sunday) to 6; `low_word` says what the lowest number means."""

    title: str
    article: str
    low: int
    high: int
    low_word: str
    unit: str
    restarts: str
    names: dict[str, int]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return self.high - self.low + 1

    @property
    def highest_written(self) -> int:
        """The highest number that may be written: Sunday is also 7."""
        return 7 if self is WEEKDAY else self.high


MINUTE = CronField("minute", "a", 0, 59, "the full hour is 0", "min", "hour", {})
HOUR = CronField("hour", "an", 0, 23, "midnight is 0", "h", "day", {})
DAY = CronField("day of month", "a", 1, 31, "the first day is 1", "d", "month", {})
MONTH = CronField(
    "month", "a", 1, 12, "January is 1", "months", "year", dict(zip(MONTH_NAMES, range(1, 13), strict=True))
)
WEEKDAY = CronField(
    "day of week", "a", 0, 6, "Sunday is 0 or 7", "d", "week", dict(zip(WEEKDAY_NAMES, range(7), strict=True))
)
FIELDS = (MINUTE, HOUR, DAY, MONTH, WEEKDAY)
