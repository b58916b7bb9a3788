"""What the planner does without rules or a model: slow down what never changes.

Pure. It stays inside what the owner allowed: only an endpoint with a max_interval_ms of its own is ever slowed down.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# After so many runs with the same body the interval doubles, once: whatever comes is met at most one interval later.
RUNS_UNCHANGED = 10
SLOWER = 2
RUNS_NEEDED = RUNS_UNCHANGED + 1
# A hint lives at most a day and must outlive its interval.
LONGEST_SLOW_INTERVAL_MS = 12 * 3_600_000


@dataclass(frozen=True, slots=True)
class SlowDown:
    """A wish for a longer interval, and why."""

    interval_ms: int
    reason: str


def slow_down(digests: Sequence[str | None], interval_ms: int | None, max_interval_ms: int | None) -> SlowDown | None:
    """A longer interval for a body that has not changed for many runs; None where nothing is to be slowed down.

    `digests` are those of the latest runs, newest first, None for a run that failed or had no response. Endpoints
    without an interval of their own (cron, once) are left alone.
    """
    if interval_ms is None or max_interval_ms is None or max_interval_ms <= interval_ms:
        return None
    unchanged = 0
    while unchanged < len(digests) and digests[unchanged] is not None and digests[unchanged] == digests[0]:
        unchanged += 1
    if unchanged <= RUNS_UNCHANGED:
        return None
    slower_ms = min(interval_ms * SLOWER, max_interval_ms, LONGEST_SLOW_INTERVAL_MS)
    if slower_ms <= interval_ms:
        return None
    return SlowDown(slower_ms, f"the response did not change for {RUNS_UNCHANGED} runs, and usually does not now")
