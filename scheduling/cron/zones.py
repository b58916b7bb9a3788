"""Zones as stretches of constant UTC offset, and which zone names are accepted.

The rules are those that `cronicorn.runtime.zonedata` chose: the import of it makes sure that they are chosen.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cronicorn.runtime.zonedata import rules_version
from scheduling.cron.fields import CronError

__all__ = ["HORIZON_YEARS", "Segment", "check_timezone", "instant_at", "rules_version", "zone_names"]

HORIZON_YEARS = 8
_FIRST_YEAR, _LAST_YEAR = 2, 9998
_DAY = timedelta(days=1)


def check_timezone(name: str) -> ZoneInfo:
    """The zone of a name, spelled exactly as the IANA database spells it; raises CronError with a suggestion."""
    zones = _zones()
    if zones.get(name.lower()) == name:
        return ZoneInfo(name)
    meant = zones.get(name.lower())
    remedy = f"did you mean {meant}?" if meant else "use a name such as Europe/Berlin or UTC."
    raise CronError(f"{name[:40]!a} is not an IANA time zone; {remedy}", code="invalid_timezone")


def zone_names() -> list[str]:
    """All names that are accepted, in order."""
    return sorted(_zones().values())


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """The accepted zone names by their lower-case spelling, without placeholders and what depends on the machine."""
    refused = {"Factory", "localtime", "posixrules"}
    names = (name for name in available_timezones() if not name.startswith(("posix/", "right/")))
    return {name.lower(): name for name in names if name not in refused}


def instant_at(zone: ZoneInfo, wall: datetime) -> datetime:
    """When the clock of a zone shows a naive time, in UTC.

    The first of two such instants; the first instant after the gap for a time that the clock skips.
    """
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    change = _change_between(zone, before.replace(tzinfo=None), instant.replace(tzinfo=None))
    return change.replace(tzinfo=UTC)


class Segment(NamedTuple):
    """A stretch of constant offset, in naive UTC: [start, end)."""

    start: datetime
    end: datetime
    offset: timedelta
    opens_at: datetime  # the wall clock at its start
    fresh_from: datetime  # the first wall-clock time that no earlier segment has shown: before opens_at after a skip


def segments_from(zone: str, first: datetime, last: datetime | None = None) -> Iterator[Segment]:
    """The segments that reach beyond `first`, up to `last` or the horizon."""
    end_year = min(last.year if last else first.year + HORIZON_YEARS + 1, _LAST_YEAR)
    for year in range(max(first.year, _FIRST_YEAR), end_year + 1):
        for segment in _segments(zone, year):
            if segment.end > first and (last is None or segment.start <= last):
                yield segment


def segments_back(zone: str, last: datetime) -> Iterator[Segment]:
    """The segments that begin at `last` or earlier, backwards as far as the horizon."""
    for year in range(min(last.year, _LAST_YEAR), max(last.year - HORIZON_YEARS - 2, _FIRST_YEAR - 1), -1):
        for segment in reversed(_segments(zone, year)):
            if segment.start <= last:
                yield segment


@lru_cache(maxsize=4096)
def _segments(zone: str, year: int) -> tuple[Segment, ...]:
    """The segments of a UTC year, cut at its ends.

    In no zone of tzdata 2026 are two changes of offset less than 3.9 days apart, nor is one larger than a day: a look
    at every midnight misses none, and three days of lead show what the last year's end still repeats.
    """
    info = ZoneInfo(zone)
    begin, end = datetime(year, 1, 1), datetime(year + 1, 1, 1)  # noqa: DTZ001
    midnight = begin - 3 * _DAY
    changes = [(midnight, _offset(info, midnight))]
    while midnight < end:
        offset = _offset(info, midnight + _DAY)
        if offset != changes[-1][1]:
            changes.append((_change_between(info, midnight, midnight + _DAY), offset))
        midnight += _DAY
    segments = []
    for index, (at, offset) in enumerate(changes):
        stop = changes[index + 1][0] if index + 1 < len(changes) else end
        opens_at = max(at, begin) + offset
        shown_until = at + (changes[index - 1][1] if index else offset)
        fresh_from = shown_until if at >= begin else max(shown_until, opens_at)
        if begin < stop and at < end:
            segments.append(Segment(max(at, begin), min(stop, end), offset, opens_at, fresh_from))
    return tuple(segments)


def _offset(info: ZoneInfo, naive_utc: datetime) -> timedelta:
    # A zone that came from ZoneInfo always knows its offset; `or` tells the type checker.
    return naive_utc.replace(tzinfo=UTC).astimezone(info).utcoffset() or timedelta(0)


def _change_between(info: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The second in (low, high] from which the offset differs from that at `low`."""
    before = _offset(info, low)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if _offset(info, middle) == before:
            low = middle
        else:
            high = middle
    return high
