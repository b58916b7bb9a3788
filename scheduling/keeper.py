"""Watches over the calls in hand: renews leases, stops calls that may no longer be made, and beats."""

import logging
from datetime import timedelta
from uuid import UUID

from django.db import Error, connection

from cronicorn.logging import Event, log_event
from cronicorn.runtime.clock import boot_seconds
from jobs.heartbeats import beat
from jobs.models import WorkerKind
from scheduling.book import Book
from scheduling.dispatch import Dispatcher
from scheduling.gate import recheck
from scheduling.leases import release, renew
from scheduling.starter import Starter

logger = logging.getLogger(__name__)

BEAT_EVERY = 5.0
CHECK_EVERY = 0.2


class Keeper:
    """Renews every third of a lease, and looks at the rows of waiting calls every CHECK_EVERY seconds.

    What could not be renewed for `usable_for` seconds, the worker gives up itself. That time is counted on a clock
    that goes on while the process or the machine is stopped, so that a worker that wakes after its lease ran out
    cancels its calls first of all.
    """

    def __init__(
        self,
        *,
        worker: str,
        dispatcher: Dispatcher,
        book: Book,
        starter: Starter,
        lease: float,
        usable_for: float,
        concurrency: int,
    ) -> None:
        self._worker = worker
        self._dispatcher = dispatcher
        self._book = book
        self._starter = starter
        self._lease = lease
        self._usable_for = usable_for
        self._concurrency = concurrency
        self._renewed_at = self._beaten_at = float("-inf")

    def tick(self) -> None:
        """Does what is due: self-fencing, the look at waiting calls, a renewal, a heartbeat."""
        now = boot_seconds()
        self._fence_overdue(now)
        try:
            self._recheck_waiting()
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
            if now - entry.secured_at > self._usable_for:
                self._give_up(run_id, "not renewed")

    def _renew(self, now: float) -> None:
        entries = self._book.entries()
        held = [(entry.claim.endpoint_id, entry.claim.fence) for entry in entries.values()]
        kept = renew(worker=self._worker, held=held, lease=timedelta(seconds=self._lease))
        for run_id, entry in entries.items():
            if entry.claim.endpoint_id in kept:
                entry.secured_at = now
            elif self._book.get(run_id) is not None:
                self._give_up(run_id, "taken over")

    def _give_up(self, run_id: UUID, why: str) -> None:
        """Stops a call whose lease is gone; one that still waits is stopped by the starter at its time."""
        log_event(logger, Event.LEASE_LOST, logging.ERROR, worker=self._worker, run=run_id, why=why)
        self._dispatcher.cancel(run_id)

    def _recheck_waiting(self) -> None:
        waiting = {run_id: entry.claim for run_id, entry in self._starter.waiting().items()}
        if not waiting:
            return
        found = recheck(worker=self._worker, waiting=waiting)
        for run_id in found.lost:
            if self._starter.withdraw(run_id):
                self._book.remove([run_id])
        for claim in found.edited:
            self._starter.edit(claim)
        withdrawn = [run_id for run_id in found.stopped if self._starter.withdraw(run_id)]
        if withdrawn:
            release(worker=self._worker, claims=[waiting[run_id] for run_id in withdrawn])
            self._book.remove(withdrawn)
