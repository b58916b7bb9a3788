"""How times, durations and reasons read in a decision's sentence. Pure."""

from datetime import datetime, timedelta
from functools import lru_cache

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))


def duration_words(duration: timedelta | int) -> str:
    """A duration, as in `1.5 s` or `1 h 30 min`: from a minute on in its two largest units, the rest left out.

    An integer means milliseconds.
    """
    return _words(duration if isinstance(duration, int) else duration // timedelta(milliseconds=1))


@lru_cache(maxsize=1024)
def _words(total: int) -> str:
    if total < 1_000:
        return f"{total} ms"
    if total < 60_000:
        return f"{total / 1_000:g} s"
    parts = []
    for unit, size in _UNITS:
        count, total = divmod(total, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def instant_words(instant: datetime, now: datetime) -> str:
    """A time of day, given in UTC and cut to the second; the date too when it is another day than `now`'s."""
    # Several times faster than strftime, and every plan words two instants or more.
    clock = f"{instant.hour:02}:{instant.minute:02}"
    if instant.second:
        clock = f"{clock}:{instant.second:02}"
    day = instant.date()
    return f"{clock} UTC" if day == now.date() else f"{day.isoformat()} {clock} UTC"


def because(reason: str) -> str:
    """A reason as the end of a clause, with a leading blank and on one line; empty for an empty reason."""
    words = " ".join(reason.split()).rstrip(".!; ")
    return f" because {words}" if words else ""
