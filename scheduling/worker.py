"""The scheduler worker: claims what is due, starts the calls, settles what came back, and keeps its leases.

The loop claims and starts calls; beside it one thread settles, one keeps the leases and one listens for changes, each
with a database connection of its own. They share the book of calls in hand.
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import Error, connection

from accounts.vault import SecretUnavailableError
from cronicorn.logging import Event, log_event
from cronicorn.runtime.clock import DatabaseClock, boot_seconds, monotonic_ns
from cronicorn.runtime.stopping import Stop
from jobs.heartbeats import farewell
from scheduling.alarm import Alarm
from scheduling.book import Book, InHand
from scheduling.claims import Claim, claim_due, look_ahead, reap, release_collided
from scheduling.dispatch import Dispatcher
from scheduling.keeper import CHECK_EVERY, Keeper
from scheduling.listener import listen
from scheduling.outcome import Blame, ErrorKind, Outcome
from scheduling.requests import bare_call, build_request
from scheduling.settler import Settler

logger = logging.getLogger(__name__)

CLOCK_STEP = timedelta(seconds=2)
LAST_SETTLES = 4.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker behaves. Durations are in seconds; `drain` is how long a stopping worker waits for its calls."""

    concurrency: int = 200
    batch_size: int = 100
    poll_interval: float = 5.0
    lease: float = 60.0
    drain: float = 25.0


