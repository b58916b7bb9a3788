"""Keeps the planner from asking a model that refuses: open for a while after a refusal, for this process only."""

import threading

from cronicorn.runtime.clock import monotonic_ns

OPEN_SECONDS = 600.0
RATE_LIMIT_SECONDS = 30.0


class Breaker:
    """Closed: ask. Open: do not, until its time is over. Shared by the threads of a pass."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until_ns = 0
        self._why = ""

    def open(self, why: str, seconds: float = OPEN_SECONDS) -> bool:
        """Opens for `seconds`; returns whether it was closed before. A longer time that runs already is kept."""
        with self._lock:
            was_closed = self._until_ns <= monotonic_ns()
            until_ns = monotonic_ns() + int(seconds * 1e9)
            if until_ns > self._until_ns:
                self._until_ns, self._why = until_ns, why
            return was_closed

    def why_open(self) -> str | None:
        """Why it is open; None when it is closed."""
        with self._lock:
            return self._why if self._until_ns > monotonic_ns() else None
