"""Whether the work of a process goes on: when it last succeeded, and since when it fails. Told to health checks."""

import threading
from dataclasses import dataclass

from cronicorn.runtime.clock import boot_seconds


@dataclass(frozen=True, slots=True)
class Standing:
    """Seconds since the last success (None: none yet) and since the first failure after it (None: it does not fail)."""

    succeeded_ago: float | None
    failing_for: float | None


class Progress:
    """One kind of work. Any thread reports, any thread reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = boot_seconds()
        self._succeeded: float | None = None
        self._failing: float | None = None

    def succeeded(self) -> None:
        """The work was done, or there was none to do."""
        with self._lock:
            self._succeeded, self._failing = boot_seconds(), None

    def failed(self) -> None:
        """The work could not be done now."""
        with self._lock:
            if self._failing is None:
                self._failing = boot_seconds()

    def standing(self) -> Standing:
        """How it stands at this moment."""
        with self._lock:
            now = boot_seconds()
            return Standing(
                None if self._succeeded is None else now - self._succeeded,
                None if self._failing is None else now - self._failing,
            )

    def idle_for(self) -> float:
        """Seconds since the last success, or since the beginning without one."""
        with self._lock:
            return boot_seconds() - (self._began if self._succeeded is None else self._succeeded)
