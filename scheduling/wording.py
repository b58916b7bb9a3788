"""How times and durations read in a decision's sentence. Pure."""

from datetime import datetime, timedelta

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))


def duration_words(duration: timedelta | int) -> str:
    """A duration in at most two units, as in `1 h 30 min`; an integer means milliseconds."""
    total = duration if isinstance(duration, int) else duration // timedelta(milliseconds=1)
    if total < 1_000:
        return f"{total} ms"
    parts = []
    for unit, size in _UNITS:
        count, total = divmod(total, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def instant_words(instant: datetime, now: datetime) -> str:
    """A time of day in UTC; the date too when it is another day than `now`'s."""
    clock = instant.strftime("%H:%M:%S").removesuffix(":00") if instant.second == 0 else instant.strftime("%H:%M:%S")
    return f"{clock} UTC" if instant.date() == now.date() else f"{instant:%Y-%m-%d} {clock} UTC"
