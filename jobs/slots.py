"""The coming slots of a baseline, for people to look at. Pure; what really runs next is the governor's to say."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from scheduling.cron.cadence import CronError, parse_cadence
from scheduling.cron.steps import uneven_steps
from scheduling.cron.zones import check_timezone
from scheduling.plan.interval import Interval

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Slot:
    """A planned time, in UTC, and as the clock of the zone shows it."""

    at: datetime
    local: str


def upcoming_slots(
    *,
    interval_ms: int | None,
    cron: str | None,
    run_once_at: datetime | None,
    timezone: str,
    starts_at: datetime | None,
    ends_at: datetime | None,
    anchor_at: datetime,
    after: datetime,
    count: int = 10,
) -> list[Slot]:
    """Up to `count` slots strictly after `after` and inside [starts_at, ends_at); exactly one baseline is set.

    The grid of an interval starts at `anchor_at`. A zone that is not known here is shown as UTC.
    """
    earliest = max(after + _TICK, starts_at) if starts_at is not None else after + _TICK
    if cron is not None:
        instants = parse_cadence(cron, timezone).slots_after(earliest - _TICK, count)
    elif interval_ms is not None:
        if starts_at is None or starts_at < anchor_at:
            earliest = max(earliest, anchor_at + _TICK)
        instants = Interval.of(interval_ms, anchor_at, starts_at, timezone).slots_after(earliest - _TICK, count)
    else:
        instants = [run_once_at] if run_once_at is not None and run_once_at >= earliest else []
    zone = _zone(timezone)
    return [
        Slot(instant, instant.astimezone(zone).isoformat())
        for instant in instants
        if ends_at is None or instant < ends_at
    ]


def _zone(timezone: str) -> tzinfo:
    try:
        return check_timezone(timezone)
    except CronError:
        return UTC


@dataclass(frozen=True, slots=True)
class ScheduleWarning:
    """What a person may not expect of a schedule that is accepted. `gaps` are the different ones, in `unit`."""

    code: str
    text: str
    unit: str
    gaps: tuple[int, ...]


def schedule_warnings(cron: str | None) -> list[ScheduleWarning]:
    """The warnings of a cron expression; none where there is none, or where it cannot be read here."""
    if cron is None:
        return []
    try:
        return [ScheduleWarning("uneven_steps", step.text, step.unit, step.gaps) for step in uneven_steps(cron)]
    except CronError:
        return []