class Worker:
    """One scheduler process. `run` works until `stop` is requested; `run_once` does what is due now and returns."""

    def __init__(self, *, name: str, dispatcher: Dispatcher, options: WorkerOptions, stop: Stop) -> None:
        self.name = name
        self._options = options
        self._dispatcher = dispatcher
        self._stop = stop
        self._drained = Stop()
        self._alarm = Alarm()
        self._clock = DatabaseClock()
        self._book = Book()
        self._settler = Settler(
            worker=name, dispatcher=dispatcher, book=self._book, clock=self._clock, abandon=self._drained
        )
        self._keeper = Keeper(
            worker=name,
            dispatcher=dispatcher,
            book=self._book,
            lease=options.lease,
            concurrency=options.concurrency,
        )

    def run(self) -> None:
        """Works until a stop is requested, then drains: calls in flight are settled, what remains is given back."""
        log_event(logger, Event.WORKER_STARTED, worker=self.name, concurrency=self._options.concurrency)
        threads = [self._thread(self._settle_loop), self._thread(self._keep_loop), self._thread(self._listen_loop)]
        self._claim_loop()
        log_event(logger, Event.WORKER_DRAINING, worker=self.name, in_hand=len(self._book))
        self._drain()
        for thread in threads:
            thread.join(LAST_SETTLES)
        log_event(logger, Event.WORKER_STOPPED, worker=self.name, unsettled=len(self._book))

    def run_once(self) -> int:
        """Reaps, claims and calls everything due, settles the results, and returns how many runs ended."""
        ended = 0
        self._reap()
        while self._claim() or len(self._book):
            ended += self._settler.settle_ready(0.1).count
        return ended

    def _thread(self, body: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._guarded, args=(body,), name=body.__name__.strip("_"), daemon=True)
        thread.start()
        return thread

    def _guarded(self, body: Callable[[], None]) -> None:
        """Runs a side thread; whatever it raises stops the whole worker, for the process runner to replace."""
        try:
            body()
        except Exception:
            logger.exception(Event.THREAD_CRASHED.value, extra={"facts": {"worker": self.name}})
            self._stop.request()
        finally:
            connection.close()

    def _claim_loop(self) -> None:
        away = 0
        while not self._stop.requested():
            self._alarm.reset()
            try:
                self._reap()
                pause = 0.0 if self._claim() else self._idle_time()
                away = 0
            except Error as error:
                away += 1
                pause = min(0.05 * 2**away, 3.0) * random.uniform(0.5, 1.0)  # noqa: S311  spreads reconnects
                log_event(logger, Event.CLAIM_FAILED, logging.WARNING, worker=self.name, error=str(error).strip())
                connection.close()
            self._alarm.sleep(pause, self._stop)

    def _settle_loop(self) -> None:
        while not self._drained.requested():
            was_full = len(self._book) >= self._options.concurrency
            settled = self._settler.settle_ready(0.2)
            if settled.next_due_at is not None:
                self._alarm.ring_at(self._clock.monotonic_at(settled.next_due_at))
            if settled.count and was_full:
                self._alarm.ring()

    def _keep_loop(self) -> None:
        self._keeper.tick()
        while not self._drained.wait(CHECK_EVERY):
            self._keeper.tick()
        farewell(worker=self.name)

    def _listen_loop(self) -> None:
        listen(stop=self._stop, wake=self._alarm.ring)

    def _drain(self) -> None:
        """Waits for the calls in hand; those still under way after the drain time are canceled and given back."""
        self._wait_until_empty(self._options.drain)
        self._settler.giving_up = True
        for run_id in self._book.entries():
            self._dispatcher.cancel(run_id)
        self._wait_until_empty(LAST_SETTLES)
        self._drained.request()
        self._dispatcher.close()

    def _wait_until_empty(self, seconds: float) -> None:
        deadline = monotonic_ns() + int(seconds * 1e9)
        while len(self._book) and monotonic_ns() < deadline:
            self._drained.wait(0.02)

    def _idle_time(self) -> float:
        """Seconds until something can be due: the next slot, the end of a lease, or the poll bound."""
        if len(self._book) >= self._options.concurrency:
            return self._options.poll_interval
        sent_ns = monotonic_ns()
        horizon = look_ahead()
        jump = self._clock.observe(horizon.now, sent_ns, monotonic_ns())
        if abs(jump) > CLOCK_STEP:
            log_event(logger, Event.CLOCK_JUMPED, logging.WARNING, worker=self.name, seconds=jump.total_seconds())
        waits = [
            (instant - horizon.now).total_seconds()
            for instant in (horizon.next_due_at, horizon.next_lease_end)
            if instant is not None
        ]
        return max(0.0, min([self._options.poll_interval, *waits]))

    def _reap(self) -> None:
        for item in reap():
            facts = {
                "endpoint": item.endpoint_id,
                "run": item.run_id,
                "lost_worker": item.worker,
                "losses": item.losses,
            }
            log_event(logger, Event.RUN_REAPED, logging.WARNING, **facts, consequence=item.consequence)
            if item.consequence == "pause":
                log_event(logger, Event.ENDPOINT_PAUSED, logging.ERROR, **facts)

    def _claim(self) -> int:
        """Claims up to the free slots and starts the calls; returns how many endpoints were claimed."""
        free = min(self._options.batch_size, self._options.concurrency - len(self._book))
        if free <= 0:
            return 0
        secured_at, sent_ns = boot_seconds(), monotonic_ns()
        claims = claim_due(worker=self.name, limit=free, lease=timedelta(seconds=self._options.lease))
        if claims:
            self._clock.observe(claims[0].claimed_at, sent_ns, monotonic_ns())
        for claim in claims:
            if claim.run_id is not None:
                self._start(claim, claim.run_id, secured_at)
        collided = [claim.endpoint_id for claim in claims if claim.run_id is None]
        if collided:
            log_event(logger, Event.SLOT_COLLIDED, logging.ERROR, worker=self.name, endpoints=collided)
            release_collided(worker=self.name, endpoint_ids=collided)
        return len(claims)

    def _start(self, claim: Claim, run_id: UUID, secured_at: float) -> None:
        """Starts the call of a claim; one that cannot be built ends as a failed run and disturbs no other."""
        entry = InHand(claim, secured_at)
        self._book.add(run_id, entry)
        try:
            request = build_request(claim)
            entry.secrets = request.secrets
            self._dispatcher.start(request.call)
        except SecretUnavailableError as error:
            self._refuse(claim, ErrorKind.SECRET_UNAVAILABLE, str(error))
        except Exception:
            logger.exception(Event.RUN_REFUSED.value, extra={"facts": {"endpoint": claim.endpoint_id, "run": run_id}})
            self._refuse(claim, ErrorKind.INTERNAL_ERROR, "The request could not be made from the endpoint's settings.")

    def _refuse(self, claim: Claim, kind: ErrorKind, message: str) -> None:
        """Ends a run whose call was never made. The fault lies in the endpoint's own row, so it counts against it."""
        self._book.hand_in(Outcome.unsent(bare_call(claim), kind, message, Blame.POLICY, monotonic_ns()))
