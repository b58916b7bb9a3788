"""How long to wait: before a retry, by a server's Retry-After, and by an endpoint's own jitter. Pure, no randomness."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from uuid import UUID

FIRST_RETRY_MS = 2_000
MAX_RETRY_MS = 300_000
RETRY_SPREAD = 0.1
MAX_RETRY_AFTER = timedelta(hours=24)
BELIEVABLE_RETRY_AFTER = timedelta(days=366)

_DELAY_SECONDS = re.compile(r"[0-9]{1,10}")
_HTTP_DATE = re.compile(r"[A-Za-z]{3,9}[, ][ -~]{10,35}")


def retry_delay_ms(attempt: int, *, seed: str) -> int:
    """Milliseconds between the failed attempt (counted from 1) and the next: 2 s, doubling up to 5 min, plus a spread.

    The spread is up to 10 % of the delay, the same for the same seed and attempt, and none for an empty seed: it keeps
    endpoints that failed together from coming back together. Raises ValueError for an attempt below 1.
    """
    if attempt < 1:
        raise ValueError(f"Attempts count from 1, not {attempt}.")
    base = MAX_RETRY_MS
    if attempt < MAX_RETRY_MS.bit_length():
        base = min(FIRST_RETRY_MS * 2 ** (attempt - 1), MAX_RETRY_MS)
    if not seed:
        return base
    return base + int(base * RETRY_SPREAD * _fraction(f"{seed}:{attempt}".encode()))


def parse_retry_after(value: str, now: datetime) -> datetime | None:
    """The instant that a Retry-After header asks to wait for, at most 24 h from `now` (RFC 9110, 10.2.3).

    Takes delay-seconds and the three forms of an HTTP-date. None for anything else, for a date in the past, and for
    more than a year, which no server means.
    """
    value = value.strip(" \t")
    if _DELAY_SECONDS.fullmatch(value):
        delay = timedelta(seconds=int(value))
    elif _HTTP_DATE.fullmatch(value):
        try:
            date = parsedate_to_datetime(value)
            # The asctime form names no zone, and every HTTP-date is UTC.
            delay = (date if date.tzinfo is not None else date.replace(tzinfo=UTC)) - now
        except (ValueError, OverflowError):
            return None
    else:
        return None
    if not timedelta(0) <= delay <= BELIEVABLE_RETRY_AFTER:
        return None
    return now + min(delay, MAX_RETRY_AFTER)


def stable_jitter(endpoint_id: UUID, jitter_ms: int) -> timedelta:
    """The endpoint's own delay in whole milliseconds: uniform over ids in [0, jitter_ms], always the same for an id."""
    return timedelta(milliseconds=int(_fraction(endpoint_id.bytes) * (jitter_ms + 1)))


def _fraction(data: bytes) -> float:
    """A number in [0, 1) by which the data is known again."""
    # 53 bits are what a float holds exactly: more could round up to 1.
    return (int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> 11) / 2**53
