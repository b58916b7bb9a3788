"""How a long-running command ends: the first signal asks it to drain, the second ends it at once."""

import os
import signal
import threading
from types import FrameType


class Stop:
    """A request to stop, set by SIGTERM or SIGINT; threads wait on it instead of sleeping."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def install(self) -> None:
        """Takes over SIGTERM and SIGINT; only the main thread may call this."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._event.is_set():
            os._exit(128 + number)
        self._event.set()

    def request(self) -> None:
        """Asks for a stop from within the process."""
        self._event.set()

    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleeps up to `seconds`, less when a stop is asked for; returns whether one was."""
        return self._event.wait(seconds)
