"""Bounded waiting for what other processes do."""

import threading
from collections.abc import Iterator

INTERVAL_S = 0.02


def attempts(timeout_s: float) -> Iterator[int]:
    """Yield at once and then every 20 ms until `timeout_s` has passed."""
    pause = threading.Event()
    for attempt in range(int(timeout_s / INTERVAL_S)):
        yield attempt
        pause.wait(INTERVAL_S)
