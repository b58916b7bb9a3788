"""Says when a call counts as a success: accepted statuses and assertions on what came back.

Pure. The stored form is JSON: `{"status": [200, "202-204"], "assertions": [{"path": "$.ok", "op": "==", "value": true},
{"body_contains": "ready"}, {"max_duration_ms": 500}]}`; both keys may be left out. Regular expressions are no part
of it: Python's engine cannot be stopped once it backtracks.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, cast

from scheduling.exchange.bodies import Unparsable, clean_str, safe_json
from scheduling.exchange.jsonpath import OPERATORS, Path, compare, lookup, parse_path

MAX_STATUS_ENTRIES = 20
MAX_ASSERTIONS = 20
MAX_TEXT_LENGTH = 1_000
MAX_DURATION_MS = 900_000
DEFAULT_STATUS = ((200, 299),)

_RANGE = re.compile(r"([1-9][0-9]{2})-([1-9][0-9]{2})")


class CriteriaError(ValueError):
    """The success criteria are refused: `field` says where (`assertions[0].path`), `message` why, as one sentence."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}" if field else message)


@dataclass(frozen=True, slots=True)
class JsonAssertion:
    """The value at `path` of the JSON body compares to `value`."""

    path: str
    steps: Path
    op: str
    value: str | int | float | bool | None

    def to_json(self) -> dict[str, object]:
        return {"path": self.path, "op": self.op, "value": self.value}


@dataclass(frozen=True, slots=True)
class BodyContains:
    """The body text has `text` in it, case and all."""

    text: str

    def to_json(self) -> dict[str, object]:
        return {"body_contains": self.text}


@dataclass(frozen=True, slots=True)
class MaxDuration:
    """The whole call took at most `limit_ms`."""

    limit_ms: int

    def to_json(self) -> dict[str, object]:
        return {"max_duration_ms": self.limit_ms}


Assertion = JsonAssertion | BodyContains | MaxDuration


@dataclass(frozen=True, slots=True)
class SuccessCriteria:
    """Accepted statuses as inclusive ranges, and assertions that must all hold."""

    status: tuple[tuple[int, int], ...] = DEFAULT_STATUS
    assertions: tuple[Assertion, ...] = ()

    def accepts_status(self, code: int) -> bool:
        for low, high in self.status:  # noqa: SIM110  a generator would cost more than the comparison
            if low <= code <= high:
                return True
        return False

    def failed_assertion(
        self, text: str, *, truncated: bool, duration_ms: float, unread: str | None = None
    ) -> str | None:
        """Return the first assertion that does not hold, as one sentence; None when all hold.

        `truncated` says that `text` is only the beginning of the body: what is not found in it counts as absent, and
        JSON that was cut cannot be read. `unread` says in words what of the body could not be read.
        """
        if not self.assertions:
            return None
        cut = f" {unread}" if unread else " The body was cut at the size limit." if truncated else ""
        document: object = None
        if any(isinstance(assertion, JsonAssertion) for assertion in self.assertions):
            document = safe_json(text)
        for assertion in self.assertions:
            match assertion:
                case JsonAssertion(path=path, steps=steps, op=op, value=value):
                    if isinstance(document, Unparsable):
                        return f"{document.reason}{cut}"
                    if not compare(lookup(document, steps), op, value):
                        return _unmet(path, op, value)
                case BodyContains(text=wanted):
                    if wanted not in text:
                        return f"The body does not contain {_shown(wanted)}.{cut}"
                case MaxDuration(limit_ms=limit_ms) if duration_ms > limit_ms:
                    return f"The call took {math.ceil(duration_ms)} ms, over the {limit_ms} ms that are allowed."
        return None

    def to_json(self) -> dict[str, object]:
        """Return the stored form; `parse_success_criteria` reads it back to an equal value."""
        return {
            "status": [low if low == high else f"{low}-{high}" for low, high in self.status],
            "assertions": [assertion.to_json() for assertion in self.assertions],
        }


ANY_2XX = SuccessCriteria()


def parse_success_criteria(value: object) -> SuccessCriteria:
    """Read the JSON form; None and `{}` mean the default, any 2xx. Raise `CriteriaError` at the first fault."""
    if value is None:
        return ANY_2XX
    fields = _mapping(value, "", {"status", "assertions"})
    status = _parse_status(fields["status"]) if "status" in fields else DEFAULT_STATUS
    items = _list(fields.get("assertions", []), "assertions", 0, MAX_ASSERTIONS)
    return SuccessCriteria(status, tuple(_parse_assertion(item, f"assertions[{at}]") for at, item in enumerate(items)))


def _parse_status(value: object) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for at, item in enumerate(_list(value, "status", 1, MAX_STATUS_ENTRIES)):
        field = f"status[{at}]"
        if isinstance(item, int) and not isinstance(item, bool) and 100 <= item <= 999:
            ranges.append((item, item))
            continue
        found = _RANGE.fullmatch(item) if isinstance(item, str) else None
        if found is None:
            raise CriteriaError(field, 'Expected a status such as 204 or a range such as "200-299".')
        low, high = int(found[1]), int(found[2])
        if low > high:
            raise CriteriaError(field, "The range ends before it begins.")
        ranges.append((low, high))
    return tuple(ranges)


def _parse_assertion(value: object, field: str) -> Assertion:
    if not isinstance(value, dict):
        raise CriteriaError(field, "Expected an object.")
    if "body_contains" in value:
        text = _mapping(value, field, {"body_contains"})["body_contains"]
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_TEXT_LENGTH:
            raise CriteriaError(f"{field}.body_contains", f"Expected a text of 1 to {MAX_TEXT_LENGTH} characters.")
        return BodyContains(_storable(text, f"{field}.body_contains"))
    if "max_duration_ms" in value:
        limit = _mapping(value, field, {"max_duration_ms"})["max_duration_ms"]
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_DURATION_MS:
            raise CriteriaError(f"{field}.max_duration_ms", f"Expected a whole number of 1 to {MAX_DURATION_MS}.")
        return MaxDuration(limit)
    if "path" not in value:
        raise CriteriaError(field, "Expected one of path, body_contains, max_duration_ms.")
    return _parse_json_assertion(_mapping(value, field, {"path", "op", "value"}), field)


def _parse_json_assertion(fields: dict[str, Any], field: str) -> JsonAssertion:
    path, op = fields["path"], fields.get("op", "==")
    if not isinstance(path, str):
        raise CriteriaError(f"{field}.path", "Expected a path such as $.status.")
    _storable(path, f"{field}.path")
    try:
        steps = parse_path(path)
    except ValueError as error:
        raise CriteriaError(f"{field}.path", str(error)) from None
    if not isinstance(op, str) or op not in OPERATORS:
        raise CriteriaError(f"{field}.op", f"Expected one of {' '.join(OPERATORS)}.")
    if "value" not in fields and op != "exists":
        raise CriteriaError(f"{field}.value", "A value to compare with is missing.")
    value = fields.get("value", True)
    if op == "exists" and not isinstance(value, bool):
        raise CriteriaError(f"{field}.value", "Expected true or false.")
    if not isinstance(value, str | int | float | None):
        raise CriteriaError(f"{field}.value", "Expected a text, a number, true, false or null.")
    if isinstance(value, str) and len(_storable(value, f"{field}.value")) > MAX_TEXT_LENGTH:
        raise CriteriaError(f"{field}.value", f"Expected at most {MAX_TEXT_LENGTH} characters.")
    if isinstance(value, float) and not math.isfinite(value):
        raise CriteriaError(f"{field}.value", "Expected a finite number.")
    if isinstance(value, int) and abs(value) >= 10**64:
        raise CriteriaError(f"{field}.value", "Expected a number of at most 64 digits.")
    return JsonAssertion(path, steps, op, value)


def _mapping(value: object, field: str, known: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CriteriaError(field, "Expected an object.")
    for key in value:
        if key not in known:
            where = f"{field}.{key}" if field else str(key)
            raise CriteriaError(where, "This field is not known.")
    return cast("dict[str, Any]", value)


def _list(value: object, field: str, least: int, most: int) -> list[object]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise CriteriaError(field, f"Expected a list of {least} to {most} entries.")
    return value


def _storable(text: str, field: str) -> str:
    """Return `text`; raise `CriteriaError` where jsonb would refuse it or a cleaned body could never hold it."""
    if clean_str(text) != text:
        raise CriteriaError(field, "The text has control characters or lone surrogates.")
    return text


def _unmet(path: str, op: str, value: object) -> str:
    if op == "exists":
        return f"{path} must be absent." if value is False else f"{path} must exist."
    return f"{path} is not {op} {_shown(value)}."


def _shown(value: object) -> str:
    """Return the value that the owner compares with, short enough for an error message."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
