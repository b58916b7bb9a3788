"""The scheduler worker: claims what is due, starts the calls, settles what came back, and keeps its leases.

The loop claims a moment ahead; beside it one thread starts calls at their time, one settles, one keeps the leases, one
cancels what could not be kept, one listens for changes, one looks for plans by other zone rules. Those that need the
database have a connection of their own. They share the book of calls in hand.
"""

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import Error, connection

from cronicorn.logging import Event, log_event
from cronicorn.postgres.session import Session
from cronicorn.runtime.clock import DatabaseClock, boot_seconds, monotonic_ns
from cronicorn.runtime.progress import Progress
from cronicorn.runtime.stopping import Stop
from jobs.heartbeats import farewell
from jobs.owners import plan_reactivated
from jobs.pulse import PULSE_EVERY_S, Pulse
from scheduling.dispatch import Dispatcher
from scheduling.ledger.claims import Claimed, Reach, claim_due, look_ahead
from scheduling.ledger.leases import hold_of, reap, release
from scheduling.ledger.shares import Share, newcomers_share, regular_share, reserve_of
from scheduling.worker.alarm import Alarm
from scheduling.worker.book import Book, InHand
from scheduling.worker.keeper import CHECK_EVERY, Keeper, log_reaped
from scheduling.worker.listener import listen
from scheduling.worker.settler import Settler
from scheduling.worker.starter import Starter
from scheduling.worker.zonekeeper import keep_zone_rules

logger = logging.getLogger(__name__)

