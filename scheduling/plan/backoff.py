"""How long to wait: before a retry, after failures, and by an endpoint's own jitter. Pure, no randomness."""

from datetime import timedelta
from hashlib import blake2b
from uuid import UUID

FIRST_RETRY_MS = 2_000
MAX_RETRY_MS = 300_000
RETRY_SPREAD = 0.1


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


def backoff_gap(interval: timedelta, failing_for: timedelta) -> timedelta:
    """How long to wait after a failed run of an interval that has been failing for so long.

    The interval itself at first; it doubles once the endpoint has been failing for 1, 3, 7, 15 ... intervals, which is
    what doubling after each failed run of the interval itself would give. How many calls were made does not count.
    """
    intervals = max(failing_for, timedelta(0)) // interval
    return interval * (1 << ((intervals + 1).bit_length() - 1))


def stable_jitter(endpoint_id: UUID, jitter_ms: int) -> timedelta:
    """The endpoint's own delay in whole milliseconds: uniform over ids in [0, jitter_ms], always the same for an id."""
    return timedelta(milliseconds=int(_fraction(endpoint_id.bytes) * (jitter_ms + 1)))


def _fraction(data: bytes) -> float:
    """A number in [0, 1) by which the data is known again."""
    # 53 bits are what a float holds exactly: more could round up to 1.
    return (int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> 11) / 2**53
