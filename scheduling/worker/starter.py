"""Starts claimed calls on time: they wait here for their due moment, by the database's clock, and never start before.

A thread of its own does nothing else, so that a slow statement delays no call.
"""

import heapq
import itertools
import logging
import threading
from dataclasses import dataclass, field
from uuid import UUID

from accounts.vault import SecretUnavailableError
from cronicorn.logging import Event
from cronicorn.runtime.clock import DatabaseClock, boot_seconds, monotonic_ns
from cronicorn.runtime.stopping import Stop
from scheduling.dispatch import Dispatcher
from scheduling.exchange.outcome import Blame, Call, ErrorKind, Outcome
from scheduling.ledger.claims import Claim
from scheduling.worker.book import Book, InHand
from scheduling.worker.requests import bare_call, build_request

logger = logging.getLogger(__name__)

LONGEST_NAP_S = 0.1


def prepare(claim: Claim, entry: InHand, book: Book) -> Call | None:
    """The call of a claim; None for one that cannot be made, whose run then ends as failed and disturbs no other.

    The fault lies in the endpoint's own row, so it counts against the endpoint.
    """
    try:
        request = build_request(claim)
    except SecretUnavailableError as error:
        kind, message = ErrorKind.SECRET_UNAVAILABLE, str(error)
    except Exception:
        logger.exception(Event.RUN_REFUSED.value, extra={"facts": {"endpoint": claim.endpoint_id, "run": claim.run_id}})
        kind, message = ErrorKind.INTERNAL_ERROR, "The request could not be made from the endpoint's settings."
    else:
        entry.secrets = request.secrets
        return request.call
    book.hand_in(Outcome.unsent(bare_call(claim), kind, message, Blame.POLICY, monotonic_ns()))
    return None


@dataclass(order=True, slots=True)
class _Waiting:
    """A call in the queue; ties keep the order in which they came."""

    due_ns: int
    number: int
    entry: InHand = field(compare=False)
    call: Call | None = field(compare=False)


class Starter:
    """The queue of claimed calls that are not yet due. `usable_for` is how long a lease lasts without a renewal."""

    def __init__(self, *, dispatcher: Dispatcher, book: Book, clock: DatabaseClock, usable_for: float) -> None:
        self._dispatcher = dispatcher
        self._book = book
        self._clock = clock
        self._usable_for = usable_for
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._queue: list[_Waiting] = []
        self._waiting: dict[UUID, _Waiting] = {}

    def add(self, entry: InHand) -> None:
        """Takes a claim in hand and queues its call until it is due."""
        claim = entry.claim
        assert claim.run_id is not None
        self._book.add(claim.run_id, entry)
        call = prepare(claim, entry, self._book)
        if call is None:
            return
        waiting = _Waiting(self._clock.monotonic_at(claim.due_at), next(self._numbers), entry, call)
        with self._changed:
            self._waiting[claim.run_id] = waiting
            heapq.heappush(self._queue, waiting)
            if self._queue[0] is waiting:
                self._changed.notify()

    def waiting(self) -> dict[UUID, InHand]:
        """What has not started yet, by run."""
        with self._changed:
            return {run_id: waiting.entry for run_id, waiting in self._waiting.items()}

    def edit(self, claim: Claim) -> None:
        """Makes the request of a waiting claim anew after an edit; without effect on one that has started."""
        assert claim.run_id is not None
        with self._changed:
            waiting = self._waiting.get(claim.run_id)
            if waiting is not None:
                waiting.entry.claim = claim
                waiting.call = prepare(claim, waiting.entry, self._book)
                if waiting.call is None:
                    del self._waiting[claim.run_id]

    def withdraw(self, run_id: UUID) -> bool:
        """Takes a call out of the queue; returns False when it has started already."""
        with self._changed:
            waiting = self._waiting.pop(run_id, None)
            if waiting is None:
                return False
            waiting.call = None
            return True

    def start_due(self) -> None:
        """Starts what is due."""
        while True:
            with self._changed:
                if not self._queue or self._queue[0].due_ns > monotonic_ns():
                    return
                waiting = heapq.heappop(self._queue)
                call = waiting.call
                if call is None:
                    continue
                del self._waiting[call.run_id]
            self._start(call, waiting.entry)

    def run(self, stop: Stop) -> None:
        """Starts calls as they fall due until a stop is requested."""
        while not stop.requested():
            self.start_due()
            with self._changed:
                left = (self._queue[0].due_ns - monotonic_ns()) / 1e9 if self._queue else LONGEST_NAP_S
                if left > 0:
                    self._changed.wait(min(left, LONGEST_NAP_S))

    def _start(self, call: Call, entry: InHand) -> None:
        """Starts one call, unless its lease was lost, or may have run out while this process or machine stood still."""
        if entry.given_up or boot_seconds() - entry.secured_at > self._usable_for:
            self._refuse(call, "The lease ran out before the call could start.")
            return
        try:
            self._dispatcher.start(call)
        except RuntimeError:
            # Closed a moment ago, at the end of the drain.
            self._refuse(call, "The worker stopped before the call could start.")

    def _refuse(self, call: Call, message: str) -> None:
        self._book.hand_in(Outcome.unsent(call, ErrorKind.CANCELED, message, Blame.LOCAL, monotonic_ns()))
