"""How long a server asks to be left alone: Retry-After and rate-limit headers, read leniently. Pure.

Sources: RFC 9110, 10.2.3 (Retry-After) and 5.6.7 (dates); draft-ietf-httpapi-ratelimit-headers, revisions 06 to 10
(`RateLimit-Remaining`, `RateLimit: limit=..., remaining=0, reset=30`, `RateLimit: "default";r=0;t=30`); the `X-`
headers of GitHub (reset as a Unix time), Discord (`X-RateLimit-Reset-After`) and others (durations such as `6m0s`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MAX_WAIT = timedelta(hours=24)
# A server's clock may be wrong by hours; a `Date` that is further away comes from a cache or from a dead clock.
BELIEVABLE_CLOCK_ERROR = timedelta(hours=24)
# What is read of one header: enough for dozens of values, and little to read of a hostile one.
MAX_READ_LENGTH = 2_048

_RETRY_AFTER, _DATE = "retry-after", "date"
_RATE_LIMIT_PREFIXES = ("ratelimit", "rate-limit", "x-ratelimit", "x-rate-limit")
_LARGEST_NUMBER = 1e30
_LARGEST_NUMBER_OF_SECONDS = 1e9
# Larger numbers are Unix times: a delay of three years is not meant, and 1973 is no time to come.
_FIRST_UNIX_TIME = 100_000_000
# Larger numbers count milliseconds or less: in seconds they would be the year 5138.
_FIRST_UNIX_MILLISECOND = 100_000_000_000

_NUMBER = re.compile(r"\+?[0-9]+(?:\.[0-9]*)?")
_PARTS_OF_DURATION = re.compile(
    r"([0-9]{1,15}(?:\.[0-9]{0,15})?) ?(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)"
)
_DURATION = re.compile(rf"(?:{_PARTS_OF_DURATION.pattern}(?![a-z]) ?){{1,5}}")
# ISO 8601, from days down: a month has no length.
_ISO_DURATION = re.compile(r"p([0-9.]{1,15}d)?(?:t([0-9.hms]{1,60}))?")
# Parameters and comments, in which servers say why.
_BESIDE = re.compile(r"[;(].*", re.DOTALL)
_WEEKDAY = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}", re.IGNORECASE)
_DATE_TEXT = re.compile(r"[A-Za-z0-9][ -~]{14,44}")
_SECONDS_OF_UNIT = {"ms": 0.001, "mil": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class ServerWait:
    """A server asked to be left alone until `until`, at most 24 h ahead; `reason` fits after "because"."""

    until: datetime
    reason: str


def is_wait_header(name: str) -> bool:
    """Whether the header `name`, in lower case, may ask to wait."""
    return name == _RETRY_AFTER or name.startswith(_RATE_LIMIT_PREFIXES)


def asked_wait(status_code: int | None, headers: Iterable[tuple[str, str]], received_at: datetime) -> ServerWait | None:
    """The longest wait that a response asks for, or None; never raises, whatever the headers contain.

    `headers` have names in lower case; repeated lines stand for themselves or joined by commas. Retry-After counts on
    every status but 2xx, where it asks for no rest. A rate limit with nothing remaining counts on every status.
    Instants are compared with the server's own `Date` where that is believable, with `received_at` elsewhere.
    """
    if status_code is None:
        return None
    given = [(name, _readable(value)) for name, value in headers if name == _DATE or is_wait_header(name)]
    if all(name == _DATE for name, _ in given):
        return None
    server_now = _server_now(given, received_at)
    asked: list[tuple[timedelta, str]] = []
    if not 200 <= status_code <= 299:
        delays = [
            delay
            for name, value in given
            if name == _RETRY_AFTER
            for item in _items(value)
            if (delay := _delay(item, server_now, unix_times=False)) is not None
        ]
        asked += [(delay, "with Retry-After") for delay in delays]
    asked += [(delay, "with no calls left in its rate limit") for delay in _rate_limit_delays(given, server_now)]
    if not asked:
        return None
    delay, how = max(asked)
    if delay <= timedelta(0):
        return None
    return ServerWait(received_at + min(delay, MAX_WAIT), f"it answered {status_code} {how}")


def _readable(value: str) -> str:
    """The value as far as it is read; of a list that is cut, the last item may be half a number and is left out."""
    if len(value) <= MAX_READ_LENGTH:
        return value
    cut = value[:MAX_READ_LENGTH]
    return cut.rpartition(",")[0] or cut


def _server_now(given: Iterable[tuple[str, str]], received_at: datetime) -> datetime:
    """The time by the server's clock, or `received_at` where the server does not tell a believable one."""
    for name, value in given:
        for item in _items(value) if name == _DATE else ():
            date = _instant(item)
            if date is not None and abs(date - received_at) <= BELIEVABLE_CLOCK_ERROR:
                return date
    return received_at


def _items(value: str) -> Iterator[str]:
    """The items of a comma-separated list, in which the comma after a weekday belongs to its date."""
    weekday = ""
    for part in value.split(","):
        item = part.strip(" \t\"'")
        if _WEEKDAY.fullmatch(item):
            weekday = f"{item}, "
            continue
        yield weekday + item
        weekday = ""


