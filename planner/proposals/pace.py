"""The pace that an endpoint's own schedule keeps. Pure."""

from datetime import datetime, timedelta
from itertools import pairwise

from scheduling.cron.cadence import CronError, parse_cadence

_MILLISECOND = timedelta(milliseconds=1)
# A timetable's nights and weekends are no pace: the shortest gap of the next slots is.
_SLOTS = 5


def usual_gap_ms(interval_ms: int | None, cron: str | None, timezone: str, now: datetime) -> int | None:
    """Milliseconds between two slots of the baseline; of a cron expression the shortest of its next gaps.

    None where there is no second slot: an endpoint that runs once, or an expression that cannot be read here.
    """
    if interval_ms is not None:
        return interval_ms
    if cron is None:
        return None
    try:
        slots = parse_cadence(cron, timezone).slots_after(now, _SLOTS)
    except CronError:
        return None
    return min(((later - sooner) // _MILLISECOND for sooner, later in pairwise(slots)), default=None)
