"""The only module that reads a clock. Instants come from the database, so that all workers agree on them."""

import time
from datetime import datetime
from typing import Any


def database_now(cursor: Any) -> datetime:
    """The database's wall clock at this very moment, not at the start of the transaction."""
    cursor.execute("SELECT clock_timestamp()")
    instant: datetime = cursor.fetchone()[0]
    return instant


def monotonic_ns() -> int:
    """Nanoseconds that never go back and are not moved by changes of the wall clock."""
    return time.monotonic_ns()


def boot_seconds() -> float:
    """Seconds since the machine started, counting time asleep and time a process was stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
