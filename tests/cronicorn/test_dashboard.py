"""The dashboard's figures: whose, of when, and without self-tests."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.core.cache import cache
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.ids import new_ids
from cronicorn.dashboard import dashboard_context, first_id_of, kept
from cronicorn.env import read_environment, variables
from jobs import services
from jobs.heartbeats import beat
from jobs.models import Author, Endpoint, WorkerKind
from planner.models import AnalysisSession
from tests.support.factories import make_cast, make_endpoint, make_job, make_run, make_user

pytestmark = pytest.mark.django_db


def now() -> datetime:
    return datetime.now(UTC)


def test_runs_are_counted_by_owner_and_operators_count_all() -> None:
    cast = make_cast()
    for owner, count in ((cast.alice, 2), (cast.bob, 3)):
        endpoint = make_endpoint(make_job(owner))
        for _ in range(count):
            make_run(endpoint)
    assert dashboard_context(cast.alice, now())["chart"]["total"] == 2
    assert dashboard_context(cast.bob, now())["chart"]["total"] == 3
    assert dashboard_context(cast.operator, now())["chart"]["total"] == 5


def test_self_tests_are_left_out_and_have_their_own_row() -> None:
    user = make_user()
    make_run(make_endpoint(make_job(user, is_synthetic=True)), status="failed")
    make_run(make_endpoint(make_job(user)))
    context = dashboard_context(user, now())
    assert (context["chart"]["total"], context["endpoints"], context["failing"]) == (1, 1, 0)
    assert len(context["activity"]) == 1
    assert (context["self_test"]["ended"], context["self_test"]["success"]) == (1, "0 %")


def test_self_tests_are_shown_while_there_is_nothing_else_and_where_their_job_is_chosen(client: Client) -> None:
    user = make_user()
    tests = make_job(user, is_synthetic=True)
    make_run(make_endpoint(tests))
    context = dashboard_context(user, now())
    assert (context["chart"]["total"], context["endpoints"], context["shows_self_tests"]) == (1, 1, True)
    client.force_login(user)
    assert b"self-tests" in client.get("/").content

    make_endpoint(make_job(user))
    assert dashboard_context(user, now())["chart"]["total"] == 0
    assert dashboard_context(user, now(), tests.pk)["chart"]["total"] == 1
    assert b"These are the installation" not in client.get("/").content


def test_a_job_narrows_every_figure() -> None:
    user = make_user()
    job, other = make_job(user), make_job(user)
    make_run(make_endpoint(job))
    make_run(make_endpoint(other))
    context = dashboard_context(user, now(), job.pk)
    assert (context["chart"]["total"], context["endpoints"], len(context["activity"])) == (1, 1, 1)


def test_a_failure_is_never_rounded_away() -> None:
    user = make_user()
    endpoint = make_endpoint(make_job(user))
    moment = now().replace(hour=12, minute=0)
    for number in range(40):
        make_run(endpoint, due_at=moment + timedelta(seconds=number))
    make_run(endpoint, due_at=moment + timedelta(minutes=5), status="failed")
    context = dashboard_context(user, moment + timedelta(minutes=10))
    assert (context["runs_today"], context["success_today"]) == (41, "97.6 %")


def test_lateness_is_the_95th_percentile_of_the_last_hour() -> None:
    user = make_user()
    endpoint = make_endpoint(make_job(user))
    for number in range(1, 101):
        due_at = now() - timedelta(minutes=30, seconds=number)
        make_run(endpoint, due_at=due_at, started_at=due_at + timedelta(milliseconds=number))
    late = now() - timedelta(hours=2)
    make_run(endpoint, due_at=late, started_at=late + timedelta(hours=1))
    assert dashboard_context(user, now())["lateness_p95_ms"] == pytest.approx(95.05, abs=0.1)


def test_hints_failures_and_tokens_are_shown() -> None:
    user = make_user()
    endpoint = make_endpoint(make_job(user), failure_count=4)
    services.set_interval_hint(
        endpoint_id=endpoint.pk, interval_ms=60_000, ttl_ms=60_000, reason="", author=Author.USER
    )
    AnalysisSession.objects.create(
        endpoint=endpoint,
        owner=user,
        trigger="new_runs",
        backend="openai",
        status="failed",
        prompt_tokens=1_200,
        completion_tokens=34,
    )
    context = dashboard_context(user, now())
    assert (context["active_hints"], context["failing"], context["tokens_today"], context["sessions_today"]) == (
        1,
        1,
        1_234,
        1,
    )
    assert [row["why"] for row in context["attention"]] == ["4 failures in a row"]
    wait = {"server_wait_since": now(), "server_wait_until": now() + timedelta(hours=1)}
    Endpoint.objects.update(failure_count=0, paused_until=None, paused_by=None, **wait)
    assert [row["why"] for row in dashboard_context(user, now())["attention"]] == [
        "put off, for the server asked to wait"
    ]


def test_sessions_beside_tokens_are_the_model_s_and_a_failed_one_says_why() -> None:
    user = make_user()
    session = {"endpoint": make_endpoint(make_job(user)), "owner": user, "trigger": "due"}
    AnalysisSession.objects.create(**session, backend="rules", status="completed", reasoning="busy")
    AnalysisSession.objects.create(**session, backend="openai", status="failed", error_kind="connection_failed")
    context = dashboard_context(user, now())
    assert context["sessions_today"] == 1
    assert sorted(entry["text"] for entry in context["activity"]) == ["busy", "connection failed"]


def test_outcomes_of_every_hour_fit_the_picture() -> None:
    user = make_user()
    endpoint = make_endpoint(make_job(user))
    for hours in range(0, 24, 3):
        make_run(
            endpoint, due_at=now() - timedelta(hours=hours, seconds=5), status="failed" if hours % 2 else "success"
        )
    chart = dashboard_context(user, now())["chart"]
    assert len(chart["columns"]) == 24
    assert all(0 <= part["y"] <= 140 for column in chart["columns"] for part in column["parts"])


def test_workers_are_shown_with_when_they_were_seen() -> None:
    user = make_user()
    beat(worker="scheduler-1", kind=WorkerKind.SCHEDULER, facts={})
    workers = {worker["kind"]: worker for worker in dashboard_context(user, now())["workers"]}
    assert workers["scheduler"]["live"] == 1
    assert (workers["planner"]["live"], workers["planner"]["seen_at"]) == (0, None)


def test_an_opened_private_network_is_announced(settings: Settings) -> None:
    client = Client()
    client.force_login(make_user(), backend="django.contrib.auth.backends.ModelBackend")
    settings.ENV = read_environment({**variables(), "EGRESS_ALLOW": "10.9.8.0/24"})
    assert "10.9.8.0/24" in client.get("/").content.decode()
    settings.ENV = read_environment({**variables(), "EGRESS_ALLOW": ""})
    assert "Private networks" not in client.get("/").content.decode()


def test_live_parts_are_those_of_the_page() -> None:
    client = Client()
    user = make_user()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    make_run(make_endpoint(make_job(user)))
    page, parts = client.get("/").content.decode(), client.get("/dashboard/live/").json()
    assert {f'data-part="{name}"' in page for name in parts} == {True}
    assert parts["attention"] in page


def test_the_dashboard_takes_a_fixed_number_of_queries(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    user = make_user()
    for _ in range(15):
        make_run(make_endpoint(make_job(user), failure_count=1))
    with django_assert_max_num_queries(15):
        dashboard_context(user, now())


def test_the_smallest_id_of_an_instant_is_just_below_ids_made_then() -> None:
    (made,) = new_ids(1)
    assert first_id_of(now() - timedelta(seconds=5)) < UUID(str(made)) < first_id_of(now() + timedelta(seconds=5))


def test_a_slow_read_is_kept_and_a_fast_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cache.clear()
    reads: list[int] = []
    assert kept("fast", lambda: len(reads)) == 0
    reads.append(1)
    assert kept("fast", lambda: len(reads)) == 1
    times = iter([0, 2_000_000_000])
    monkeypatch.setattr("cronicorn.dashboard.monotonic_ns", lambda: next(times))
    assert kept("slow", lambda: "first") == "first"
    assert kept("slow", lambda: "second") == "first"