CLAIM_EVERY = 0.2
AFTER_EMPTY_CLAIM = 0.02
# How often a worker looks for owners who have little in hand, in seconds. The look reads through all that is due:
# behind a very long backlog it must not become the main work.
NEWCOMERS_EVERY, NEWCOMERS_AT_LEAST_EVERY, REST_AFTER_A_LOOK = 0.1, 4.0, 20.0
# How long a look that found nobody holds.
ALONE_FOR = 1.0
# How often a worker looks for owners who are active again, in seconds.
REACTIVATED_EVERY = 1.0
CLOCK_STEP = timedelta(seconds=2)
# With a drain of 25 s a stop takes less than 30.
LAST_SETTLES, LAST_JOINS = 3.0, 1.0
LONGEST_SLEEP = 3_600.0
# A restart of the database is shorter; a statement that hangs is ended sooner than the second.
STALLED_AFTER_S, HUNG_AFTER_S = 20.0, 60.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker behaves. Durations are in seconds.

    `horizon` is how far ahead of their time endpoints are claimed, `drain` how long a stopping worker waits for its
    calls.
    """

    concurrency: int = 200
    per_host: int = 20
    batch_size: int = 100
    poll_interval: float = 5.0
    horizon: float = 1.0
    lease: float = 60.0
    drain: float = 25.0

    @property
    def usable_for(self) -> float:
        """How long a lease is relied on without a renewal: well short of its end."""
        return self.lease * 0.75


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
        self._waits_for_slot = False
        self._reach = Reach.OLDEST
        self._newcomers_ns = self._alone_until_ns = self._reactivated_ns = 0
        self._had_a_turn: set[UUID] = set()
        self.crashed = False
        self.claiming = Progress()
        self._settler = Settler(
            worker=name, dispatcher=dispatcher, book=self._book, clock=self._clock, abandon=self._drained
        )
        self._starter = Starter(
            dispatcher=dispatcher, book=self._book, clock=self._clock, usable_for=options.usable_for
        )
        self._keeper = Keeper(
            worker=name,
            dispatcher=dispatcher,
            book=self._book,
            starter=self._starter,
            lease=options.lease,
            usable_for=options.usable_for,
            concurrency=options.concurrency,
            on_freed=self._alarm.ring,
            facts=self.facts,
        )

    def run(self) -> None:
        """Works until a stop is requested, then drains: calls in flight are settled, what remains is given back."""
        log_event(logger, Event.WORKER_STARTED, worker=self.name, concurrency=self._options.concurrency)
        loops = (self._starter.run, self._settle_loop, self._keep_loop, self._fence_loop)
        threads = [self._thread(loop, self._drained) for loop in loops]
        # On threads of their own, so that a statement that hangs does not put the drain off.
        threads += [self._thread(loop, self._stop) for loop in (self._claim_loop, self._listen_loop, keep_zone_rules)]
        while not self._stop.wait(LONGEST_SLEEP):
            pass
        log_event(logger, Event.WORKER_DRAINING, worker=self.name, in_hand=len(self._book))
        self._drain()
        deadline_ns = monotonic_ns() + int(LAST_JOINS * 1e9)
        for thread in threads:
            thread.join(max(0.0, (deadline_ns - monotonic_ns()) / 1e9))
        log_event(logger, Event.WORKER_STOPPED, worker=self.name, unsettled=len(self._book))

    def run_once(self) -> int:
        """Reaps, claims and calls everything due, settles the results, and returns how many runs ended.

        A stop ends the claims; calls that outlast the drain are given up.
        """
        ended, done, drained_ns = 0, Stop(), monotonic_ns()
        keepers = [self._thread(loop, done) for loop in (self._keep_loop, self._fence_loop)]
        try:
            self._reap()
            plan_reactivated()
            while self._claim_now() or len(self._book):
                self._starter.start_due()
                ended += self._settler.settle_ready(0.1).count
                if not self._stop.requested():
                    drained_ns = monotonic_ns() + int(self._options.drain * 1e9)
                elif monotonic_ns() > drained_ns:
                    self._give_up_calls()
        finally:
            done.request()
            for thread in keepers:
                thread.join(LAST_SETTLES)
        return ended

    def _thread(self, loop: Callable[[Stop], None], stop: Stop) -> threading.Thread:
        """Starts a side thread that works until `stop`."""
        thread = threading.Thread(target=self._guarded, args=(loop, stop), name=loop.__qualname__, daemon=True)
        thread.start()
        return thread

    def _guarded(self, loop: Callable[[Stop], None], stop: Stop) -> None:
        """Runs a side thread; whatever it raises stops the whole worker, for the process runner to replace."""
        try:
            loop(stop)
        except Exception:
            logger.exception(Event.THREAD_CRASHED.value, extra={"facts": {"worker": self.name}})
            self.crashed = True
            self._stop.request()
        finally:
            connection.close()

    def _claim_loop(self, stop: Stop) -> None:
        away, horizon = 0, timedelta(seconds=self._options.horizon)
        while not stop.requested():
            self._alarm.reset()
            try:
                self._reap()
                self._plan_reactivated()
                room = self._room()
                if not room or self._wants_more_than_half():
                    self._claim_newcomers(horizon)
                    room = self._room()
                # A claim that filled the room leaves a backlog behind; any other took all there was.
                pause = 0.0 if 0 < room == self._claim_regular(horizon, room) else self._idle_time()
                away = 0
                self.claiming.succeeded()
            except Error as error:
                self.claiming.failed()
                away += 1
                pause = min(0.05 * 2**away, 3.0) * random.uniform(0.5, 1.0)  # noqa: S311  spreads reconnects
                log_event(logger, Event.CLAIM_FAILED, logging.WARNING, worker=self.name, error=str(error).strip())
                connection.close()
            except Exception:
                # A fault of our own ends no worker: what is in hand is still settled, and claims are tried again.
                self.claiming.failed()
                pause = 1.0
                logger.exception(Event.CLAIM_FAILED.value, extra={"facts": {"worker": self.name}})
            self._alarm.sleep(pause, stop)

    def _share(self) -> Share:
        """What owners and hosts may still get."""
        owners, hosts = self._book.counts()
        alone = len(owners) <= 1 and self._nobody_else_waits()
        per_owner = regular_share(self._options.concurrency, alone=alone)
        return Share(per_owner=per_owner, per_host=self._options.per_host, owners=owners, hosts=hosts)

    def _wants_more_than_half(self) -> bool:
        """Whether one owner may get more than half of the slots, if only it is known that nobody else has work."""
        owners, _ = self._book.counts()
        half = regular_share(self._options.concurrency, alone=False)
        return len(owners) == 1 and owners.total() + self._room() > half and not self._nobody_else_waits()

    def _nobody_else_waits(self) -> bool:
        """Whether a look for others found nobody, not long ago."""
        return monotonic_ns() < self._alone_until_ns

    def _settle_loop(self, stop: Stop) -> None:
        while not stop.requested():
            settled = self._settler.settle_ready(0.2)
            if settled.next_due_at is not None:
                due_ns = self._clock.monotonic_at(settled.next_due_at)
                self._alarm.ring_at(due_ns - int(CLAIM_EVERY * 1e9))
            if settled.count and self._waits_for_slot:
                self._alarm.ring()

    def _keep_loop(self, stop: Stop) -> None:
        self._keeper.tick()
        while not stop.wait(CHECK_EVERY):
            self._keeper.tick()
        # What came in while the worker was stopping is given back too.
        self._keeper.tick()
        # Without a farewell the heartbeat grows old, which says the same a little later.
        with suppress(Error):
            farewell(worker=self.name)

    def _fence_loop(self, stop: Stop) -> None:
        """Cancels what may no longer be called, and gives the sign of life that needs no database."""
        pulse, beaten_at = Pulse(self.name), float("-inf")
        try:
            while not stop.wait(CHECK_EVERY):
                self._keeper.fence_overdue()
                if boot_seconds() - beaten_at >= PULSE_EVERY_S:
                    pulse.beat(self.problem())
                    beaten_at = boot_seconds()
        finally:
            pulse.end()

    def problem(self) -> str | None:
        """Why the work does not go on, in a sentence; None when it does."""
        claims, results = self.claiming.standing(), self._settler.progress.standing()
        if (claims.failing_for or 0.0) >= STALLED_AFTER_S:
            return f"No endpoint could be claimed for {claims.failing_for:.0f} s."
        if (idle_s := self.claiming.idle_for()) >= max(HUNG_AFTER_S, 2 * self._options.poll_interval):
            return f"The last look for due endpoints that succeeded was {idle_s:.0f} s ago."
        if (results.failing_for or 0.0) >= STALLED_AFTER_S:
            return f"No result could be saved for {results.failing_for:.0f} s."
        return None

    def facts(self) -> dict[str, Any]:
        """What the heartbeat tells; seconds are counted back from the beat."""
        claims, results = self.claiming.standing(), self._settler.progress.standing()
        return {
            "problem": self.problem(),
            "claimed_ago_s": claims.succeeded_ago,
            "settled_ago_s": results.succeeded_ago,
            "limits_missing": list(getattr(connection, "session", Session()).missing),
        }

    def _listen_loop(self, stop: Stop) -> None:
        listen(stop=stop, wake=self._alarm.ring)

    def _drain(self) -> None:
        """Waits for the calls in hand; those still under way after the drain time are canceled and given back."""
        self._wait_until_empty(self._options.drain)
        self._give_up_calls()
        self._wait_until_empty(LAST_SETTLES)
        self._drained.request()
        self._dispatcher.close()

    def _give_up_calls(self) -> None:
        """Gives back what still waits for its moment, and cancels what is under way."""
        self._settler.giving_up = True
        for run_id, entry in self._starter.waiting().items():
            if self._starter.withdraw(run_id):
                self._keeper.give_back([entry.claim])
        for run_id in self._book.entries():
            self._dispatcher.cancel(run_id)

    def _wait_until_empty(self, seconds: float) -> None:
        deadline = monotonic_ns() + int(seconds * 1e9)
        while len(self._book) and monotonic_ns() < deadline:
            self._drained.wait(0.02)

    def _idle_time(self) -> float:
        """Seconds until there can be something to claim or to reap; the poll bound at most."""
        # Told before the look, as the settler looks after it removes: one of the two sees the other.
        self._waits_for_slot = True
        if not self._room():
            return min(self._options.poll_interval, NEWCOMERS_EVERY)
        full_lanes = self._share().full_lanes
        sent_ns = monotonic_ns()
        view = look_ahead(full_lanes=full_lanes)
        self._observe(view.now, sent_ns)
        waits = [self._options.poll_interval]
        if view.next_lease_end is not None:
            waits.append((view.next_lease_end - view.now).total_seconds())
        if view.next_due_at is not None:
            left = (view.next_due_at - view.now).total_seconds()
            # Rows on the horizon are gathered for a moment, so that a steady stream costs few claims.
            waits.append(max(left - self._options.horizon, min(left, CLAIM_EVERY)))
            # What is due and was not claimed stands behind rows that have to wait, or is in another worker's hands.
            if left <= 0 and full_lanes:
                self._reach = Reach.SEARCH
        self._waits_for_slot = bool(full_lanes)
        return max(AFTER_EMPTY_CLAIM, min(waits))

    def _observe(self, instant: datetime, sent_ns: int) -> None:
        """Takes a reading of the database's clock that was asked for at `sent_ns`."""
        jump = self._clock.observe(instant, sent_ns, monotonic_ns())
        if abs(jump) > CLOCK_STEP:
            log_event(logger, Event.CLOCK_JUMPED, logging.WARNING, worker=self.name, seconds=jump.total_seconds())

    def _reap(self) -> None:
        log_reaped(reap(in_hand=[entry.claim.endpoint_id for entry in self._book.entries().values()]))

    def _plan_reactivated(self) -> None:
        """Plans the endpoints of owners who are active again, now and then."""
        if monotonic_ns() >= self._reactivated_ns:
            plan_reactivated()
            self._reactivated_ns = monotonic_ns() + int(REACTIVATED_EVERY * 1e9)

    def _room(self) -> int:
        """How many endpoints the next claim may take, whoever they belong to."""
        slots = self._options.concurrency
        return max(0, min(self._options.batch_size, slots - reserve_of(slots) - len(self._book)))

    def _claim_now(self) -> int:
        """Claims what is due at this moment, for a worker of one pass; returns how many it took."""
        return 0 if self._stop.requested() else self._claim_regular(timedelta(0), self._room())

    def _claim_regular(self, horizon: timedelta, room: int) -> int:
        """Claims up to `room` endpoints; returns how many it took, those included whose slots were written off."""
        if not room:
            return 0
        reach, self._reach = self._reach, Reach.OLDEST
        claims = self._claim(horizon, room, self._share(), reach)
        return len(claims) + claims.written_off

    def _claim_newcomers(self, horizon: timedelta) -> int:
        """Claims for owners who have little in hand, from the reserve if nothing else is free; now and then.

        Owners take turns: who was given something waits until all others who have work were given something too.
        When nobody else has any, one owner may have more than half of the slots for a while.
        """
        in_hand, began_ns = len(self._book), monotonic_ns()
        free = self._options.concurrency - in_hand
        if free <= 0 or began_ns < self._newcomers_ns:
            return 0
        owners, hosts = self._book.counts()
        share = newcomers_share(self._options.concurrency, in_hand)
        # Who had a turn counts as having its share in hand.
        owners_or_turns = owners | Counter(dict.fromkeys(self._had_a_turn, share))
        shares = Share(share, self._options.per_host, owners_or_turns, hosts)
        claims = self._claim(horizon, self._room() or free, shares, Reach.NEWCOMERS)
        ended_ns = monotonic_ns()
        if not claims and not self._had_a_turn and len(owners) <= 1:
            self._alone_until_ns = ended_ns + int(ALONE_FOR * 1e9)
        self._had_a_turn = self._had_a_turn | {claim.owner_id for claim in claims} if claims else set()
        rest_s = max(NEWCOMERS_EVERY, REST_AFTER_A_LOOK * (ended_ns - began_ns) / 1e9)
        self._newcomers_ns = ended_ns + int(min(NEWCOMERS_AT_LEAST_EVERY, rest_s) * 1e9)
        return len(claims)

    def _claim(self, horizon: timedelta, room: int, share: Share, reach: Reach) -> Claimed:
        """Claims and queues the calls. After a failure the claim may stand: the keeper looks for what it left."""
        with self._book.claiming():
            try:
                return self._claim_and_queue(horizon, room, share, reach)
            except Error:
                self._keeper.look_for_forgotten()
                raise

    def _claim_and_queue(self, horizon: timedelta, room: int, share: Share, reach: Reach) -> Claimed:
        secured_at, sent_ns = boot_seconds(), monotonic_ns()
        claims = claim_due(
            worker=self.name,
            limit=room,
            lease=timedelta(seconds=self._options.lease),
            horizon=horizon,
            share=share,
            reach=reach,
        )
        if claims:
            self._observe(claims[0].claimed_at, sent_ns)
        if self._stop.requested():
            # Others can start them on time. Not through the keeper, which may have made its last round.
            left = release(worker=self.name, claims=claims).locked
            self._keeper.give_back([claim for claim in claims if hold_of(claim) in left])
            return Claimed()
        for claim in claims:
            if claim.run_id is not None:
                self._starter.add(InHand(claim, secured_at))
        collided = [claim for claim in claims if claim.run_id is None]
        if collided:
            endpoints = [claim.endpoint_id for claim in collided]
            log_event(logger, Event.SLOT_COLLIDED, logging.ERROR, worker=self.name, endpoints=endpoints)
            self._keeper.give_back(collided)
        return claims
