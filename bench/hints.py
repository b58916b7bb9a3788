"""How soon a hint on an endpoint that is due in an hour becomes a call."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from uuid import UUID

from bench import rows
from bench.figures import Figure, spread
from bench.lateness import timer_lateness
from bench.ledger import invariants
from bench.place import empty
from bench.processes import Scheduler, target
from jobs.models import Author
from jobs.services import set_interval_hint, set_oneshot_hint

HOUR = timedelta(hours=1)
TTL_MS = 3_600_000
PER_SECOND = 10


def measure(url: str, seconds: float) -> list[Figure]:
    """Writes hints, ten a second, each on an endpoint of its own, half of them one-shots and half intervals."""
    empty()
    count = max(int(PER_SECOND * seconds), 2)
    with target() as server, Scheduler(url) as scheduler:
        # They were made 36 minutes ago, so that a new interval of 30 minutes is over already.
        first_due_at = rows.clock() + HOUR * 0.4
        rows.fill(count, port=server.port, interval=HOUR, first_due_at=first_due_at, step=timedelta(milliseconds=1))
        rows.analyze()
        timer_lateness(1, 1)
        written: dict[str, tuple[float, float]] = {}
        pause = threading.Event()
        for number, endpoint_id in enumerate(rows.endpoint_ids()):
            begin = time.time()
            _hint(endpoint_id, oneshot=number % 2 == 0)
            written[f"/e/{number}"] = begin, time.time()
            pause.wait(1 / PER_SECOND)
        pause.wait(2)
        scheduler.stop()
    received = {item.path: item.received_at for item in server.receipts}
    after = [(received[path] - begin) * 1000 for path, (begin, _) in written.items() if path in received]
    writing = spread([(end - begin) * 1000 for begin, end in written.values()])
    name, what, beside = "hint to call", "received after the write began", "the write itself"
    return [
        *(Figure(name, f"{what}, {part}", value, "ms", beside, writing[part]) for part, value in spread(after).items()),
        *invariants(name, server.receipts, expected=count),
    ]


def _hint(endpoint_id: UUID, *, oneshot: bool) -> None:
    if oneshot:
        set_oneshot_hint(endpoint_id=endpoint_id, next_run_in_ms=0, ttl_ms=TTL_MS, reason="bench", author=Author.USER)
    else:
        set_interval_hint(
            endpoint_id=endpoint_id, interval_ms=30 * 60_000, ttl_ms=TTL_MS, reason="bench", author=Author.USER
        )
