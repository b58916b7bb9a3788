"""The rules pass: looks at endpoints with new runs and files what their rules and the heuristics advise."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import Error

from cronicorn.logging import Event, log_event
from planner.advice import Advice, Watched, advise
from planner.filing import file_proposal
from planner.models import Proposal
from planner.snapshots import endpoints_with_recent_runs, mark_seen, now, sibling_named, watched

logger = logging.getLogger(__name__)

BATCH = 100
# Reaches back beyond the last pass: a run is seen only when its transaction has ended, later than the time it names.
OVERLAP = timedelta(minutes=2)
FIRST_LOOK_BACK = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Passed:
    """What a pass did: how many endpoints it looked at, how many proposals it stored, and when it began."""

    began_at: datetime
    looked_at: int
    stored: int


def rules_pass(*, last_pass_at: datetime | None, heuristics: bool) -> Passed:
    """Looks once at every endpoint with runs that were not looked at; `last_pass_at` None looks back over a day.

    A fault in one endpoint is logged and does not disturb the others. Raises django.db.Error when the database is away.
    """
    began_at = now()
    since = began_at - FIRST_LOOK_BACK if last_pass_at is None else last_pass_at - OVERLAP
    looked_at = stored = 0
    while batch := endpoints_with_recent_runs(since, heuristics=heuristics, limit=BATCH):
        found, unreadable = watched([endpoint_id for endpoint_id, _ in batch], began_at)
        for endpoint_id, error in unreadable.items():
            log_event(logger, Event.PASS_FAILED, logging.ERROR, endpoint=endpoint_id, error=str(error))
        stored += sum(_file_all(item, began_at, heuristics=heuristics) for item in found)
        mark_seen(batch)
        looked_at += len(batch)
        if len(batch) < BATCH:
            break
        since = batch[-1][1]
    return Passed(began_at, looked_at, stored)


def _file_all(item: Watched, at: datetime, *, heuristics: bool) -> int:
    try:
        return sum(_file(item, advice, at) for advice in advise(item, at, heuristics=heuristics))
    except Error:
        raise
    except Exception:
        logger.exception(Event.PASS_FAILED.value, extra={"facts": {"endpoint": item.endpoint_id}})
        return 0


def _file(item: Watched, advice: Advice, at: datetime) -> bool:
    """Files one piece of advice; returns whether anything was stored."""
    target: UUID | None = item.endpoint_id
    key = advice.key
    if advice.wish.endpoint is not None:
        target = sibling_named(item.endpoint_id, advice.wish.endpoint)
        key = f"{item.endpoint_id}:{advice.key}"[:255]
        if target is None or _asked_already(target, key, item, advice, at):
            return False
    assert target is not None
    filed = file_proposal(
        endpoint_id=target, wish=advice.wish, speaker=advice.speaker, key=key, own_only=advice.own_only
    )
    return filed.proposal_id is not None


def _asked_already(target: UUID, key: str, item: Watched, advice: Advice, at: datetime) -> bool:
    """Whether the rule has asked this sibling for this very run, or, while it keeps matching, not long ago."""
    asked = Proposal.objects.filter(
        endpoint_id=target, cause=advice.speaker.value, tool=advice.wish.tool, cause_key=key
    )
    last = asked.order_by("-created_at").values_list("created_at", flat=True).first()
    if last is None:
        return False
    return last >= item.runs[0].finished_at or (not advice.new_match and last > at - advice.again_after)
