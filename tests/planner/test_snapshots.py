"""Which endpoints a pass of the rules meets: each new run once, none skipped, by the index."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from jobs.models import Endpoint, EndpointStatus
from planner.rules import rulespass, snapshots
from planner.rules.memory import Memory
from planner.rules.rulespass import rules_pass
from planner.rules.snapshots import NO_ID, Place, endpoints_with_recent_runs, mark_seen, sibling_named, watched
from scheduling.exchange.jsonpath import MISSING
from tests.planner.scenes import QUEUE_RULE, ran, utc_now
from tests.support.factories import make_endpoint, make_job

pytestmark = pytest.mark.django_db


def met(after: Place | None = None, limit: int = 100, **options: Any) -> list[Place]:
    return endpoints_with_recent_runs(after, **{"heuristics": True, "limit": limit, **options})


def with_rule(**fields: Any) -> Endpoint:
    return make_endpoint(rules=[QUEUE_RULE], **fields)


def test_runs_that_ended_at_one_moment_are_all_met_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job()
    for _ in range(11):
        ran(with_rule(job=job), {"queue_depth": 1})
    Endpoint.objects.update(last_run_at=utc_now())
    seen: list[Place] = []
    while batch := met(seen[-1] if seen else None, limit=2):
        seen += batch
    assert [endpoint_id for _, endpoint_id in seen] == sorted(Endpoint.objects.values_list("pk", flat=True))
    monkeypatch.setattr(rulespass, "BATCH", 2)
    assert rules_pass(last_pass_at=utc_now(), heuristics=True).looked_at == 11
    assert rules_pass(last_pass_at=None, heuristics=True).looked_at == 0


def test_a_run_while_no_planner_ran_for_days_is_met_by_the_first_pass() -> None:
    weekly = with_rule()
    ran(weekly, {"queue_depth": 412}, ago=timedelta(days=5).total_seconds())
    assert rules_pass(last_pass_at=utc_now(), heuristics=True).looked_at == 0
    assert rules_pass(last_pass_at=None, heuristics=True).looked_at == 1
    assert rules_pass(last_pass_at=None, heuristics=True).looked_at == 0


def test_what_one_planner_has_seen_is_not_forgotten_by_the_late_word_of_another() -> None:
    endpoint = with_rule()
    ran(endpoint, {})
    at = endpoint.last_run_at
    mark_seen([(at, endpoint.pk)], {})
    mark_seen([(at - timedelta(minutes=5), endpoint.pk)], {endpoint.pk: Memory()})
    assert met() == []
    endpoint.refresh_from_db()
    assert endpoint.rules_state is None
    ran(endpoint, {}, ago=0)
    assert [endpoint_id for _, endpoint_id in met()] == [endpoint.pk]


def test_only_what_rules_or_heuristics_could_speak_on_is_met() -> None:
    plain = make_endpoint()
    slowable = make_endpoint(max_interval_ms=900_000)
    ruled = with_rule()
    for endpoint in (plain, slowable, ruled, with_rule(planner_mode="off")):
        ran(endpoint, {})
    assert {endpoint_id for _, endpoint_id in met()} == {slowable.pk, ruled.pk}
    assert {endpoint_id for _, endpoint_id in met(heuristics=False)} == {ruled.pk}


def test_bodies_are_read_in_lots_and_only_where_a_rule_looks_into_them(
    django_assert_num_queries: DjangoAssertNumQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    ruled = [with_rule(job=job) for _ in range(6)]
    unread = make_endpoint(job=job, rules=[{"when": {"failing_for": 1}, "then": {"pause_minutes": 5}}])
    for endpoint in (*ruled, unread):
        ran(endpoint, {"queue_depth": 7, "text": "x" * 1_000}, ago=9)
        ran(endpoint, {"queue_depth": 8, "text": "x" * 1_000})
    monkeypatch.setattr(snapshots, "MOST_BODY_BYTES", 5_000)
    found, _ = watched([endpoint.pk for endpoint in (*ruled, unread)], utc_now())
    with django_assert_num_queries(3):
        seen: dict[UUID, list[Any]] = {
            item.endpoint_id: [run.observation.document for run in item.runs] for item in found
        }
    for endpoint in ruled:
        assert [document["queue_depth"] for document in seen[endpoint.pk]] == [8, 7]
    assert set(seen[unread.pk]) == {MISSING}


def test_a_body_larger_than_a_lot_is_read_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = [with_rule(), with_rule()]
    for endpoint in endpoints:
        ran(endpoint, {"queue_depth": 412})
    monkeypatch.setattr(snapshots, "MOST_BODY_BYTES", 1)
    found, _ = watched([endpoint.pk for endpoint in endpoints], utc_now())
    assert [item.runs[0].observation.document for item in found] == [{"queue_depth": 412}] * 2


def test_the_runs_since_the_last_pass_are_found_by_index_and_without_reading_runs() -> None:
    job = make_job()
    at = utc_now()
    Endpoint.objects.bulk_create(
        Endpoint(
            job=job,
            owner_id=job.owner_id,
            name="e",
            url="https://example.com/",
            host="example.com",
            baseline_interval_ms=60_000,
            rules=[QUEUE_RULE],
            last_run_at=at - timedelta(seconds=number),
        )
        for number in range(3_000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE job_endpoints")
    plans: list[str] = []

    def explained(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        with connection.cursor() as beside:
            beside.cursor.execute("EXPLAIN (FORMAT JSON) " + sql, params)
            plans.append(json.dumps(beside.cursor.fetchone()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explained):
        assert len(met((at - timedelta(minutes=2), NO_ID), limit=50)) == 50
    (plan,) = plans
    assert '"Index Name": "endpoints_by_last_run"' in plan.replace("\\", "")
    assert '"runs"' not in plan.replace("\\", "")


def test_an_archived_namesake_is_no_sibling_and_an_active_one_comes_before_one_that_is_paused() -> None:
    job = make_job()
    check = with_rule(job=job)
    make_endpoint(job=job, name="recover", status=EndpointStatus.ARCHIVED)
    assert sibling_named(check.pk, "recover") is None
    paused = make_endpoint(job=job, name="recover", status=EndpointStatus.PAUSED)
    assert sibling_named(check.pk, "recover") == paused.pk
    active = make_endpoint(job=job, name="recover")
    make_endpoint(job=job, name="recover")
    assert sibling_named(check.pk, "recover") == active.pk
