"""JSON as its author wrote it: read strictly, with the text kept beside the value. Pure.

A value alone loses the spelling of numbers (`19.90`, `1e3`, `0.1234567890123456789`) and, in jsonb, the order of keys.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scheduling.exchange.bodies import MAX_JSON_DEPTH, MAX_JSON_DIGITS, MAX_JSON_KEYS

# A request has room for half a million items; no writer takes as many as this.
MOST_ITEMS = 1_000
_BLANKS = re.compile(r"[ \t\n\r]*+")
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SCALAR = re.compile(r"[^\s,\]}]++")
_MARK = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


class MalformedJsonError(ValueError):
    """The text is not JSON, or JSON that two readers could take differently; `code` names the fault."""

    def __init__(self, message: str, code: str = "malformed") -> None:
        self.code = code
        super().__init__(message)


class WrittenObject(dict[str, Any]):
    """A JSON object with its `text`."""

    def __init__(self, value: dict[str, Any], text: str) -> None:
        super().__init__(value)
        self.text = text


class WrittenList(list[Any]):
    """A JSON array with its `text`."""

    def __init__(self, value: list[Any], text: str) -> None:
        super().__init__(value)
        self.text = text


@dataclass(frozen=True, slots=True)
class WrittenJson:
    """JSON to be passed on by its text."""

    text: str


def text_of(value: object) -> str | None:
    """The text of an object or array as it was written; None where only the value is known."""
    return value.text if isinstance(value, WrittenObject | WrittenList) else None


def written(value: object) -> str:
    """The text of a JSON value: as it was written where that is known, else compact."""
    return text_of(value) or json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_json(text: str) -> object:
    """The value of a JSON text; an object or array comes with its text.

    So do the objects and arrays that are its members, and those of the objects in its arrays of up to 1,000 items: of
    these a writer keeps the text. Refused: the same key twice, NaN and infinities (also by overflow), more than 1,000
    keys in an object, integers of over 64 digits, more than 32 levels. Raises MalformedJsonError.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_float=_finite, parse_int=_bounded, parse_constant=_constant
        )
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        raise MalformedJsonError(f"{error.msg} at line {error.lineno}, column {error.colno}.") from None
    if _is_too_deep(value):
        raise _too_deep()
    start = _end_of(_BLANKS, text, 0)
    if isinstance(value, dict):
        return WrittenObject(_with_texts(text, start, value), text[start : _value_end(text, start)])
    if isinstance(value, list):
        return _list_with_texts(text, start, _value_end(text, start), value)
    return value


def _with_texts(text: str, start: int, value: dict[str, Any]) -> dict[str, Any]:
    """The object at `start`, with the texts of its members."""
    members: dict[str, Any] = {}
    for key, begin, end in _members(text, start):
        member = value[key]
        if isinstance(member, dict):
            member = WrittenObject(member, text[begin:end])
        elif isinstance(member, list):
            member = _list_with_texts(text, begin, end, member)
        members[key] = member
    return members


def _list_with_texts(text: str, start: int, end: int, value: list[Any]) -> WrittenList:
    """The array at `start`, with the texts of the members of its objects."""
    items = value
    if len(value) <= MOST_ITEMS and any(isinstance(item, dict) for item in value):
        places = _items(text, start)
        items = [
            WrittenObject(_with_texts(text, begin, item), text[begin:stop]) if isinstance(item, dict) else item
            for item, (begin, stop) in zip(value, places, strict=True)
        ]
    return WrittenList(items, text[start:end])


def _members(text: str, start: int) -> Iterator[tuple[str, int, int]]:
    """Key, beginning and end of each member of the object at `start` of valid JSON."""
    at = _end_of(_BLANKS, text, start + 1)
    while text[at] == '"':
        key_end = _end_of(_STRING, text, at)
        begin = _end_of(_BLANKS, text, _end_of(_BLANKS, text, key_end) + 1)
        end = _value_end(text, begin)
        yield json.loads(text[at:key_end]), begin, end
        at = _end_of(_BLANKS, text, end)
        if text[at] == "}":
            return
        at = _end_of(_BLANKS, text, at + 1)


def _items(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of each item of the array at `start` of valid JSON."""
    at = _end_of(_BLANKS, text, start + 1)
    while text[at] != "]":
        end = _value_end(text, at)
        yield at, end
        at = _end_of(_BLANKS, text, end)
        if text[at] == ",":
            at = _end_of(_BLANKS, text, at + 1)


def _value_end(text: str, at: int) -> int:
    """Where the value that begins at `at` ends."""
    if text[at] == '"':
        return _end_of(_STRING, text, at)
    if text[at] not in "[{":
        return _end_of(_SCALAR, text, at)
    depth = 0
    for mark in _MARK.finditer(text, at):
        if mark[0] in ("[", "{"):
            depth += 1
        elif mark[0] in ("]", "}"):
            depth -= 1
            if not depth:
                return mark.end()
    return len(text)


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found is not None else at


def _too_deep() -> MalformedJsonError:
    return MalformedJsonError(f"The JSON is nested deeper than {MAX_JSON_DEPTH} levels.", code="too_deep")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MAX_JSON_KEYS:
        raise MalformedJsonError(f"A JSON object has more than {MAX_JSON_KEYS} keys.", code="too_many_keys")
    result = dict(pairs)
    if len(result) < len(pairs):
        raise MalformedJsonError("A JSON object has the same key twice.", code="duplicate_key")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedJsonError("A JSON number is out of range.")
    return value


def _bounded(text: str) -> int:
    if len(text) > MAX_JSON_DIGITS:
        raise MalformedJsonError(f"A JSON integer has more than {MAX_JSON_DIGITS} digits.")
    return int(text)


def _constant(name: str) -> float:
    raise MalformedJsonError("JSON has no NaN and no infinities.")


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [part for item in level for part in _parts(item)]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)


def _parts(item: object) -> list[object]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []
