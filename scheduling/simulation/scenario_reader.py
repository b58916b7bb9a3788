"""Takes the fields of a scenario's JSON objects one by one, strictly: every fault has its path and its remedy. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

MAX_DURATION = timedelta(days=3660)
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"(?=\d)(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,7})m(?!s))?(?:(\d{1,9})s)?(?:(\d{1,12})ms)?")


@dataclass(frozen=True, slots=True)
class ScenarioFault:
    """One thing wrong at one path, such as `endpoints[2].timezone`; an empty path is the file as a whole."""

    path: str
    message: str


class ScenarioError(ValueError):
    """The scenario cannot be played; every fault is named."""

    def __init__(self, *faults: ScenarioFault) -> None:
        self.faults = faults
        super().__init__(
            "\n".join(f"{fault.path}: {fault.message}" if fault.path else fault.message for fault in faults)
        )


def load_document(text: str) -> object:
    """The JSON value of a text; raises ScenarioError for what is not JSON or names a field twice."""
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except ScenarioError:
        raise
    except (ValueError, RecursionError) as error:
        raise ScenarioError(ScenarioFault("", f"This is not JSON: {error}. Mend the file there.")) from None


class Reader:
    """Takes fields out of one JSON object; what is wrong is noted as a fault and read as None or the default."""

    def __init__(
        self, values: Mapping[str, Any], path: str, faults: list[ScenarioFault], start: datetime | None = None
    ) -> None:
        self._values, self._path, self._faults = values, path, faults
        self._known: set[str] = set()
        self.start = start

    def path(self, name: str) -> str:
        """The path of a field in the file."""
        return f"{self._path}.{name}" if self._path else name

    def fault(self, name: str, message: str) -> None:
        """Notes that a field, or with an empty name the object itself, is wrong."""
        self._faults.append(ScenarioFault(self.path(name) if name else self._path, message))

    def ignore(self, name: str) -> None:
        """Lets a field stand that is read elsewhere or only sometimes."""
        self._known.add(name)

    def has(self, name: str) -> bool:
        """Whether a field is given."""
        return name in self._values

    def take(self, name: str, *, required: bool) -> Any:
        """The field as it stands, None where it is not given."""
        self._known.add(name)
        if required and name not in self._values:
            self.fault(name, "This is missing; add it.")
        return self._values.get(name)

    def text(self, name: str, *, default: str | None = None, limit: int = 1000) -> str:
        """A text; one without a default is required and not empty."""
        value = self.take(name, required=default is None)
        if name in self._values and not (isinstance(value, str) and (value or default == "") and len(value) <= limit):
            self.fault(name, f"Write a text of at most {limit} characters.")
            value = None
        return value if isinstance(value, str) else default or ""

    def choice(self, name: str, choices: tuple[str, ...], *, default: str | None = None) -> str | None:
        """One of a few words; one without a default is required."""
        value = self.take(name, required=default is None)
        if name not in self._values:
            return default
        if value not in choices:
            self.fault(name, f"Write one of {', '.join(choices)}{meant(value, choices)}.")
            return None
        return str(value)

    def integer(
        self, name: str, low: int, high: int, *, default: int | None = None, required: bool = False
    ) -> int | None:
        value = self.take(name, required=required)
        if name not in self._values:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.fault(name, f"Write a whole number from {low} to {high}.")
            return default
        return value

    def instant(self, name: str, *, required: bool = True) -> datetime | None:
        """An instant, in UTC; one that is counted from the start only where the start is known."""
        value = self.take(name, required=required)
        if name not in self._values:
            return None
        offset = _duration(value[1:]) if isinstance(value, str) and value[:1] in ("+", "-") else None
        if offset is not None and self.start is not None:
            return self.start + offset if value[0] == "+" else self.start - offset
        instant = _iso_instant(value)
        if instant is None:
            counted = "" if self.start is None else ', or count from the start, as in "+1h30m"'
            self.fault(name, f'Write a time with its zone, as in "2026-03-01T00:00:00Z"{counted}.')
        return instant

    def duration(self, name: str) -> timedelta | None:
        """A duration that is required."""
        value = self.take(name, required=True)
        if name not in self._values:
            return None
        duration = _duration(value)
        if duration is None or not timedelta(0) < duration <= MAX_DURATION:
            self.fault(name, f'Write a duration of at most {MAX_DURATION.days} days, as in "30d" or "1h30m".')
            return None
        return duration

    def objects(self, name: str) -> list["Reader"]:
        """The objects of a list, each with a reader."""
        value = self.take(name, required=False)
        if name not in self._values:
            return []
        if not isinstance(value, list):
            self.fault(name, "Write a list of objects: [{...}, {...}].")
            return []
        readers = []
        for number, item in enumerate(value):
            if isinstance(item, dict):
                readers.append(Reader(item, f"{self.path(name)}[{number}]", self._faults, self.start))
            else:
                self.fault(f"{name}[{number}]", "Write an object: {...}.")
        return readers

    def object(self, name: str) -> "Reader":
        """An object; one that is not given reads as empty."""
        value = self.take(name, required=False)
        if name in self._values and not isinstance(value, dict):
            self.fault(name, "Write an object: {...}.")
        return Reader(value if isinstance(value, dict) else {}, self.path(name), self._faults, self.start)

    def finish(self) -> None:
        """Notes every field that nothing asked for."""
        for name in self._values.keys() - self._known:
            known = tuple(sorted(self._known))
            self.fault(name, f"This field is not known{meant(name, known)}; use {', '.join(known)}.")


def _duration(value: object) -> timedelta | None:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    days, hours, minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)


def _iso_instant(value: object) -> datetime | None:
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if instant is None or instant.tzinfo is None or not EARLIEST <= instant <= LATEST:
        return None
    return instant.astimezone(UTC)


def meant(value: object, choices: tuple[str, ...]) -> str:
    """The choice that was probably meant, as a remark in brackets; empty where nothing is close."""
    close = get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    return f" (did you mean {close[0]}?)" if close else ""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ScenarioError(ScenarioFault(repeated, "This field stands twice in one object; keep one of them."))
    return values


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")
