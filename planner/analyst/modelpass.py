"""The model pass: analyses side by side, under a lease each, whatever deserves a look."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from django.db import connection

from cronicorn.logging import Event, log_event
from cronicorn.runtime.stopping import Stop
from planner.analyst.analysis import Analysed, Task, analyse
from planner.analyst.breaker import Breaker
from planner.analyst.budgets import owners_used_up
from planner.analyst.llm import ModelAccess
from planner.analyst.state import service_mark, word_of_others
from planner.attention.discovery import candidates, lease
from planner.attention.policy import Candidate, Trigger, trigger_of
from planner.rules.snapshots import now

logger = logging.getLogger(__name__)


class Analyst:
    """The model's side of a planner process."""

    def __init__(self, *, worker: str, access: ModelAccess, concurrency: int) -> None:
        self._worker = worker
        self._access = access
        self._concurrency = concurrency
        self._mark = service_mark(access)
        self._breaker = Breaker()
        self._owners_used_up = 0
        self._short_of_tokens: set[UUID] = set()

    def facts(self) -> dict[str, Any]:
        """Figures for the heartbeat: `breaker` says why the model is not asked, for `breaker_seconds` more.

        `owners_used_up` counts owners whose tokens of the day were used up at the last pass. Other planners find out by
        `service` whether what keeps this one from asking concerns them.
        """
        why, seconds = self._breaker.published() or (None, None)
        return {
            "model": self._access.model,
            "service": self._mark,
            "breaker": why,
            "breaker_seconds": seconds,
            "owners_used_up": self._owners_used_up,
        }

    def run(self, stop: Stop) -> int:
        """Analyses what deserves a look, in the order of discovery; returns how many sessions were stored.

        A fault in one analysis is logged and disturbs no other. Nothing new is begun once a stop is requested. After
        the model was not asked for a while, one analysis goes first.
        """
        if self._kept_from_asking():
            return 0
        at = now()
        self._owners_used_up = owners_used_up(at)
        chosen = [(item, trigger) for item in candidates(at) if (trigger := trigger_of(item, at)) is not None]
        stored = 0
        while chosen and self._breaker.doubtful() and not stop.requested():
            if self._kept_from_asking():
                return stored
            stored += self._all(chosen[:1], stop)
            chosen = chosen[1:]
        return stored + self._all(chosen, stop)

    def _all(self, chosen: list[tuple[Candidate, Trigger]], stop: Stop) -> int:
        """Analyses side by side; who had to wait for tokens set aside has another turn when the others have ended."""
        stored = 0
        while chosen:
            self._short_of_tokens.clear()
            with ThreadPoolExecutor(max_workers=self._concurrency, thread_name_prefix="analysis") as pool:
                ended = list(pool.map(lambda pair: self._guarded(pair[0], pair[1], stop), chosen))
            now_stored = sum(one.stored for one in ended)
            stored += now_stored
            chosen = [pair for pair, one in zip(chosen, ended, strict=True) if one.waits] if now_stored else []
        return stored

    def _guarded(self, candidate: Candidate, trigger: Trigger, stop: Stop) -> Analysed:
        try:
            if stop.requested() or self._kept_from_asking():
                return Analysed(stored=False)
            if candidate.owner_id in self._short_of_tokens:
                return Analysed(stored=False, waits=True)
            if not lease(worker=self._worker, candidate=candidate):
                return Analysed(stored=False)
            analysed = analyse(Task(candidate.endpoint_id, trigger, self._worker), self._access, stop)
        except Exception:
            logger.exception(Event.PASS_FAILED.value, extra={"facts": {"endpoint": candidate.endpoint_id}})
            return Analysed(stored=False)
        finally:
            connection.close()
        if analysed.waits:
            self._short_of_tokens.add(candidate.owner_id)
        if analysed.stored and self._breaker.heed(analysed.error):
            kind = analysed.error.kind if analysed.error is not None else None
            log_event(logger, Event.BREAKER_OPENED, logging.ERROR, worker=self._worker, kind=kind)
        return analysed

    def _kept_from_asking(self) -> bool:
        """Whether the breaker is open, by what this planner met or what another one met."""
        if self._breaker.why_open() is None and (word := word_of_others(self._mark, self._worker)) is not None:
            self._breaker.adopt(*word)
        return self._breaker.why_open() is not None
