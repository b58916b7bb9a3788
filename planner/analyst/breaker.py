"""Keeps the planner from asking a model that refuses or does not answer: open for a while, then one question tries.

Each process has its own. What it found out by itself it publishes in its heartbeat, where the others read it.
"""

import threading

from cronicorn.runtime.clock import monotonic_ns
from planner.analyst.conversation import ModelError

REFUSED_SECONDS = 600.0
FAILING_SECONDS = 300.0
RATE_LIMIT_SECONDS = 30.0
FAILURES_IN_A_ROW = 5


class Breaker:
    """Closed: ask. Open: do not, until its time is over; then one question tries. Shared by the threads of a pass."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until_ns = self._own_until_ns = 0
        self._why = self._own_why = ""
        self._failures = 0
        self._doubtful = False

    def heed(self, error: ModelError | None) -> bool:
        """Notes how an analysis went, None is well; returns whether this opened it.

        A refusal opens it for ten minutes, a service that asks for time for as long as it asks, and other errors for
        five minutes: the fifth in a row, or the one that meets the first question after it was open.
        """
        with self._lock:
            if error is None:
                self._failures, self._doubtful = 0, False
                return False
            self._failures += 1
            if error.hopeless:
                seconds = REFUSED_SECONDS
            elif error.kind == "rate_limited" or error.retry_after is not None:
                seconds = error.retry_after or RATE_LIMIT_SECONDS
            elif self._doubtful or self._failures >= FAILURES_IN_A_ROW:
                seconds = FAILING_SECONDS
            else:
                return False
            opened = self._open(f"{error.kind}: {error}", seconds)
            self._own_why, self._own_until_ns = self._why, self._until_ns
            return opened

    def adopt(self, why: str, seconds: float) -> None:
        """Opens on the word of another planner, which is not published again."""
        with self._lock:
            self._open(why, seconds)

    def _open(self, why: str, seconds: float) -> bool:
        """Opens for `seconds`; returns whether it was closed before. A longer time that runs already is kept."""
        was_closed = self._until_ns <= monotonic_ns()
        until_ns = monotonic_ns() + int(seconds * 1e9)
        if until_ns > self._until_ns:
            self._until_ns, self._why = until_ns, why
        self._doubtful = True
        return was_closed

    def why_open(self) -> str | None:
        """Why it is open; None when it is closed."""
        with self._lock:
            return self._why if self._until_ns > monotonic_ns() else None

    def doubtful(self) -> bool:
        """Whether it was open and nothing has gone well since."""
        with self._lock:
            return self._doubtful

    def published(self) -> tuple[str, float] | None:
        """Why this process itself opened it, and for how many seconds more; None when it is closed."""
        with self._lock:
            left = (self._own_until_ns - monotonic_ns()) / 1e9
            return (self._own_why, left) if left > 0 else None
