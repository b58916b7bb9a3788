"""A deactivated owner's endpoints are neither called nor analysed, whatever deactivates the owner."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import Client

from accounts.models import User
from jobs import authoring, services
from jobs.errors import ConflictError
from jobs.models import Author, Endpoint, Run
from jobs.owners import plan_reactivated
from planner.attention.discovery import candidates, lease
from planner.proposals.filing import standing_of
from planner.proposals.wishes import ClearHints
from planner.rules.snapshots import endpoints_with_recent_runs
from scheduling.ledger.claims import claim_due
from scheduling.ledger.gate import recheck
from scheduling.ledger.leases import release
from scheduling.worker.worker import Worker
from tests.planner.scenes import busy_endpoint, ran, utc_now
from tests.support.factories import make_api_key, make_endpoint, make_job, make_operator, make_user
from tests.support.http_target import HttpTarget, Received, Reply, Wire
from tests.support.processes import eventually

pytestmark = pytest.mark.django_db(transaction=True)
MakeDue = Callable[..., Endpoint]
LEASE = timedelta(seconds=60)


def by_save(user: User, active: bool) -> None:
    user.is_active = active
    user.save()


def by_queryset(user: User, active: bool) -> None:
    User.objects.filter(pk=user.pk).update(is_active=active)


def by_sql(user: User, active: bool) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE users SET is_active = %s WHERE id = %s", [active, user.pk])


def by_console(user: User, active: bool) -> None:
    client = Client()
    client.force_login(make_operator(), backend="django.contrib.auth.backends.ModelBackend")
    values = {"email": user.email, "name": user.name, **({"is_active": "on"} if active else {})}
    assert client.post(f"/accounts/user/{user.pk}/change/", values).status_code == 302


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchone()[0])


WAYS = [by_save, by_queryset, by_sql, by_console]


@pytest.mark.parametrize("change", WAYS)
def test_a_deactivated_owner_is_not_called_and_an_active_one_is_again(
    change: Callable[[User, bool], None], make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    owner = make_user()
    due = make_due(target.route("/due", Reply(200)), job=make_job(owner), baseline_interval_ms=60_000)
    other = make_due(target.route("/other", Reply(200)), baseline_interval_ms=60_000)
    change(owner, False)

    assert worker.run_once() == 1, "another owner's endpoint is called"
    assert [request.path for request in target.requests] == ["/other"]
    due.refresh_from_db()
    assert due.next_run_at is None
    assert due.next_decision["sentence"] == "Nothing is due: its owner is deactivated."

    Endpoint.objects.filter(pk=other.pk).delete()
    change(owner, True)
    plan_reactivated()
    due.refresh_from_db()
    assert due.next_run_at is not None
    Endpoint.objects.filter(pk=due.pk).update(next_run_at=utc_now())
    assert worker.run_once() == 1
    assert target.requests[-1].path == "/due"


def test_a_worker_plans_the_endpoints_of_an_owner_whom_plain_sql_activated(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    owner = make_user()
    url = target.route("/once", Reply(200))
    make_endpoint(make_job(owner), url=url, run_once_at=utc_now() - timedelta(seconds=1))
    by_sql(owner, False)
    assert worker.run_once() == 0
    by_sql(owner, True)
    assert worker.run_once() == 1


def test_what_was_claimed_ahead_is_withdrawn_and_its_slot_stays_unused() -> None:
    owner = make_user()
    endpoint = make_endpoint(make_job(owner), baseline_interval_ms=30_000)
    (claim,) = claim_due(worker="w1", limit=1, lease=LEASE, horizon=timedelta(minutes=1))
    assert claim.run_id is not None
    by_sql(owner, False)

    assert recheck(worker="w1", waiting={claim.run_id: claim}).stopped == [claim.run_id]
    release(worker="w1", claims=[claim])
    endpoint.refresh_from_db()
    assert (endpoint.lease_owner, endpoint.next_run_at, endpoint.last_slot_at) == (None, None, None)
    assert not Run.objects.exists()


def test_a_call_under_way_is_settled_and_neither_retried_nor_repeated(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    owner = make_user()

    def answer(received: Received, wire: Wire) -> None:
        User.objects.filter(pk=owner.pk).update(is_active=False)
        connection.close()
        Reply(503)(received, wire)

    endpoint = make_due(
        target.route("/failing", answer), job=make_job(owner), retry_limit=3, baseline_interval_ms=60_000
    )
    assert worker.run_once() == 1
    endpoint.refresh_from_db()
    assert (endpoint.next_run_at, endpoint.lease_owner) == (None, None)
    assert Run.objects.get().status == "failed"

    by_save(User.objects.get(pk=owner.pk), True)
    endpoint.refresh_from_db()
    assert endpoint.next_source == "baseline-interval", "a retry from before the deactivation is dropped"


@pytest.mark.parametrize("kind", ["hint", "one-shot", "pause", "edit", "new", "failures"])
def test_no_change_of_the_endpoint_brings_a_call_back(kind: str) -> None:
    owner = make_user()
    endpoint = make_endpoint(make_job(owner), baseline_interval_ms=60_000)
    by_queryset(owner, False)
    match kind:
        case "hint":
            services.set_interval_hint(
                endpoint_id=endpoint.pk, interval_ms=1_000, ttl_ms=60_000, reason="", author=Author.USER
            )
        case "one-shot":
            services.set_oneshot_hint(
                endpoint_id=endpoint.pk, next_run_in_ms=0, ttl_ms=60_000, reason="", author=Author.USER
            )
        case "pause":
            until = utc_now() + timedelta(hours=1)
            services.pause(endpoint_id=endpoint.pk, until=until, reason="", author=Author.USER)
        case "edit":
            authoring.edit_endpoint(endpoint_id=endpoint.pk, changes={"baseline_interval_ms": 1_000})
        case "new":
            values = {"name": "late", "url": "https://example.com/", "baseline_interval_ms": 1_000}
            endpoint = authoring.create_endpoint(job_id=endpoint.job_id, values=values)
        case "failures":
            services.reset_failures(endpoint_id=endpoint.pk)
    endpoint.refresh_from_db()
    assert endpoint.next_run_at is None
    assert "owner is deactivated" in endpoint.next_decision["sentence"]


def test_run_now_is_refused_for_a_deactivated_owner_and_a_waiting_press_is_dropped() -> None:
    owner = make_user()
    endpoint = make_endpoint(make_job(owner))
    services.run_now(endpoint_id=endpoint.pk, by=owner.pk)
    by_queryset(owner, False)
    with pytest.raises(ConflictError, match="owner is deactivated"):
        services.run_now(endpoint_id=endpoint.pk, by=owner.pk)
    by_save(User.objects.get(pk=owner.pk), True)
    endpoint.refresh_from_db()
    assert endpoint.next_source == "baseline-interval"


def test_the_planner_looks_at_no_endpoint_of_a_deactivated_owner() -> None:
    endpoint = busy_endpoint()
    ran(endpoint)
    endpoint.refresh_from_db()
    (found,) = candidates(utc_now())
    assert endpoints_with_recent_runs(None, heuristics=True, limit=10)

    by_sql(endpoint.owner, False)
    assert candidates(utc_now()) == []
    assert endpoints_with_recent_runs(None, heuristics=True, limit=10) == []
    assert not lease(worker="p1", candidate=found), "the owner was deactivated after the look"
    endpoint.refresh_from_db()
    assert not standing_of(endpoint, utc_now(), ClearHints(reason="done")).active


def test_a_deactivation_waits_for_an_endpoint_that_is_just_made() -> None:
    owner = make_user()
    job = make_job(owner)
    made = threading.Event()

    def deactivate() -> None:
        made.wait(10)
        by_queryset(owner, False)
        connection.close()

    thread = threading.Thread(target=deactivate)
    thread.start()
    with transaction.atomic():
        endpoint = make_endpoint(job)
        made.set()
        eventually(_somebody_waits)
    thread.join(20)
    endpoint.refresh_from_db()
    assert (endpoint.owner_active, endpoint.next_run_at) == (False, None)


def test_keys_and_sessions_of_a_deactivated_owner_open_nothing() -> None:
    owner = make_user()
    _, text = make_api_key(owner)
    browser = Client()
    browser.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    for active, key_status, page_status in ((True, 200, 200), (False, 401, 302)):
        by_queryset(owner, active)
        assert Client().get("/api/jobs", headers={"x-api-key": text}).status_code == key_status
        assert browser.get("/").status_code == page_status
        assert browser.get("/api/jobs").status_code == key_status
