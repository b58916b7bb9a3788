"""The model pass: analyses side by side, under a lease each, whatever deserves a look."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.db import connection

from cronicorn.logging import Event, log_event
from cronicorn.runtime.stopping import Stop
from planner.analysis import Task, analyse
from planner.breaker import RATE_LIMIT_SECONDS, Breaker
from planner.conversation import ModelError
from planner.discovery import candidates, lease
from planner.llm import ModelAccess
from planner.policy import Candidate, Trigger, trigger_of
from planner.snapshots import now

logger = logging.getLogger(__name__)


class Analyst:
    """The model's side of a planner process."""

    def __init__(self, *, worker: str, access: ModelAccess, concurrency: int) -> None:
        self._worker = worker
        self._access = access
        self._concurrency = concurrency
        self._breaker = Breaker()

    def facts(self) -> dict[str, Any]:
        """Figures for the heartbeat; `breaker` says why the model is not asked, None while it is."""
        return {"model": self._access.model, "breaker": self._breaker.why_open()}

    def run(self, stop: Stop) -> int:
        """Analyses what deserves a look, owners taking turns; returns how many sessions were stored.

        A fault in one analysis is logged and disturbs no other. Nothing new is begun once a stop is requested.
        """
        if self._breaker.why_open() is not None:
            return 0
        at = now()
        chosen = [(trigger, item) for item in candidates(at) if (trigger := trigger_of(item, at)) is not None]
        if not chosen:
            return 0
        with ThreadPoolExecutor(max_workers=self._concurrency, thread_name_prefix="analysis") as pool:
            stored = [pool.submit(self._guarded, item, trigger, stop) for trigger, item in chosen]
            return sum(future.result() for future in stored)

    def _guarded(self, candidate: Candidate, trigger: Trigger, stop: Stop) -> bool:
        try:
            if stop.requested() or self._breaker.why_open() is not None:
                return False
            return self._one(candidate, trigger)
        except Exception:
            logger.exception(Event.PASS_FAILED.value, extra={"facts": {"endpoint": candidate.endpoint_id}})
            return False
        finally:
            connection.close()

    def _one(self, candidate: Candidate, trigger: Trigger) -> bool:
        if not lease(worker=self._worker, candidate=candidate):
            return False
        cap = min(settings.ENV.ai_session_token_limit, candidate.tokens_left)
        error = analyse(Task(candidate.endpoint_id, trigger, cap, self._worker), self._access)
        if error is not None:
            self._heed(error)
        return True

    def _heed(self, error: ModelError) -> None:
        """Stops asking for a while where the service refused, or asked for time."""
        if error.hopeless:
            opened = self._breaker.open(f"{error.kind}: {error}")
        elif error.kind == "rate_limited" or error.retry_after is not None:
            opened = self._breaker.open(f"{error.kind}: {error}", error.retry_after or RATE_LIMIT_SECONDS)
        else:
            return
        if opened:
            log_event(logger, Event.BREAKER_OPENED, logging.ERROR, worker=self._worker, kind=error.kind)
