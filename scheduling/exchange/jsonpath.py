"""Reads the small JSON paths of assertions and rules: `$`, `$.a.b`, `$.items[0]`, `$['odd key']`, `$.items[-1]`.

Pure. No wildcards, filters or slices: a path names one value or none.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

MAX_PATH_LENGTH = 255
MAX_ITEMS = 1_000

_STEP = re.compile(
    r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(-?[0-9]{1,6})\]|\['([^'\\\x00-\x1f]+)'\]|\[\"([^\"\\\x00-\x1f]+)\"\]"
)


class Missing:
    """The type of `MISSING`, which stands for a value that is not there (JSON null is None)."""


MISSING: Final = Missing()

Path = tuple[str | int, ...]


def parse_path(text: str) -> Path:
    """Return the steps of a path, keys as str and positions as int; raise ValueError with the position of the fault."""
    if len(text) > MAX_PATH_LENGTH:
        raise ValueError(f"A path has at most {MAX_PATH_LENGTH} characters.")
    if not text.startswith("$"):
        raise ValueError("A path starts with $, such as $.queue_depth.")
    steps: list[str | int] = []
    position = 1
    while position < len(text):
        step = _STEP.match(text, position)
        if step is None:
            raise ValueError(f"The path is not understood at position {position + 1}.")
        name, index, single, double = step.groups()
        steps.append(int(index) if index is not None else name or single or double)
        position = step.end()
    return tuple(steps)


def lookup(document: object, path: Path) -> object:
    """Return the value at `path`, or `MISSING` where a key, a position or a container is not there."""
    value = document
    for step in path:
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                return MISSING
            value = value[step]
        else:
            if not isinstance(value, list) or not -len(value) <= step < len(value):
                return MISSING
            value = value[step]
    return value


OPERATORS: Final = ("==", "!=", ">", ">=", "<", "<=", "contains", "exists")


def compare(actual: object, operator: str, expected: object) -> bool:
    """Whether `actual operator expected` holds; never raises for an operator of `OPERATORS`.

    Types are not converted: 1 is neither true nor "1", though 1 equals 1.0. Order exists between two numbers or two
    strings only. `contains` looks into a string or the first 1,000 items of a list. A missing value satisfies `exists`
    false and nothing else.
    """
    if operator == "exists":
        return (actual is not MISSING) is (expected is not False)
    if actual is MISSING:
        return False
    match operator:
        case "==":
            return _equal(actual, expected)
        case "!=":
            return not _equal(actual, expected)
        case "contains":
            if isinstance(actual, str):
                return isinstance(expected, str) and expected in actual
            return isinstance(actual, list) and any(_equal(item, expected) for item in islice(actual, MAX_ITEMS))
        case _:
            return _ordered(actual, operator, expected)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(left: object, right: object) -> bool:
    if _is_number(left) and _is_number(right):
        return left == right
    return type(left) is type(right) and left == right


def _ordered(left: object, operator: str, right: object) -> bool:
    comparable = (_is_number(left) and _is_number(right)) or (isinstance(left, str) and isinstance(right, str))
    if not comparable:
        return False
    if left == right:
        return operator in (">=", "<=")
    greater: bool = left > right  # type: ignore[operator]
    return greater is operator.startswith(">")
