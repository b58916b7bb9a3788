"""How a long-running command ends: the first signal asks it to drain, the second ends it at once."""

import os
import signal
import threading
from types import FrameType

from cronicorn.runtime.clock import monotonic_ns

LONGEST_NAP_S = 1.0


class Stop:
    """A request to stop, set by SIGTERM or SIGINT; threads wait on it instead of sleeping.

    A signal may come while the main thread holds the lock of this very object, so the lock is one that its holder may
    take again; an ordinary event would lock itself out. A wait that misses the request in that moment ends with its
    nap.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._requested = False

    def install(self) -> None:
        """Takes over SIGTERM and SIGINT; only the main thread may call this."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            os._exit(128 + number)
        self.request()

    def request(self) -> None:
        """Asks for a stop from within the process."""
        with self._changed:
            self._requested = True
            self._changed.notify_all()

    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self._requested

    def wait(self, seconds: float) -> bool:
        """Sleeps up to `seconds`, less when a stop is asked for; returns whether one was."""
        end_ns = monotonic_ns() + int(seconds * 1e9)
        with self._changed:
            while not self._requested and (left := (end_ns - monotonic_ns()) / 1e9) > 0:
                self._changed.wait(min(left, LONGEST_NAP_S))
        return self._requested
