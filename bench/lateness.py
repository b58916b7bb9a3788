"""How late calls start at a steady rate, by the database and by the target, beside the machine's own noise."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from django.db import connection

from bench import rows
from bench.figures import Figure, spread
from bench.ledger import invariants
from bench.place import empty
from bench.processes import Scheduler, cpu_seconds, target

RATES = (100, 500, 1_000)
INTERVAL = timedelta(seconds=10)
LEAD = timedelta(seconds=3)
# Calls claimed ahead hold slots: a second's worth of them, and room for those under way.
OPTIONS = ("--concurrency", "2000", "--batch-size", "500", "--per-host", "100")
# Calls of the first seconds meet caches that are empty; they are checked, but not counted as steady.
SETTLING_S = 2.0


def measure(url: str, seconds: float, *, rates: tuple[int, ...] = RATES) -> list[Figure]:
    """Offers each rate to one scheduler for the given time."""
    return [figure for rate in rates for figure in _at(url, rate, seconds)]


def _at(url: str, rate: int, seconds: float) -> list[Figure]:
    empty()
    count = int(rate * INTERVAL.total_seconds())
    with target() as server, Scheduler(url, *OPTIONS) as scheduler:
        # Filling takes a moment, too.
        first_due_at = rows.clock() + LEAD + timedelta(seconds=count / 5_000)
        rows.fill(count, port=server.port, interval=INTERVAL, first_due_at=first_due_at, step=INTERVAL / count)
        rows.analyze()
        begin = (first_due_at - rows.clock()).total_seconds() + SETTLING_S
        assert begin > 0, "The endpoints were due before they were all written."
        threading.Event().wait(begin)
        cpu = cpu_seconds(scheduler.pid)
        noise = timer_lateness(rate, seconds)
        cpu = cpu_seconds(scheduler.pid) - cpu
        scheduler.stop()
    window = (first_due_at + timedelta(seconds=SETTLING_S), first_due_at + timedelta(seconds=SETTLING_S + seconds))
    expected = int(rate * (SETTLING_S + seconds))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM started_at - due_at)::float8 * 1000 FROM runs WHERE due_at >= %s AND due_at < %s"
            " AND started_at IS NOT NULL",
            window,
        )
        started = [row[0] for row in cursor.fetchall()]
    low, high = (moment.timestamp() for moment in window)
    received = [(item.received_at - item.slot_at) * 1000 for item in server.receipts if low <= item.slot_at < high]
    name = f"lateness at {rate:,}/s"
    timer = spread([late * 1000 for late in noise])
    return [
        *(_beside(name, "started after due", part, value, timer[part]) for part, value in spread(started).items()),
        *(_beside(name, "received after due", part, value, timer[part]) for part, value in spread(received).items()),
        Figure(name, "offered", len(started) / seconds, "per s"),
        Figure(name, "scheduler CPU", cpu / seconds * 100, "% of a core"),
        *invariants(name, server.receipts, expected=expected),
    ]


def timer_lateness(rate: float, seconds: float) -> list[float]:
    """How late, in seconds, a bare thread wakes that sleeps until one moment after the other."""
    pause, late = threading.Event(), []
    begin = time.monotonic()
    for number in range(int(rate * seconds)):
        due = begin + (number + 1) / rate
        while (left := due - time.monotonic()) > 0:
            pause.wait(left)
        late.append(time.monotonic() - due)
    return late


def _beside(name: str, what: str, part: str, value: float | None, limit: float | None) -> Figure:
    return Figure(name, f"{what}, {part}", value, "ms", "bare timer thread", limit)
