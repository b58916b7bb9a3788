"""The sleep of the claim loop: it ends at its own time, or sooner when another thread learns of something to do."""

import threading

from cronicorn.runtime.clock import monotonic_ns
from cronicorn.runtime.stopping import Stop

LONGEST_NAP_S = 0.1


class Alarm:
    """Set by any thread, slept on by one. What is learned between `reset` and `sleep` is not missed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_ns: int | None = None

    def reset(self) -> None:
        """Forgets earlier alarms; called before a look at the database, which sees what they stood for."""
        with self._changed:
            self._at_ns = None

    def ring(self) -> None:
        """Ends the sleep now."""
        self.ring_at(0)

    def ring_at(self, at_ns: int) -> None:
        """Ends the sleep at a monotonic time, in nanoseconds; a later one than is set already changes nothing."""
        with self._changed:
            if self._at_ns is None or at_ns < self._at_ns:
                self._at_ns = at_ns
                self._changed.notify()

    def sleep(self, seconds: float, stop: Stop) -> None:
        """Sleeps for `seconds` at most; notices a stop within LONGEST_NAP_S."""
        end_ns = monotonic_ns() + int(seconds * 1e9)
        with self._changed:
            while not stop.requested():
                at_ns = end_ns if self._at_ns is None else min(end_ns, self._at_ns)
                left = (at_ns - monotonic_ns()) / 1e9
                if left <= 0:
                    return
                self._changed.wait(min(left, LONGEST_NAP_S))
