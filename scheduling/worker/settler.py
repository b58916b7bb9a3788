"""Turns outcomes into settled runs, batch by batch; a row that breaks its batch is settled alone."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import Error, InterfaceError, OperationalError, connection

from cronicorn.logging import Event, log_event
from cronicorn.runtime.clock import DatabaseClock, monotonic_ns
from cronicorn.runtime.stopping import Stop
from scheduling.dispatch import Dispatcher
from scheduling.exchange.bodies import mask
from scheduling.exchange.outcome import Blame, ErrorKind, Outcome
from scheduling.ledger.settlement import Result, settle
from scheduling.worker.book import Book

logger = logging.getLogger(__name__)

PASSING_FAULTS = (OperationalError, InterfaceError)
LONGEST_PAUSE = 3.0
LOCKED_AGAIN_AFTER = 0.05
# A steady stream is gathered, so that one transaction serves several results.
SETTLE_EVERY = 0.05


@dataclass(frozen=True, slots=True)
class Round:
    """What one round settled: how many runs ended, and when the earliest of their endpoints is due again."""

    count: int
    next_due_at: datetime | None


class Settler:
    """Writes what came back. `abandon` ends its patience with a database that is away."""

    def __init__(self, *, worker: str, dispatcher: Dispatcher, book: Book, clock: DatabaseClock, abandon: Stop) -> None:
        self._worker = worker
        self._dispatcher = dispatcher
        self._book = book
        self._clock = clock
        self._abandon = abandon
        self._again: list[Result] = []
        self._settled_ns = 0
        self.giving_up = False

    def settle_ready(self, timeout: float) -> Round:
        """Settles what has come back, waiting up to `timeout` seconds for the first.

        What comes back within SETTLE_EVERY of the last round is settled together, once that time is over. Results
        whose endpoints somebody else is changing stay in hand for the next round.
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
        due = self._settle(results) if results else []
        again = {result.outcome.call.run_id for result in self._again}
        ended = [run_id for result in results if (run_id := result.outcome.call.run_id) not in again]
        self._book.remove(ended)
        self._settled_ns = monotonic_ns()
        return Round(len(ended), min(due, default=None))

    def _result(self, outcome: Outcome) -> Result | None:
        entry = self._book.get(outcome.call.run_id)
        if entry is None:
            return None
        entry.ended = True
        if entry.secrets:
            message = mask(outcome.error_message, entry.secrets) if outcome.error_message else None
            headers = tuple((name, mask(value, entry.secrets)) for name, value in outcome.headers)
            outcome = replace(outcome, body=mask(outcome.body, entry.secrets), error_message=message, headers=headers)
        return Result(
            outcome=outcome,
            attempt=entry.claim.attempt,
            slot_at=entry.claim.slot_at,
            started_at=self._clock.instant_at(outcome.started_ns),
            finished_at=self._clock.instant_at(outcome.finished_ns),
            stopping=self.giving_up,
        )

    def _settle(self, results: Sequence[Result]) -> list[datetime]:
        """Settles a batch, with patience for a database that is away and none for a row that cannot be written.

        Returns when endpoints of the batch are due again, the earliest of each statement.
        """
        tries = 0
        while True:
            try:
                settled = settle(worker=self._worker, results=results)
            except PASSING_FAULTS as error:
                tries += 1
                log_event(logger, Event.SETTLE_FAILED, logging.WARNING, worker=self._worker, error=str(error).strip())
                connection.close()
                if self._abandon.wait(min(0.05 * 2**tries, LONGEST_PAUSE) * random.uniform(0.5, 1.0)):  # noqa: S311
                    return []
            except (Error, ValueError, TypeError) as error:
                log_event(logger, Event.SETTLE_FAILED, logging.ERROR, worker=self._worker, error=str(error).strip())
                return self._settle_alone(results)
            else:
                for run_id in settled.fenced:
                    log_event(logger, Event.RESULT_FENCED, logging.WARNING, worker=self._worker, run=run_id)
                self._again += [result for result in results if result.outcome.call.run_id in settled.locked]
                return [settled.next_due_at] if settled.next_due_at is not None else []

    def _settle_alone(self, results: Sequence[Result]) -> list[datetime]:
        """Finds the result that broke the batch; that one ends as an internal error, without what came back."""
        if len(results) > 1:
            return [due for result in results for due in self._settle([result])]
        result = results[0]
        if result.outcome.error_kind is ErrorKind.INTERNAL_ERROR:
            logger.error(Event.SETTLE_FAILED.value, extra={"facts": {"run": result.outcome.call.run_id, "lost": True}})
            return []
        bare = Outcome.unsent(
            result.outcome.call,
            ErrorKind.INTERNAL_ERROR,
            "The result of the call could not be stored.",
            Blame.LOCAL,
            result.outcome.finished_ns,
        )
        return self._settle([replace(result, outcome=bare)])
