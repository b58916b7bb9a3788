"""`apply_plan` and `apply_claim` say of a row what the SQL of planning and claiming does to it, column by column."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from cronicorn.runtime.clock import database_now
from jobs.models import Endpoint
from jobs.replan import PLAN_ROW_SELECT, plan, replan
from scheduling.ledger.claims import claim_due
from scheduling.plan.row import PlanRow, apply_claim, apply_plan
from tests.support.factories import make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)
INTERVAL_MS = 300_000
LEASE = timedelta(seconds=60)


def read_row(endpoint_id: UUID) -> PlanRow:
    with connection.cursor() as cursor:
        cursor.execute(
            f"{PLAN_ROW_SELECT} FROM job_endpoints e JOIN jobs j ON j.id = e.job_id WHERE e.id = %s", [endpoint_id]
        )
        return PlanRow(*cursor.fetchone())


def due(at: datetime, source: str, *, slot_at: datetime | None = None, attempt: int = 1) -> dict[str, Any]:
    """The columns of a plan."""
    return {"next_run_at": at, "next_slot_at": slot_at or at, "next_source": source, "next_attempt": attempt}


def interval_hint(now: datetime) -> dict[str, Any]:
    return {
        "ai_hint_interval_ms": 60_000,
        "ai_hint_interval_expires_at": now + 9 * MINUTE,
        "ai_hint_interval_reason": "busy",
        "ai_hint_interval_set_by": "planner",
    }


def oneshot_hint(at: datetime) -> dict[str, Any]:
    return {
        "ai_hint_next_run_at": at,
        "ai_hint_next_run_expires_at": at + 9 * MINUTE,
        "ai_hint_next_run_reason": "look again",
        "ai_hint_next_run_set_by": "planner",
    }


def retry(at: datetime, slot_at: datetime) -> dict[str, Any]:
    return {"retry_at": at, "retry_slot_at": slot_at, "retry_attempt": 2, "retries_used": 1, "failure_count": 1}


def pause(until: datetime) -> dict[str, Any]:
    return {"paused_until": until, "pause_reason": "maintenance", "paused_by": "user"}


def situation(name: str, now: datetime) -> dict[str, Any]:
    """Columns of an endpoint every five minutes, due just now unless the situation says otherwise."""
    at = now - timedelta(milliseconds=50)
    before, long_ago = at - MINUTE, at - 100 * MINUTE
    cron = {"baseline_interval_ms": None, "baseline_cron": "* * * * *"}
    minute = now.replace(second=0, microsecond=0)
    columns: dict[str, dict[str, Any]] = {
        "first run": due(at, "baseline-interval") | {"last_slot_at": None, "last_started_at": None},
        "interval": due(at, "baseline-interval") | {"failure_count": 2, "retries_used": 1},
        "interval, claimed ahead": due(now + 10 * MINUTE, "baseline-interval"),
        "interval, late by an hour": due(at - 60 * MINUTE, "baseline-interval") | {"anchor_at": long_ago},
        "interval, late beyond its grace": due(at - 62 * MINUTE, "baseline-interval")
        | {"anchor_at": at - 102 * MINUTE, "misfire_grace_ms": 1_000, **oneshot_hint(now + MINUTE)},
        "interval, late after its end": due(at - 60 * MINUTE, "baseline-interval")
        | {"anchor_at": long_ago, "ends_at": at - 30 * MINUTE},
        "interval, in time by a long jitter": due(at, "baseline-interval", slot_at=at - 20 * MINUTE)
        | {"anchor_at": long_ago, "misfire_grace_ms": 60_000, "jitter_ms": 3_600_000},
        "end of a pause that held a one-shot back, late beyond its grace": due(at - 62 * MINUTE, "paused")
        | pause(at - 62 * MINUTE)
        | oneshot_hint(at - 70 * MINUTE)
        | {"anchor_at": at - 102 * MINUTE, "misfire_grace_ms": 1_000, "ai_hint_next_run_expires_at": now + 9 * MINUTE},
        "cron": due(minute, "baseline-cron") | cron,
        "cron, late by an hour": due(minute - 60 * MINUTE, "baseline-cron") | cron,
        "cron, late beyond its grace": due(minute - 60 * MINUTE, "baseline-cron") | cron | {"misfire_grace_ms": 0},
        "run once": due(at, "run-once") | {"baseline_interval_ms": None, "run_once_at": at},
        "run once, held back by a pause": due(at, "run-once", slot_at=at - 60 * MINUTE)
        | {"baseline_interval_ms": None, "run_once_at": at - 60 * MINUTE, "misfire_grace_ms": 1_000, **pause(at)},
        "run once, late beyond its grace": due(at - 60 * MINUTE, "run-once")
        | {"baseline_interval_ms": None, "run_once_at": at - 60 * MINUTE, "misfire_grace_ms": 1_000},
        "backed off to the maximum": due(at, "clamped-max") | {"failure_count": 5, "max_interval_ms": 600_000},
        "interval hint": due(at, "ai-interval") | interval_hint(now),
        "interval hint, late": due(at - 60 * MINUTE, "ai-interval") | interval_hint(now),
        "clamped hint": due(at, "clamped-min") | interval_hint(now) | {"min_interval_ms": 120_000},
        "one-shot hint": due(at, "ai-oneshot") | oneshot_hint(at) | interval_hint(now),
        "one-shot hint still to come": due(at, "baseline-interval") | oneshot_hint(now + MINUTE),
        "end of a pause": due(at, "paused") | pause(at),
        "end of a pause that held a one-shot back": due(at, "paused") | pause(at) | oneshot_hint(before),
        "end of a pause before a one-shot": due(at, "paused") | pause(at) | oneshot_hint(now + MINUTE),
        "end of what the server asked for": due(at, "server-asked", slot_at=before),
        "end of what the server asked for that held a one-shot back": due(at, "server-asked", slot_at=before)
        | oneshot_hint(before),
        "end of what the server asked for before a one-shot": due(at, "server-asked", slot_at=before)
        | oneshot_hint(now + MINUTE),
        "retry": due(at, "retry", slot_at=before, attempt=2) | retry(at, before) | {"last_slot_at": before},
        "retry of an old slot": due(at, "retry", slot_at=long_ago, attempt=2) | retry(at, long_ago),
        "slot before a retry": due(at, "baseline-interval") | retry(now + MINUTE, before),
        "run now": due(at, "manual") | {"manual_run_at": at, "retries_used": 1},
        "run now before a retry": due(at, "manual") | {"manual_run_at": at} | retry(now + MINUTE, before),
        "run now inside a pause": due(at, "manual")
        | {"manual_run_at": at}
        | pause(now + 9 * MINUTE)
        | oneshot_hint(before),
        "slot before a run now": due(before, "baseline-interval") | {"manual_run_at": at},
    }
    return {"anchor_at": at - 10 * MINUTE, "last_slot_at": long_ago, "last_started_at": long_ago} | columns[name]


SITUATIONS = (
    "first run",
    "interval",
    "interval, claimed ahead",
    "interval, late by an hour",
    "interval, late beyond its grace",
    "interval, late after its end",
    "interval, in time by a long jitter",
    "cron",
    "cron, late by an hour",
    "cron, late beyond its grace",
    "run once",
    "run once, held back by a pause",
    "run once, late beyond its grace",
    "backed off to the maximum",
    "interval hint",
    "interval hint, late",
    "clamped hint",
    "one-shot hint",
    "one-shot hint still to come",
    "end of a pause",
    "end of a pause that held a one-shot back",
    "end of a pause that held a one-shot back, late beyond its grace",
    "end of a pause before a one-shot",
    "end of what the server asked for",
    "end of what the server asked for that held a one-shot back",
    "end of what the server asked for before a one-shot",
    "retry",
    "retry of an old slot",
    "slot before a retry",
    "run now",
    "run now before a retry",
    "run now inside a pause",
    "slot before a run now",
)


@pytest.mark.parametrize("name", SITUATIONS)
def test_claim_leaves_the_row_that_apply_claim_says(name: str) -> None:
    endpoint = make_endpoint(baseline_interval_ms=INTERVAL_MS)
    with connection.cursor() as cursor:
        now = database_now(cursor)
    columns = situation(name, now)
    Endpoint.objects.filter(pk=endpoint.pk).update(**columns)
    row = read_row(endpoint.pk)
    claims = claim_due(worker="w1", limit=10, lease=LEASE, horizon=timedelta(hours=1))
    claimed = read_row(endpoint.pk)

    grace_ms = columns.get("misfire_grace_ms")
    if "beyond its grace" in name:
        assert claims == []
        # The claim's own instant is not told for what is written off; no slot lies between it and this one.
        at = now if claimed.next_source != "ai-oneshot" else claimed.next_run_at or now
        tardy = apply_claim(row, at, worker="w1", grace_ms=grace_ms)
        assert tardy is not None
        assert tardy.missed
        row.lease_owner = None
        apply_plan(row, plan(row, at, unclaimed=False))
    else:
        (claim,) = claims
        tardy = apply_claim(row, claim.claimed_at, worker="w1", grace_ms=grace_ms)
        assert claim.slot_at == (row.next_slot_at if tardy is None else tardy.latest_at)
        assert (tardy is not None) == ("late" in name and "hint" not in name)
    assert asdict(row) == asdict(claimed)


@pytest.mark.parametrize("drops_the_retry", [False, True])
def test_planning_leaves_the_row_that_apply_plan_says(drops_the_retry: bool) -> None:
    endpoint = make_endpoint(baseline_interval_ms=INTERVAL_MS)
    with connection.cursor() as cursor:
        now = database_now(cursor)
    at = now + (10 if drops_the_retry else 1) * MINUTE
    Endpoint.objects.filter(pk=endpoint.pk).update(**retry(at, now - MINUTE), last_slot_at=now - MINUTE)
    row = read_row(endpoint.pk)
    apply_plan(row, replan([endpoint.pk])[endpoint.pk])
    assert row == read_row(endpoint.pk)
    assert (row.retry_at is None) == drops_the_retry


def test_row_without_a_plan_cannot_be_claimed() -> None:
    endpoint = make_endpoint(status="paused")
    with pytest.raises(ValueError, match="Nothing is planned"):
        apply_claim(read_row(endpoint.pk), endpoint.created_at, worker="w1")
