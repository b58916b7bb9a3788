"""Steps that do not divide their field, as `*/45` minutes: they start again in each round. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from scheduling.cron.cronspec import CronSpec, parse_expression, split_fields
from scheduling.cron.fields import DAY, FIELDS, HOUR, MINUTE, MONTH, WEEKDAY, CronField

_STEPPED = re.compile(r"(\*|[0-9A-Za-z]+|([0-9A-Za-z]+)-([0-9A-Za-z]+))/([0-9]+)")
_LENGTHS_OF_MONTHS = {2: (28, 29), 4: (30,), 6: (30,), 9: (30,), 11: (30,)}


@dataclass(frozen=True, slots=True)
class UnevenStep:
    """A field whose step leaves uneven gaps: `gaps` are the different ones, in `unit`, in the order that they come."""

    field: str
    step: str
    unit: str
    gaps: tuple[int, ...]
    text: str


def uneven_steps(expression: str) -> list[UnevenStep]:
    """The uneven steps of an expression. Raises CronError where it cannot be read.

    Only a step that runs to the end of its field is looked at, as `*/45`, `5/25` or `0-59/7`: a range that ends before
    it was meant to end there.
    """
    spec = parse_expression(expression)
    tokens = split_fields(expression)
    if len(tokens) != len(FIELDS):
        return []
    found = (_uneven(field, text, spec) for field, (text, _) in zip(FIELDS, tokens, strict=True))
    return [step for step in found if step is not None]


def _uneven(field: CronField, text: str, spec: CronSpec) -> UnevenStep | None:
    stepped = [item for item in text.split(",") if _runs_to_the_end(field, item)]
    if not stepped or _has_marks(field, spec) or not _round_follows_round(field, spec):
        return None
    step = int(stepped[0].rpartition("/")[2])
    values = _values(field, spec)
    gaps = tuple(dict.fromkeys(_gaps(field, values, spec)))
    if len(gaps) == 1 and (len(values) > 1 or gaps[0] == step):
        return None
    return UnevenStep(field.title, stepped[0], field.unit, gaps, _words(field, stepped[0], step, gaps))


def _runs_to_the_end(field: CronField, item: str) -> bool:
    parts = _STEPPED.fullmatch(item)
    if parts is None or int(parts[4]) == 1:
        return False
    if parts[2] is None:
        return True
    low, high = (_number(field, parts[place]) for place in (2, 3))
    return (low == field.low and high >= field.high) or (field is WEEKDAY and (high - low) % 7 == 6)


def _number(field: CronField, text: str) -> int:
    return int(text) if text.isdigit() else field.names[text.upper()]


def _has_marks(field: CronField, spec: CronSpec) -> bool:
    """Whether days that no step reaches stand beside the step."""
    if field is DAY:
        return bool(spec.days_before_last or spec.nearest_weekdays or spec.last_weekday)
    return field is WEEKDAY and bool(spec.nth_weekdays or spec.last_weekdays)


def _round_follows_round(field: CronField, spec: CronSpec) -> bool:
    """Whether the field alone makes the gaps, over two rounds in a row.

    The minutes of one hour alone have no gap to the next, and of two day fields neither makes the gaps by itself.
    """
    if field is MINUTE:
        return any((hour + 1) % 24 in spec.hours for hour in spec.hours)
    if field is HOUR and spec.both_days and len(spec.weekdays) and not _has_marks(WEEKDAY, spec):
        return any((day + 1) % 7 in spec.weekdays for day in spec.weekdays)
    if field is DAY:
        return len(spec.weekdays) == 7
    return field is not WEEKDAY or len(spec.days) == 31


def _values(field: CronField, spec: CronSpec) -> Sequence[int]:
    if field is MINUTE:
        return spec.minutes
    if field is HOUR:
        return spec.hours
    return sorted(spec.days if field is DAY else spec.months if field is MONTH else spec.weekdays)


def _gaps(field: CronField, values: Sequence[int], spec: CronSpec) -> Iterable[int]:
    if field is not DAY:
        yield from (later - earlier for earlier, later in pairwise([*values, values[0] + field.size]))
        return
    lengths = sorted({length for month in spec.months for length in _LENGTHS_OF_MONTHS.get(month, (31,))})
    for length in reversed(lengths):
        days = [day for day in values if day <= length]
        if days:
            yield from (later - earlier for earlier, later in pairwise([*days, days[0] + length]))


def _words(field: CronField, item: str, step: int, gaps: Sequence[int]) -> str:
    numbers = [str(gap) for gap in gaps]
    listed = numbers[0] if len(numbers) == 1 else f"{', '.join(numbers[:-1])} and {numbers[-1]}"
    gap_words = "the gap is" if len(gaps) == 1 else "the gaps are"
    divisors = "" if field is DAY else f", or a step that divides {field.size}"
    remedy = f"use an interval of {step} {field.unit}{divisors}" if field is not MONTH else "name the months"
    return (
        f"{item} in the {field.title} starts again in each {field.restarts}: {gap_words} {listed} {field.unit}. "
        f"For even gaps {remedy}."
    )
