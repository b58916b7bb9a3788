"""Compares what the target received with what `runs` says: nothing early, nothing twice, nothing lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.db import connection

from bench.figures import Figure


@dataclass(frozen=True)
class Receipt:
    """One request as the target saw it, by the wall clock of this machine, in seconds since 1970."""

    received_at: float
    path: str
    slot_at: float
    delivery: str
    attempt: int


def read_receipts(file: Path, *, prefix: str = "/e/") -> list[Receipt]:
    """The requests to paths with the prefix, in the order in which they were received."""
    receipts = []
    for line in file.read_text(encoding="utf-8").splitlines():
        received_ns, path, slot, delivery, attempt = line.split("\t")
        if path.startswith(prefix):
            slot_at = datetime.fromisoformat(slot).timestamp()
            receipts.append(Receipt(int(received_ns) / 1e9, path, slot_at, delivery, int(attempt)))
    return receipts


def invariants(measure: str, receipts: Iterable[Receipt], *, expected: int | None = None) -> list[Figure]:
    """Early, doubled and lost calls; each must be 0. Called once no scheduler runs any more.

    Early: received before the slot, by the target's clock, or started before it was due, by the database's. Doubled:
    received again for the same slot. Lost: a finished run that the target never saw, a request without a run, a run
    without an end, and slots short of `expected` where that is known.
    """
    receipts = list(receipts)
    seen = Counter((receipt.delivery, receipt.attempt) for receipt in receipts)
    slots = Counter(receipt.delivery for receipt in receipts)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*) FILTER (WHERE started_at < due_at),
                   count(*) FILTER (WHERE status = 'success'),
                   count(*) FILTER (WHERE status NOT IN ('success', 'missed')),
                   COALESCE(sum(1 + coalesced_slots), 0)
            FROM runs
            """
        )
        started_early, successes, others, served = cursor.fetchone()
    received_early = sum(receipt.received_at < receipt.slot_at for receipt in receipts)
    lost = abs(successes - len(seen)) + others + (max(expected - int(served), 0) if expected is not None else 0)
    return [
        Figure(measure, "early starts", max(started_early, received_early), "calls"),
        Figure(measure, "doubled calls", sum(slots.values()) - len(slots), "calls"),
        Figure(measure, "lost slots", lost, "calls"),
    ]
