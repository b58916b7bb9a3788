"""Reads a five-field cron expression strictly into sets of numbers, or says which character is wrong.

The grammar is Vixie cron's, with the additions of others that have one meaning everywhere:

* five fields (minute, hour, day of month, month, day of week) parted by spaces or tabs; no other white space;
* `*`, `7`, `1-5`, lists of these, and a step on each: `*/5`, `1-30/5`, and `5/15`, which means `5-59/15`;
* month and weekday names of three letters in any case; Sunday is 0, 7 or SUN;
* a range runs upwards; only weekdays may pass the end of the week, as `FRI-MON`; a step is no larger than its field;
* `?` alone in a day field: any day;
* in the day of month `L` (the last day), `L-3` (the third before it), `15W` (the weekday, Monday to Friday, nearest to
  the 15th in its month) and `LW` (the last weekday);
* in the day of week `5L` or `FRIL` (the last Friday) and `MON#2` (the second Monday);
* `@hourly @daily @midnight @weekly @monthly @yearly @annually`.

`docs/cron.md` says the same to users.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from scheduling.cron.fields import DAY, HOUR, MACROS, MINUTE, MONTH, WEEKDAY, Code, CronError, CronField
from scheduling.cron.remedies import (
    Token,
    after_macro,
    check_form,
    misfit,
    out_of_range,
    runs_backwards,
    step_too_large,
    too_few,
    too_many,
    unknown_macro,
)

__all__ = ["MAX_LENGTH", "Code", "CronError", "CronSpec", "parse_expression"]

MAX_LENGTH = 200
_LATEST_BEFORE_LAST = 30
_SPACES = " \t"


@dataclass(frozen=True, slots=True)
class CronSpec:
    """What an expression allows, as sorted numbers and sets; a weekday is 0 (Sunday) to 6.

    `days_before_last` counts back from the last day of the month, which is 0. `nearest_weekdays` are days of the month
    that stand for the nearest Monday to Friday in their month; `last_weekday` for its last one.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    days_before_last: frozenset[int]
    nearest_weekdays: frozenset[int]
    last_weekday: bool
    months: frozenset[int]
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    last_weekdays: frozenset[int]
    fixed_time: bool  # neither the minute nor the hour begins with `*`
    both_days: bool  # day of month and day of week must both match; False: either does


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
    tokens = split_fields(expression)
    if not tokens:
        raise CronError("The cron expression is empty; write five fields such as 0 9 * * MON-FRI.")
    check_form(expression, tokens)
    if tokens[0][0].startswith("@"):
        return _parse_macro(tokens)
    if len(tokens) > 5:
        raise too_many(tokens, _fits)
    if len(tokens) < 5:
        raise too_few(expression, tokens)
    return _parse_fields(tokens)


def split_fields(expression: str) -> list[Token]:
    """The fields, each with its position."""
    return [(match.group(), match.start()) for match in re.finditer(r"\S+", expression)]


def _fits(tokens: Sequence[Token]) -> bool:
    try:
        _parse_fields(tokens)
    except CronError:
        return False
    return True


def _parse_macro(tokens: Sequence[Token]) -> CronSpec:
    word = tokens[0][0]
    if word.lower() not in MACROS:
        raise unknown_macro(tokens)
    if len(tokens) > 1:
        raise after_macro(word, tokens[1])
    return parse_expression(MACROS[word.lower()])


