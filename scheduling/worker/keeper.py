"""Watches over the calls in hand: renews leases, stops calls that may no longer be made, and beats."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import Error, connection

from cronicorn.logging import Event, log_event
from cronicorn.runtime.clock import boot_seconds
from jobs.heartbeats import beat
from jobs.models import WorkerKind
from scheduling.dispatch import Dispatcher
from scheduling.ledger.claims import Claim
from scheduling.ledger.gate import recheck
from scheduling.ledger.leases import Hold, Reaped, hold_of, holds_of, reap_own, release, renew
from scheduling.plan.row import Consequence
from scheduling.worker.book import Book, InHand
from scheduling.worker.starter import Starter

logger = logging.getLogger(__name__)

BEAT_EVERY = 5.0
CHECK_EVERY = 0.2
AGAIN_AFTER = 2.0
# After a failure the database may still be committing, or be another one: so often it is looked at again.
LOOKS_AFTER_A_FAILURE = 3


def log_reaped(reaped: Iterable[Reaped]) -> None:
    """Writes what was taken from lost workers to the log."""
    for item in reaped:
        facts = {"endpoint": item.endpoint_id, "run": item.run_id, "lost_worker": item.worker, "losses": item.losses}
        log_event(logger, Event.RUN_REAPED, logging.WARNING, **facts, consequence=item.consequence)
        if item.consequence is Consequence.PAUSE:
            log_event(logger, Event.ENDPOINT_PAUSED, logging.ERROR, **facts)


class Keeper:
    """Renews every third of a lease, and looks at the rows of waiting calls every CHECK_EVERY seconds.

    What could not be renewed for `usable_for` seconds, the worker gives up itself. That time is counted on a clock
    that goes on while the process or the machine is stopped, so that a worker that wakes after its lease ran out
    cancels its calls first of all. A statement may hang for as long as a network swallows packets: then
    `fence_overdue`, called by a thread that needs no database, is what cancels. `on_freed` is called when calls left
    the book without having started, so that their slots can be filled. `facts` are added to the heartbeat.

    Leases in this worker's name that it does not know of are given up at once: a claim whose answer was lost, or one
    that a database without its last commits holds for settled calls. Each was looked at after the end of every claim
    that may have taken it.
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
        on_freed: Callable[[], None] = lambda: None,
        facts: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._worker = worker
        self._dispatcher = dispatcher
        self._book = book
        self._starter = starter
        self._lease = lease
        self._usable_for = usable_for
        self._concurrency = concurrency
        self._on_freed = on_freed
        self._facts = facts
        self._renewed_at = self._tried_again_at = self._beaten_at = float("-inf")
        self._missed: set[UUID] = set()
        self._looked_at = float("-inf")
        self._looks_wanted = 0
        self._suspects: frozenset[Hold] = frozenset()
        self._suspects_from = 0
        self._withdrawing = threading.Lock()
        self._withdrawn: dict[Hold, Claim] = {}

    def tick(self) -> None:
        """Does what is due: self-fencing, a renewal, the look at waiting calls, a heartbeat, giving back."""
        now = boot_seconds()
        self.fence_overdue()
        try:
            self._renew_due(now)
            self._recheck_waiting()
            self._give_up_forgotten(now)
            if now - self._beaten_at >= BEAT_EVERY:
                facts = {"in_hand": len(self._book), "concurrency": self._concurrency, **self._facts()}
                beat(worker=self._worker, kind=WorkerKind.SCHEDULER, facts=facts)
                self._beaten_at = now
            self._release_withdrawn()
        except Error as error:
            log_event(logger, Event.RENEW_FAILED, logging.WARNING, worker=self._worker, error=str(error).strip())
            connection.close()
            self.look_for_forgotten()

    def look_for_forgotten(self) -> None:
        """Has the next ticks look for leases in this worker's name that it does not know of. Safe from any thread."""
        self._looks_wanted = LOOKS_AFTER_A_FAILURE

    def give_back(self, claims: Iterable[Claim]) -> None:
        """Has claims that were not called released by the ticks to come. Safe from any thread."""
        with self._withdrawing:
            self._withdrawn.update((hold_of(claim), claim) for claim in claims)

    def fence_overdue(self) -> None:
        """Cancels the calls whose leases may have run out or are lost. Needs no database.

        Cancelled again each time, since the call may just have been starting.
        """
        now = boot_seconds()
        for run_id, entry in self._book.entries().items():
            if now - entry.secured_at > self._usable_for:
                self._give_up(run_id, entry, "not renewed")
            elif entry.given_up and not entry.ended:
                self._dispatcher.cancel(run_id)

    def _renew_due(self, now: float) -> None:
        """Renews all leases every third of their length, and those that a lock kept from it once more in between."""
        entries = self._book.entries()
        if now - self._renewed_at >= self._lease / 3:
            self._renew(entries, now)
            self._renewed_at = self._tried_again_at = now
        elif self._missed and now - self._tried_again_at >= AGAIN_AFTER:
            self._renew({run_id: entry for run_id, entry in entries.items() if run_id in self._missed}, now)
            self._tried_again_at = now

    def _renew(self, entries: Mapping[UUID, InHand], now: float) -> None:
        held = [hold_of(entry.claim) for entry in entries.values()]
        renewal = renew(worker=self._worker, held=held, lease=timedelta(seconds=self._lease))
        self._missed = set()
        for run_id, entry in entries.items():
            hold = hold_of(entry.claim)
            if hold in renewal.kept:
                entry.secured_at = now
            elif hold in renewal.locked:
                # Most locks are this worker's own settling, over in a moment: a fresh lease waits for the next round.
                if now - entry.secured_at >= self._lease / 6:
                    self._missed.add(run_id)
            elif not entry.ended and self._book.get(run_id) is not None:
                self._give_up(run_id, entry, "taken over")

    def _give_up(self, run_id: UUID, entry: InHand, why: str) -> None:
        """Stops a call whose lease is gone; one that still waits is stopped by the starter at its time. Said once."""
        if not entry.given_up:
            entry.given_up = True
            log_event(logger, Event.LEASE_LOST, logging.ERROR, worker=self._worker, run=run_id, why=why)
        self._dispatcher.cancel(run_id)

    def _recheck_waiting(self) -> None:
        waiting = {run_id: entry.claim for run_id, entry in self._starter.waiting().items()}
        if not waiting:
            return
        found = recheck(worker=self._worker, waiting=waiting)
        self._forget([run_id for run_id in found.lost if self._starter.withdraw(run_id)])
        for claim in found.edited:
            self._starter.edit(claim)
        for run_id in (*found.stopped, *found.moved):
            if self._starter.withdraw(run_id):
                self.give_back([waiting[run_id]])

    def _give_up_forgotten(self, now: float) -> None:
        """Looks for unknown leases every third of a lease and after failures, and gives up those that stay unknown."""
        if self._suspects:
            # A claim that was under way at the look may have put them into the book since.
            if self._book.claims_ended < self._suspects_from:
                return
            forgotten, self._suspects = self._suspects - self._known(), frozenset()
            if forgotten:
                log_reaped(reap_own(worker=self._worker, holds=forgotten))
                self._on_freed()
        wait = AGAIN_AFTER if self._looks_wanted < LOOKS_AFTER_A_FAILURE else 0.0
        if now - self._looked_at < (wait if self._looks_wanted else self._lease / 3):
            return
        self._suspects = holds_of(self._worker) - self._known()
        self._suspects_from = self._book.claims_begun
        self._looked_at, self._looks_wanted = now, max(self._looks_wanted - 1, 0)

    def _known(self) -> frozenset[Hold]:
        """What this worker knows that it holds."""
        with self._withdrawing:
            withdrawn = frozenset(self._withdrawn)
        return withdrawn | {hold_of(entry.claim) for entry in self._book.entries().values()}

    def _release_withdrawn(self) -> None:
        """Gives withdrawn claims back; what is locked, or fails with the database, is left for the next tick."""
        with self._withdrawing:
            withdrawn = dict(self._withdrawn)
        if not withdrawn:
            return
        released = release(worker=self._worker, claims=list(withdrawn.values()))
        settled = {hold: claim for hold, claim in withdrawn.items() if hold not in released.locked}
        with self._withdrawing:
            for hold in settled:
                del self._withdrawn[hold]
        self._forget([claim.run_id for claim in settled.values() if claim.run_id is not None])

    def _forget(self, run_ids: Sequence[UUID]) -> None:
        if run_ids:
            self._book.remove(run_ids)
            self._on_freed()