def _delay(item: str, server_now: datetime, *, unix_times: bool) -> timedelta | None:
    """How long from `server_now` one value asks to wait, zero for the past; None where it cannot be read.

    Fractions of a second are rounded up. With `unix_times` a large number is a Unix time, in seconds or less.
    """
    item = _BESIDE.sub("", item).rstrip()
    if _NUMBER.fullmatch(item):
        number = min(float(item), _LARGEST_NUMBER)
        if unix_times and number >= _FIRST_UNIX_TIME:
            number = _unix_seconds(number) - server_now.timestamp()
        return _seconds(number)
    if (found := _duration_seconds(item.lower())) is not None:
        return _seconds(found)
    date = _instant(item)
    return None if date is None else max(date - server_now, timedelta(0))


def _duration_seconds(item: str) -> float | None:
    """The seconds of `90s`, `6m0s`, `2 minutes` or `pt1m30s`; None for anything else."""
    if (iso := _ISO_DURATION.fullmatch(item)) is not None:
        item = (iso[1] or "") + (iso[2] or "")
    if not _DURATION.fullmatch(item):
        return None
    return sum(float(number) * _seconds_of(unit) for number, unit in _PARTS_OF_DURATION.findall(item))


def _seconds_of(unit: str) -> float:
    return next(_SECONDS_OF_UNIT[unit[:length]] for length in (3, 2, 1) if unit[:length] in _SECONDS_OF_UNIT)


def _unix_seconds(number: float) -> float:
    """A Unix time in seconds, given in seconds, milliseconds, microseconds or nanoseconds."""
    for _ in range(3):
        if number >= _FIRST_UNIX_MILLISECOND:
            number /= 1_000
    return number


def _seconds(number: float) -> timedelta:
    """Rounded up to whole seconds; nothing below zero, and nothing far beyond `MAX_WAIT`."""
    return min(timedelta(seconds=math.ceil(max(min(number, _LARGEST_NUMBER_OF_SECONDS), 0))), 2 * MAX_WAIT)


def _instant(item: str) -> datetime | None:
    """The instant that an HTTP-date in any of its three forms, or an ISO 8601 time, names; without a zone it is UTC."""
    if not _DATE_TEXT.fullmatch(item):
        return None
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            instant = read(item)
            return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
        except (ValueError, OverflowError, TypeError, IndexError):
            continue
    return None


def _rate_limit_delays(given: Iterable[tuple[str, str]], server_now: datetime) -> Iterator[timedelta]:
    """The resets of all limits with nothing remaining."""
    remaining: dict[str, list[str]] = {}
    resets: dict[str, list[str]] = {}
    for name, value in given:
        if name in (_RETRY_AFTER, _DATE):
            continue
        if "remaining" in name:
            remaining.setdefault(_limit_of(name, "remaining"), []).extend(_items(value))
        elif "reset" in name:
            resets.setdefault(_limit_of(name, "reset"), []).extend(_items(value))
        elif name in _RATE_LIMIT_PREFIXES:
            yield from _structured_delays(value, server_now)
    for limit, left in remaining.items():
        yield from _exhausted(left, resets.get(limit, []), server_now)


def _limit_of(name: str, word: str) -> str:
    """What two headers of one limit have in common: `x-ratelimit-reset-after` and `x-ratelimit-remaining` belong."""
    rest = name.replace(word, "").removesuffix("-after") if word == "reset" else name.replace(word, "")
    return rest.replace("rate-limit", "ratelimit").replace("--", "-").strip("-")


def _exhausted(left: list[str], resets: list[str], server_now: datetime) -> Iterator[timedelta]:
    """The delays of the resets whose own limit has nothing left; unequal lists cannot be paired, and all count."""
    used_up = [_is_nothing(item) for item in left]
    pairs = zip(used_up, resets, strict=True) if len(left) == len(resets) else ((any(used_up), item) for item in resets)
    for nothing_left, item in pairs:
        delay = _delay(item, server_now, unix_times=True) if nothing_left else None
        if delay is not None:
            yield delay


def _is_nothing(item: str) -> bool:
    number = item.removeprefix("-")
    return bool(_NUMBER.fullmatch(number)) and (item.startswith("-") or float(number) < 1)


_QUOTED = re.compile(r'"[^"]*"')
_PARAMETER = re.compile(r"\s*([a-z]+)\s*=\s*(.*?)\s*")


def _structured_delays(value: str, server_now: datetime) -> Iterator[timedelta]:
    """The delays of a `RateLimit` field: items with parameters (`"default";r=0;t=30`) or one dictionary."""
    left: list[str] = []
    resets: list[str] = []
    for item in _QUOTED.sub("", value).split(","):
        parameters = {
            match[1]: match[2] for part in item.split(";") if (match := _PARAMETER.fullmatch(part)) is not None
        }
        if "r" in parameters and "t" in parameters:
            yield from _exhausted([parameters["r"]], [parameters["t"]], server_now)
        left += [parameters[name] for name in ("remaining",) if name in parameters]
        resets += [parameters[name] for name in ("reset",) if name in parameters]
    yield from _exhausted(left, resets, server_now)