def _parse_fields(tokens: Sequence[Token]) -> CronSpec:
    (minute, minute_at), (hour, hour_at), (day, day_at), (month, month_at), (weekday, weekday_at) = tokens
    day, weekday = ("*" if text == "?" else text for text in (day, weekday))
    days: set[int] = set()
    days_before_last: set[int] = set()
    nearest_weekdays: set[int] = set()
    last_weekday = False
    weekdays: set[int] = set()
    nth_weekdays: set[tuple[int, int]] = set()
    last_weekdays: set[int] = set()

    minutes = {value for item, at in _items(MINUTE, minute, minute_at) for value in _values(MINUTE, item, at)}
    hours = {value for item, at in _items(HOUR, hour, hour_at) for value in _values(HOUR, item, at)}
    for item, at in _items(DAY, day, day_at):
        upper = item.upper()
        if upper == "LW":
            last_weekday = True
        elif back := re.fullmatch(r"L(?:-([0-9]{1,2}))?", upper):
            days_before_last.add(_before_last(item, back[1], at))
        elif near := re.fullmatch(r"([0-9]{1,2})W", upper):
            nearest_weekdays.add(_value(DAY, near[1], at))
        else:
            days.update(_values(DAY, item, at))
    months = {value for item, at in _items(MONTH, month, month_at) for value in _values(MONTH, item, at)}
    for item, at in _items(WEEKDAY, weekday, weekday_at):
        name, mark, nth = item.partition("#")
        if mark:
            nth_weekdays.add((_one_weekday(name, at) % 7, _nth(name, nth, at + len(name) + 1)))
        elif re.fullmatch(r"[0-9]+[Ll]|[A-Za-z]{3}[Ll]", item):
            last_weekdays.add(_value(WEEKDAY, item[:-1], at) % 7)
        else:
            weekdays.update(_values(WEEKDAY, item, at))
    return CronSpec(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        days_before_last=frozenset(days_before_last),
        nearest_weekdays=frozenset(nearest_weekdays),
        last_weekday=last_weekday,
        months=frozenset(months),
        weekdays=frozenset(weekdays),
        nth_weekdays=frozenset(nth_weekdays),
        last_weekdays=frozenset(last_weekdays),
        fixed_time=not (minute.startswith("*") or hour.startswith("*")),
        both_days=day.startswith("*") or weekday.startswith("*"),
    )


def _items(field: CronField, text: str, position: int) -> list[Token]:
    """The parts of a list, each with its position."""
    items = []
    for item in text.split(","):
        if not item:
            raise CronError(f"The {field.title} has an empty item; remove the spare comma.", position=position)
        items.append((item, position))
        position += len(item) + 1
    return items


def _values(field: CronField, item: str, position: int) -> set[int]:
    """The numbers that `*`, `5`, `1-5` or one of these with a step stands for."""
    if "?" in item or re.fullmatch(r"[0-9*/-]*[LWlw][0-9LWlw*/-]*", item):
        raise CronError(misfit(field, item), position=position)
    span, slash, step_text = item.partition("/")
    step = _step(field, step_text, position + len(span) + 1) if slash else 1
    low_text, dash, high_text = span.partition("-")
    if span == "*":
        low, high = field.low, field.high
    elif dash:
        low = _value(field, low_text, position)
        high = _value(field, high_text, position + len(low_text) + 1)
        if low > high and field is WEEKDAY:
            high += 7
        if low > high:
            raise CronError(runs_backwards(field, span, low, high), position=position)
    else:
        low = _value(field, span, position)
        if field is WEEKDAY:
            low %= 7
        high = field.high if slash else low
    values = range(low, high + 1, step)
    return {value % 7 for value in values} if field is WEEKDAY else set(values)


def _value(field: CronField, text: str, position: int) -> int:
    """One number or name of a field; a weekday may be 7."""
    if text.isdigit():
        number = int(text)
        if not field.low <= number <= field.highest_written:
            raise CronError(out_of_range(field, text), position=position)
        return number
    if text.upper() in field.names:
        return field.names[text.upper()]
    if not text:
        raise CronError(
            f"{field.article.capitalize()} {field.title} is missing here; write a number or *.", position=position
        )
    raise CronError(misfit(field, text), position=position)


def _before_last(item: str, back: str | None, position: int) -> int:
    """How many days before the last day of the month."""
    if back is None:
        return 0
    if not 1 <= int(back) <= _LATEST_BEFORE_LAST:
        raise CronError(misfit(DAY, item), position=position)
    return int(back)


def _one_weekday(text: str, position: int) -> int:
    if "-" in text or "*" in text:
        raise CronError(f"# takes one weekday, as in MON#2, not {text}.", position=position)
    return _value(WEEKDAY, text, position)


def _step(field: CronField, text: str, position: int) -> int:
    if not text.isdigit():
        raise CronError("A step is a whole number, as in */5.", position=position)
    step = int(text)
    if not 1 <= step <= field.size:
        raise CronError(step_too_large(field, text), position=position)
    return step


def _nth(name: str, text: str, position: int) -> int:
    if text.isdigit() and 1 <= int(text) <= 5:
        return int(text)
    last = f"; the last one is {name.upper()}L" if text.upper() in ("L", "-1") else ""
    raise CronError(f"After # comes the week of the month, 1 to 5, as in MON#2{last}.", position=position)
