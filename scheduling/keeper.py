"""Keeps the leases of the calls in hand, cancels calls whose lease is gone, and shows that the worker lives."""

import logging
from datetime import timedelta

from django.db import Error, connection

from cronicorn.logging import Event, log_event
from cronicorn.runtime.clock import boot_seconds
from jobs.heartbeats import beat
from jobs.models import WorkerKind
from scheduling.book import Book
from scheduling.claims import renew
from scheduling.dispatch import Dispatcher

logger = logging.getLogger(__name__)

BEAT_EVERY = 5.0
CHECK_EVERY = 0.5


class Keeper:
    """Renews every third of a lease. What could not be renewed for three quarters of one, the worker gives up itself.

    The time since a renewal is counted on a clock that goes on while the process or the machine is stopped, so that
    a worker that wakes after its lease ran out cancels its calls first of all.
    """

    def __init__(self, *, worker: str, dispatcher: Dispatcher, book: Book, lease: float, concurrency: int) -> None:
        self._worker = worker
        self._dispatcher = dispatcher
        self._book = book
        self._lease = lease
        self._concurrency = concurrency
        self._renewed_at = self._beaten_at = float("-inf")

    def tick(self) -> None:
        """Does what is due: self-fencing, a renewal, a heartbeat. Called every CHECK_EVERY seconds."""
        now = boot_seconds()
        self._fence_overdue(now)
        try:
            if now - self._renewed_at >= self._lease / 3:
                self._renew(now)
                self._renewed_at = now
            if now - self._beaten_at >= BEAT_EVERY:
                facts = {"in_hand": len(self._book), "concurrency": self._concurrency}
                beat(worker=self._worker, kind=WorkerKind.SCHEDULER, facts=facts)
                self._beaten_at = now
        except Error as error:
            log_event(logger, Event.RENEW_FAILED, logging.WARNING, worker=self._worker, error=str(error).strip())
            connection.close()

    def _fence_overdue(self, now: float) -> None:
        for run_id, entry in self._book.entries().items():
            if now - entry.secured_at > self._lease * 0.75:
                log_event(logger, Event.LEASE_LOST, logging.ERROR, worker=self._worker, run=run_id, why="not renewed")
                self._dispatcher.cancel(run_id)

    def _renew(self, now: float) -> None:
        entries = self._book.entries()
        held = [(entry.claim.endpoint_id, entry.claim.fence) for entry in entries.values()]
        kept = renew(worker=self._worker, held=held, lease=timedelta(seconds=self._lease))
        for run_id, entry in entries.items():
            if entry.claim.endpoint_id in kept:
                entry.secured_at = now
            elif self._book.get(run_id) is not None:
                log_event(logger, Event.LEASE_LOST, logging.ERROR, worker=self._worker, run=run_id, why="taken over")
                self._dispatcher.cancel(run_id)
