"""Turns outcomes into settled runs, batch by batch; a row that breaks its batch is settled alone."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db import connection

from cronicorn.logging import Event, log_event
from cronicorn.postgres.sqlstate import Remedy, remedy_of
from cronicorn.runtime.clock import DatabaseClock, monotonic_ns
from cronicorn.runtime.progress import Progress
from cronicorn.runtime.stopping import Stop
from scheduling.dispatch import Dispatcher
from scheduling.exchange.masking import Masker
from scheduling.exchange.outcome import Blame, ErrorKind, Outcome, masked
from scheduling.ledger.settlement import Result, settle
from scheduling.worker.book import Book

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 3.0
# A result that fails alone is tried again after this many times what a try takes: it costs the others a tenth at most.
STUCK_PAUSES = 9
LOCKED_AGAIN_AFTER = 0.05
# A steady stream is gathered, so that one transaction serves several results.
SETTLE_EVERY = 0.05


# Measured with PostgreSQL beside it: from 200 results on a larger batch costs no less for each (0.15 ms); with bodies
# of 100 KB each costs 1.6 ms in a batch of 10 MB, 3.3 ms in one of 50 MB and 10 ms in one of 100 MB.
BATCH = 500
BATCH_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Round:
    """What one round settled: how many runs ended, and when the earliest of their endpoints is due again."""

    count: int
    next_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Stuck:
    """A result that the database refuses although it comes alone; it is tried again at `due_ns`."""

    result: Result
    due_ns: int


class Settler:
    """Writes what came back. `abandon` ends its patience with a database that is away.

    Results that could not be written stay in the book.
    """

    def __init__(self, *, worker: str, dispatcher: Dispatcher, book: Book, clock: DatabaseClock, abandon: Stop) -> None:
        self._worker = worker
        self._dispatcher = dispatcher
        self._book = book
        self._clock = clock
        self._abandon = abandon
        self._again: list[Result] = []
        self._stuck: list[_Stuck] = []
        self._limit = BATCH
        self._settled_ns = 0
        self.giving_up = False
        self.progress = Progress()

    def settle_ready(self, timeout: float) -> Round:
        """Settles what has come back, waiting up to `timeout` seconds for the first.

        What comes back within SETTLE_EVERY of the last round is settled together, once that time is over. Results
        whose endpoints somebody else is changing stay in hand for the next round, those that the database refuses by
        themselves for a later one.
        """
        if self._again:
            timeout = min(timeout, LOCKED_AGAIN_AFTER)
        outcomes = self._dispatcher.completed(timeout)
        gather = SETTLE_EVERY - (monotonic_ns() - self._settled_ns) / 1e9
        if outcomes and gather > 0:
            self._abandon.wait(gather)
            outcomes += self._dispatcher.completed(0)
        outcomes += self._book.take_unsent()
        results = self._again + [result for outcome in outcomes if (result := self._result(outcome)) is not None]
        self._again = []
        self._limit = min(self._limit * 2, BATCH)
        due = self._settle(results)
        while (stuck := self._next_stuck()) is not None:
            left = self._held()
            results.append(stuck)
            due += self._settle([stuck], tries=1)
            if len(self._held()) > len(left):
                break
        held = self._held()
        ended = [run_id for result in results if (run_id := result.outcome.call.run_id) not in held]
        self._book.remove(ended)
        self._settled_ns = monotonic_ns()
        return Round(len(ended), min(due, default=None))

    def _held(self) -> set[UUID]:
        """The runs whose results are kept for a later round."""
        return {result.outcome.call.run_id for result in (*self._again, *(item.result for item in self._stuck))}

    def _next_stuck(self) -> Result | None:
        """Takes a result whose time to be tried again has come."""
        for number, item in enumerate(self._stuck):
            if item.due_ns <= monotonic_ns():
                return self._stuck.pop(number).result
        return None

    def _result(self, outcome: Outcome) -> Result | None:
        entry = self._book.get(outcome.call.run_id)
        if entry is None:
            return None
        entry.ended = True
        stored = masked(outcome, Masker(entry.secrets)) if entry.secrets else outcome
        return Result(
            outcome=stored,
            plain_body=outcome.body if stored.body != outcome.body and not outcome.truncated else None,
            attempt=entry.claim.attempt,
            slot_at=entry.claim.slot_at,
            started_at=self._clock.instant_at(outcome.started_ns) if outcome.begun else None,
            finished_at=self._clock.instant_at(outcome.finished_ns),
            stopping=self.giving_up,
        )

    def _settle(self, results: Sequence[Result], *, tries: int = 0) -> list[datetime]:
        """Settles in batches, with patience for a database that is away and none for a row that cannot be written.

        A batch that is refused again and again is halved, down to a single result, which then waits by itself.
        `tries` is how often the first batch has failed before. Returns when endpoints are due again, the earliest of
        each statement.
        """
        due: list[datetime] = []
        left = list(results)
        while left:
            batch, began_ns = self._first_batch(left), monotonic_ns()
            try:
                settled = settle(worker=self._worker, results=batch)
            except Exception as error:  # noqa: BLE001  whatever one row holds, the thread goes on
                remedy = remedy_of(error)
                level = logging.ERROR if remedy is Remedy.ROW else logging.WARNING
                log_event(logger, Event.SETTLE_FAILED, level, worker=self._worker, error=str(error).strip())
                if remedy is Remedy.ROW:
                    due += self._settle_alone(batch)
                    left = left[len(batch) :]
                    continue
                tries += 1
                self.progress.failed()
                connection.close()
                if remedy is Remedy.SMALLER and (tries > 1 or self._limit < BATCH):
                    self._limit = max(1, len(batch) // 2)
                    if len(batch) == 1:
                        pause_ns = max(int(LONGEST_PAUSE * 1e9), STUCK_PAUSES * (monotonic_ns() - began_ns))
                        self._stuck.append(_Stuck(batch[0], monotonic_ns() + pause_ns))
                        left, tries = left[1:], 0
                if self._abandon.wait(min(0.05 * 2**tries, LONGEST_PAUSE) * random.uniform(0.5, 1.0)):  # noqa: S311
                    self._again += left
                    return due
            else:
                self.progress.succeeded()
                for run_id in settled.fenced:
                    log_event(logger, Event.RESULT_FENCED, logging.WARNING, worker=self._worker, run=run_id)
                self._again += [result for result in batch if result.outcome.call.run_id in settled.locked]
                due += [settled.next_due_at] if settled.next_due_at is not None else []
                left, tries = left[len(batch) :], 0
        return due

    def _first_batch(self, results: Sequence[Result]) -> Sequence[Result]:
        """As many of the results as one statement may take, one at least."""
        size = 0
        for number, result in enumerate(results[: self._limit]):
            size += len(result.outcome.body)
            if number and size > BATCH_BYTES:
                return results[:number]
        return results[: self._limit]

    def _settle_alone(self, results: Sequence[Result]) -> list[datetime]:
        """Finds the result that broke the batch; that one ends as an internal error, without what came back."""
        if len(results) > 1:
            return [due for result in results for due in self._settle([result])]
        result = results[0]
        if result.outcome.error_kind is ErrorKind.INTERNAL_ERROR:
            # Nothing of the target is left in it: the fault lies elsewhere, and time may mend it.
            self._stuck.append(_Stuck(result, monotonic_ns() + int(LONGEST_PAUSE * 1e9)))
            return []
        bare = Outcome.unsent(
            result.outcome.call,
            ErrorKind.INTERNAL_ERROR,
            "The result of the call could not be stored.",
            Blame.LOCAL,
            result.outcome.finished_ns,
        )
        return self._settle([replace(result, outcome=bare)])
