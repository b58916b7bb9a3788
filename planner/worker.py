"""The planner worker: a quick pass of rules and heuristics, beside it a slower pass of the model where there is one.

Beside both, a sweep closes proposals that have ended and judges what they did; a fault in it delays neither.
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from django.db import Error, connection

from cronicorn.logging import Event, log_event
from cronicorn.runtime.progress import Progress
from cronicorn.runtime.stopping import Stop
from jobs.heartbeats import beat, farewell
from jobs.models import WorkerKind
from jobs.pulse import PULSE_EVERY_S, Pulse
from planner.proposals.verdicts import end_the_ended
from planner.rules.rulespass import Passed, rules_pass
from planner.rules.snapshots import now
from planner.scoring.scores import score_the_ended

logger = logging.getLogger(__name__)

BEAT_EVERY = 5.0
SWEEP_EVERY = 60.0
# A day of calls every second for each of these is read within the timeout of a statement.
SCORED_AT_ONCE = 50
MOST_SCORED_IN_A_SWEEP = 100 * SCORED_AT_ONCE
WHOLE_PASS_EVERY = timedelta(minutes=5)
LONGEST_BACKOFF = 30.0
JOIN_TIME = 25.0
# Longer than a pass over a long backlog may pause after faults of the database.
HUNG_AFTER_S = 120.0


class ModelPass(Protocol):
    """What the worker needs of the model's side."""

    def run(self, stop: Stop) -> int:
        """Analyses what deserves a look; returns how many sessions were stored."""
        ...

    def facts(self) -> dict[str, Any]:
        """Figures for the heartbeat."""
        ...


@dataclass(frozen=True, slots=True)
class PlannerOptions:
    """How the worker behaves; intervals in seconds. `heuristics` switches on what needs neither rules nor a model."""

    rules_interval: float = 2.0
    analysis_interval: float = 300.0
    heuristics: bool = True


class Planner:
    """One planner process. `run` works until `stop` is requested; `run_once` makes one pass of each kind."""

    def __init__(self, *, name: str, options: PlannerOptions, stop: Stop, model: ModelPass | None = None) -> None:
        self.name = name
        self._options = options
        self._stop = stop
        self._model = model
        self._last_pass_at: datetime | None = None
        self._whole_pass_at: datetime | None = None
        self._progress = Progress()
        self._figures = {"rules_passes": 0, "proposals": 0, "sessions": 0, "scored": 0, "failed_passes": 0}

    def run_once(self) -> None:
        """One pass of the rules, one sweep, then one pass of the model. Raises what they raise."""
        self.rules_pass()
        self.sweep()
        self.model_pass()

    def run(self) -> None:
        """Works until a stop is requested; a failing pass is logged, and the next one starts anew."""
        self._pulse = Pulse(self.name)
        log_event(logger, Event.WORKER_STARTED, worker=self.name, model=self._model is not None)
        threads = [
            self._thread("heartbeat", BEAT_EVERY, self._beat),
            self._thread("sweep", SWEEP_EVERY, self.sweep),
            self._thread("pulse", PULSE_EVERY_S, self._beat_here),
        ]
        if self._model is not None:
            threads.append(self._thread("model", self._options.analysis_interval, self.model_pass))
        self._repeat("rules", self._options.rules_interval, self.rules_pass)
        log_event(logger, Event.WORKER_DRAINING, worker=self.name)
        for thread in threads:
            thread.join(JOIN_TIME)
        self._pulse.end()
        try:
            farewell(worker=self.name)
        except Error as error:
            log_event(logger, Event.DATABASE_AWAY, logging.WARNING, worker=self.name, error=str(error).strip())
        connection.close()
        log_event(logger, Event.WORKER_STOPPED, worker=self.name)

    def rules_pass(self) -> Passed:
        """One pass of rules and heuristics over the new runs; now and then over all that were not looked at."""
        last, whole = self._last_pass_at, self._whole_pass_at
        since = last if last is not None and whole is not None and last < whole + WHOLE_PASS_EVERY else None
        passed = rules_pass(last_pass_at=since, heuristics=self._options.heuristics)
        if since is None:
            self._whole_pass_at = passed.began_at
        self._last_pass_at = passed.began_at
        self._progress.succeeded()
        self._figures["rules_passes"] += 1
        self._figures["proposals"] += passed.stored
        if passed.stored:
            facts: dict[str, Any] = {"looked_at": passed.looked_at, "stored": passed.stored}
            log_event(logger, Event.PASS_COMPLETED, worker=self.name, kind="rules", **facts)
        return passed

    def sweep(self) -> int:
        """Closes proposals that have ended, and judges what they did; returns how many were judged."""
        end_the_ended(now())
        scored = 0
        while scored < MOST_SCORED_IN_A_SWEEP and not self._stop.requested():
            batch = score_the_ended(SCORED_AT_ONCE)
            scored += batch
            if batch < SCORED_AT_ONCE:
                break
        self._figures["scored"] += scored
        return scored

    def model_pass(self) -> int:
        """One pass of the model, where there is one; returns how many sessions were stored."""
        sessions = self._model.run(self._stop) if self._model is not None else 0
        self._figures["sessions"] += sessions
        if sessions:
            log_event(logger, Event.PASS_COMPLETED, worker=self.name, kind="model", sessions=sessions)
        return sessions

    def _beat(self) -> None:
        facts = (
            dict(self._figures)
            | {"problem": self.problem()}
            | (self._model.facts() if self._model is not None else {"model": None})
        )
        beat(worker=self.name, kind=WorkerKind.PLANNER, facts=facts)

    def _beat_here(self) -> None:
        """Gives the sign of life that needs no database."""
        self._pulse.beat(self.problem())

    def problem(self) -> str | None:
        """Why the work does not go on, in a sentence; None when it does."""
        idle_s = self._progress.idle_for()
        if idle_s < max(HUNG_AFTER_S, 3 * self._options.rules_interval):
            return None
        return f"The last pass of the rules that succeeded was {idle_s:.0f} s ago."

    def _thread(self, kind: str, interval: float, body: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=self._repeat, args=(kind, interval, body), name=kind, daemon=True)
        thread.start()
        return thread

    def _repeat(self, kind: str, interval: float, body: Callable[[], object]) -> None:
        """Calls `body` every `interval` seconds until a stop; whatever it raises is logged, and it is called again."""
        away = 0
        while not self._stop.requested():
            pause = interval
            try:
                body()
                away = 0
            except Error as error:
                away += 1
                pause = min(0.25 * 2 ** min(away, 10), LONGEST_BACKOFF) * random.uniform(0.5, 1.0)  # noqa: S311
                facts = {"worker": self.name, "kind": kind, "error": str(error).strip()}
                log_event(logger, Event.DATABASE_AWAY, logging.WARNING, **facts)
                connection.close()
            except Exception:
                self._figures["failed_passes"] += 1
                logger.exception(Event.PASS_FAILED.value, extra={"facts": {"worker": self.name, "kind": kind}})
            self._stop.wait(pause)
        connection.close()
