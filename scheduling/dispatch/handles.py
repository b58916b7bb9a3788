"""Whether this process has file handles left: without one no call can be made, and no target is to blame."""

import errno
import logging
import os
import resource
import threading
import time
from contextlib import suppress

from cronicorn.logging import Event, log_event

logger = logging.getLogger(__name__)

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
# The process, its log, its database connections, name look-ups, and what libraries open for a moment.
BESIDE_CALLS = 150
# A call holds one, two while its socket is handed to libcurl or its name is looked up.
PER_CALL = 2
# How long an answer counts. Calls that failed of it end at about the same time, some after a handle became free.
REMEMBERED_NS = 1_000_000_000
SAID_EVERY_NS = 10_000_000_000


def needed_for(concurrency: int) -> int:
    """How many handles a scheduler with so many calls in flight may need."""
    return concurrency * PER_CALL + BESIDE_CALLS


def raise_limit() -> int:
    """Raises the soft limit of open files to the hard one, which needs no privilege; returns the limit in force."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit if limit != resource.RLIM_INFINITY else 2**31


class FileHandles:
    """Finds out whether handles ran out. Safe from any thread."""

    def __init__(self) -> None:
        self._kept = os.open(os.devnull, os.O_RDONLY)
        self._lock = threading.Lock()
        self._found_ns = self._said_ns = -(2**62)

    def exhausted(self) -> bool:
        """Whether none is left, or was within the last second. Costs one system call; asked only when a call failed."""
        now_ns = time.monotonic_ns()
        if now_ns - self._found_ns < REMEMBERED_NS:
            return True
        try:
            os.close(os.dup(self._kept))
        except OSError as error:
            if error.errno not in EXHAUSTED:
                return False
            self.note(error.errno)
            return True
        return False

    def note(self, number: int) -> None:
        """Takes an error number of the operating system; those of exhausted handles are remembered, and said."""
        if number not in EXHAUSTED:
            return
        now_ns = time.monotonic_ns()
        with self._lock:
            self._found_ns = now_ns
            if now_ns - self._said_ns < SAID_EVERY_NS:
                return
            self._said_ns = now_ns
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        log_event(logger, Event.FILES_EXHAUSTED, logging.ERROR, limit=limit)

    def close(self) -> None:
        """Frees the handle that is kept for asking."""
        os.close(self._kept)
