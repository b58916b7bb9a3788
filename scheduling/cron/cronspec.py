"""Reads a five-field cron expression strictly into sets of numbers, or says which character is wrong.

The grammar is Vixie cron's, narrowed to what has one meaning everywhere:

* five fields (minute, hour, day of month, month, day of week) parted by spaces or tabs; no other white space;
* `*`, `7`, `1-5`, lists of these, and a step on each: `*/5`, `1-30/5`, and `5/15`, which means `5-59/15`;
* month and weekday names of three letters in any case; Sunday is 0, 7 or SUN; `5-7` reaches Sunday;
* a range runs upwards (`FRI-MON` is refused) and a step is no larger than its field (`*/90` is refused);
* `L` in the day of month: the last day; `5L` or `FRIL` in the day of week: the last Friday; `MON#2`: the second Monday;
* `@hourly @daily @weekly @monthly @yearly`.
"""

import re
from dataclasses import dataclass
from typing import Literal

Code = Literal["invalid_cron", "invalid_timezone", "never_fires"]

MAX_LENGTH = 200

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}

_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = dict(zip(_MONTH_NAMES, range(1, 13), strict=True))
_WEEKDAYS = dict(zip(_WEEKDAY_NAMES, range(7), strict=True))
_SPACES = " \t"


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
class CronSpec:
    """What an expression allows, as sorted numbers and sets; a weekday is 0 (Sunday) to 6."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    last_day: bool
    months: frozenset[int]
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    last_weekdays: frozenset[int]
    fixed_time: bool  # neither the minute nor the hour begins with `*`
    both_days: bool  # day of month and day of week must both match; False: either does


@dataclass(frozen=True, slots=True)
class _Field:
    title: str
    low: int
    high: int
    names: dict[str, int]

    @property
    def size(self) -> int:
        return self.high - self.low + 1


_MINUTE = _Field("minute", 0, 59, {})
_HOUR = _Field("hour", 0, 23, {})
_DAY = _Field("day of month", 1, 31, {})
_MONTH = _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("day of week", 0, 6, _WEEKDAYS)

_HINTS = {
    "?": "write * for any day",
    "H": "choose a number: hashed times are not supported",
    "R": "choose a number: random times are not supported",
    "W": "nearest weekdays are not supported: name the days",
    "L": "L stands alone in the day of month, and after a weekday (FRIL) in the day of week",
}


def parse_expression(expression: str) -> CronSpec:
    """The sets that an expression allows; raises CronError with the position of the first fault."""
    if len(expression) > MAX_LENGTH:
        raise CronError(f"A cron expression has at most {MAX_LENGTH} characters; this one has {len(expression)}.")
    for position, character in enumerate(expression):
        if character not in _SPACES and not "!" <= character <= "~":
            raise CronError(
                f"Character {character!a} is not allowed; use plain letters and digits, and spaces between fields.",
                position=position,
            )
    fields = [(match.group(), match.start()) for match in re.finditer(r"\S+", expression)]
    if not fields:
        raise CronError("The cron expression is empty; write five fields such as 0 9 * * MON-FRI.")
    if fields[0][0].startswith("@"):
        return _parse_macro(fields)
    if len(fields) > 5:
        raise CronError(
            f"Five fields are expected and {len(fields)} were given; seconds and years are not supported.",
            position=fields[5][1],
        )
    if len(fields) < 5:
        raise CronError(
            "Five fields are expected (minute, hour, day of month, month, day of week) "
            f"and only {len(fields)} given; add the missing ones.",
            position=len(expression.rstrip()),
        )
    return _parse_fields(fields)


def _parse_macro(fields: list[tuple[str, int]]) -> CronSpec:
    word, position = fields[0]
    if word.lower() not in MACROS:
        raise CronError(f"{word} is not known; use {', '.join(MACROS)} or five fields.", position=position)
    if len(fields) > 1:
        raise CronError(f"{word} stands alone; remove what follows it.", position=fields[1][1])
    return parse_expression(MACROS[word.lower()])


def _parse_fields(fields: list[tuple[str, int]]) -> CronSpec:
    (minute, minute_at), (hour, hour_at), (day, day_at), (month, month_at), (weekday, weekday_at) = fields
    days: set[int] = set()
    last_day = False
    weekdays: set[int] = set()
    nth_weekdays: set[tuple[int, int]] = set()
    last_weekdays: set[int] = set()

    minutes = {value for item, at in _items(_MINUTE, minute, minute_at) for value in _values(_MINUTE, item, at)}
    hours = {value for item, at in _items(_HOUR, hour, hour_at) for value in _values(_HOUR, item, at)}
    for item, at in _items(_DAY, day, day_at):
        if item.upper() == "L":
            last_day = True
        else:
            days.update(_values(_DAY, item, at))
    months = {value for item, at in _items(_MONTH, month, month_at) for value in _values(_MONTH, item, at)}
    for item, at in _items(_WEEKDAY, weekday, weekday_at):
        name, mark, nth = item.partition("#")
        if mark:
            nth_weekdays.add((_value(_WEEKDAY, name, at) % 7, _nth(nth, at + len(name) + 1)))
        elif re.fullmatch(r"[0-9]+[Ll]|[A-Za-z]{3}[Ll]", item):
            last_weekdays.add(_value(_WEEKDAY, item[:-1], at) % 7)
        else:
            weekdays.update(_values(_WEEKDAY, item, at))
    return CronSpec(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        last_day=last_day,
        months=frozenset(months),
        weekdays=frozenset(weekdays),
        nth_weekdays=frozenset(nth_weekdays),
        last_weekdays=frozenset(last_weekdays),
        fixed_time=not (minute.startswith("*") or hour.startswith("*")),
        both_days=day.startswith("*") or weekday.startswith("*"),
    )


def _items(field: _Field, text: str, position: int) -> list[tuple[str, int]]:
    """The parts of a list, each with its position."""
    items = []
    for item in text.split(","):
        if not item:
            raise CronError(f"The {field.title} has an empty item; remove the spare comma.", position=position)
        items.append((item, position))
        position += len(item) + 1
    return items


def _values(field: _Field, item: str, position: int) -> set[int]:
    """The numbers that `*`, `5`, `1-5` or one of these with a step stands for."""
    span, slash, step_text = item.partition("/")
    step = _step(field, step_text, position + len(span) + 1) if slash else 1
    low_text, dash, high_text = span.partition("-")
    if span == "*":
        low, high = field.low, field.high
    elif dash:
        low = _value(field, low_text, position)
        high = _value(field, high_text, position + len(low_text) + 1)
        if low > high:
            remedy = "; Sunday as the last day is 7" if field is _WEEKDAY else ""
            raise CronError(
                f"The {field.title} range {span} runs backwards; write it upwards, or as two ranges{remedy}.",
                position=position,
            )
    else:
        low = _value(field, span, position)
        if field is _WEEKDAY:
            low %= 7
        high = field.high if slash else low
    values = range(low, high + 1, step)
    return {value % 7 for value in values} if field is _WEEKDAY else set(values)


def _value(field: _Field, text: str, position: int) -> int:
    """One number or name of a field; a weekday may be 7."""
    if text.isdigit():
        number = int(text)
        high = 7 if field is _WEEKDAY else field.high
        if not field.low <= number <= high:
            raise CronError(f"The {field.title} is {field.low} to {high}, not {text}.", position=position)
        return number
    if text.upper() in field.names:
        return field.names[text.upper()]
    if not text:
        raise CronError(f"A {field.title} is missing here; write a number or *.", position=position)
    hint = next((_HINTS[c] for c in text.upper() if c in _HINTS), None)
    if field.names and text.isalpha() and len(text) > 1:
        hint = f"names have three letters, {' '.join(field.names)}"
    raise CronError(
        f"{text} is not a {field.title}; {hint or f'write {field.low} to {field.high}, a range, a step or *'}.",
        position=position,
    )


def _step(field: _Field, text: str, position: int) -> int:
    if not text.isdigit():
        raise CronError("A step is a whole number, as in */5.", position=position)
    step = int(text)
    if not 1 <= step <= field.size:
        raise CronError(
            f"A step of the {field.title} is 1 to {field.size}, not {text}: steps start again in each round.",
            position=position,
        )
    return step


def _nth(text: str, position: int) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 5:
        raise CronError("After # comes the week of the month, 1 to 5, as in MON#2.", position=position)
    return int(text)
