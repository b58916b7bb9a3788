"""The only module that reads a clock. Instants come from the database, so that all workers agree on them."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any


def database_now(cursor: Any) -> datetime:
    """The database's wall clock at this very moment, not at the start of the transaction."""
    cursor.execute("SELECT clock_timestamp()")
    instant: datetime = cursor.fetchone()[0]
    return instant


def machine_now() -> datetime:
    """This machine's wall clock in UTC, for answers that must not touch the database; never for a plan."""
    return datetime.now(UTC)


def monotonic_ns() -> int:
    """Nanoseconds that never go back and are not moved by changes of the wall clock."""
    return time.monotonic_ns()


def boot_seconds() -> float:
    """Seconds since the machine started, counting time asleep and time a process was stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True, slots=True)
class _Reading:
    """The database's time at a monotonic time of this process, in nanoseconds."""

    instant: datetime
    at_ns: int

    def instant_at(self, monotonic: int) -> datetime:
        return self.instant + timedelta(microseconds=(monotonic - self.at_ns) // 1000)


class DatabaseClock:
    """The database's time as this process knows it between its statements, never ahead of the real one.

    A statement that returned `clock_timestamp()` bounds the offset on both sides: the database read its clock after
    the statement was sent and before its answer came. The highest lower bound is kept for as long as no upper bound
    contradicts it, so a call that waits for this clock is never early, and late by less than the fastest round trip.
    One thread observes, any thread reads.
    """

    def __init__(self) -> None:
        # Replaced as a whole: a reader between two fields would be off by the time since the last replacement.
        self._reading: _Reading | None = None

    def observe(self, instant: datetime, sent_ns: int, answered_ns: int) -> timedelta:
        """Takes a reading between two monotonic times; returns by how much it moved the clock against its bounds."""
        reading = self._reading
        if reading is None:
            self._reading = _Reading(instant, answered_ns)
            return timedelta(0)
        too_slow = instant - reading.instant_at(answered_ns)
        too_fast = reading.instant_at(sent_ns) - instant
        if too_slow > timedelta(0) or too_fast > timedelta(0):
            self._reading = _Reading(instant, answered_ns)
        return too_slow if too_slow > timedelta(0) else -max(too_fast, timedelta(0))

    def instant_at(self, monotonic: int) -> datetime:
        """The database's time at a monotonic time of this process. Raises RuntimeError before the first reading."""
        return self._known().instant_at(monotonic)

    def monotonic_at(self, instant: datetime) -> int:
        """The monotonic time of this process, in nanoseconds, at a time of the database."""
        reading = self._known()
        return reading.at_ns + (instant - reading.instant) // timedelta(microseconds=1) * 1000

    def _known(self) -> _Reading:
        if self._reading is None:
            raise RuntimeError("The database's clock has not been read yet.")
        return self._reading
