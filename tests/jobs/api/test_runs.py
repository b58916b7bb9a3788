"""Runs, schedules and health through the API."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from pytest_django import DjangoAssertNumQueries

from jobs.models import Endpoint, RunResponse
from tests.support.api import Api
from tests.support.factories import Cast, make_endpoint, make_job, make_run


@pytest.fixture
def endpoint(cast: Cast) -> Endpoint:
    return make_endpoint(make_job(cast.alice), baseline_interval_ms=60_000)


def test_runs_are_listed_latest_first_filtered_and_paged(
    api: Api, endpoint: Endpoint, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    now = datetime.now(UTC)
    for minute in range(6):
        make_run(
            endpoint,
            due_at=now - timedelta(minutes=minute),
            status="failed" if minute % 2 else "success",
            source="manual" if minute == 5 else "baseline-interval",
        )
    make_run(make_endpoint(endpoint.job))
    path = f"/api/endpoints/{endpoint.pk}/runs"
    with django_assert_num_queries(5):  # the key, its use, the endpoint, total, page
        page = api.get(path)
    assert page["total"] == 6
    due = [run["dueAt"] for run in page["runs"]]
    assert due == sorted(due, reverse=True)
    assert [run["latenessMs"] for run in page["runs"]] == [2.0] * 6
    assert api.get(f"{path}?status=failed")["total"] == 3
    assert api.get(f"{path}?source=manual")["total"] == 1
    assert [run["dueAt"] for run in api.get(f"{path}?limit=2&offset=3")["runs"]] == due[3:5]


def test_a_run_shows_why_how_long_and_what_came_back(api: Api, endpoint: Endpoint) -> None:
    assert endpoint.next_decision is not None
    run = make_run(endpoint, decision=endpoint.next_decision, dns_ms=1.5, total_ms=50.0, worker="scheduler-a")
    RunResponse.objects.create(
        run=run,
        endpoint=endpoint,
        received_at=run.finished_at,
        body="x" * 20_000,
        content_type="text/plain",
        headers={"retry_after": "5"},
    )
    shown = api.get(f"/api/runs/{run.pk}")
    assert shown["decision"]["sentence"] == endpoint.next_decision["sentence"]
    assert shown["decision"]["candidates"][0]["verdict"] == "chosen"
    assert shown["timings"] == {"dnsMs": 1.5, "connectMs": None, "tlsMs": None, "firstByteMs": None, "totalMs": 50.0}
    assert shown["latenessMs"] == 2.0
    assert (len(shown["response"]["body"]), shown["response"]["bodyLength"]) == (16_384, 20_000)
    assert shown["response"]["headers"] == {"retry_after": "5"}


def test_a_run_without_response_or_decision_is_shown(api: Api, endpoint: Endpoint) -> None:
    run = make_run(endpoint, status="missed")
    shown = api.get(f"/api/runs/{run.pk}")
    assert (shown["response"], shown["decision"], shown["latenessMs"]) == (None, None, None)


def test_the_schedule_shows_the_decision_and_ten_slots(api: Api, endpoint: Endpoint) -> None:
    shown = api.get(f"/api/endpoints/{endpoint.pk}/schedule")
    assert shown["decision"]["source"] == "baseline-interval"
    assert shown["nextRunAt"] == shown["slots"][0]["at"]
    slots = [datetime.fromisoformat(slot["at"]) for slot in shown["slots"]]
    assert len(slots) == 10
    assert {b - a for a, b in itertools.pairwise(slots)} == {timedelta(minutes=1)}


def test_the_schedule_of_a_stopped_endpoint_says_so(api: Api, cast: Cast) -> None:
    endpoint = make_endpoint(make_job(cast.alice), status="paused")
    shown = api.get(f"/api/endpoints/{endpoint.pk}/schedule")
    assert (shown["nextRunAt"], shown["slots"]) == (None, [])
    assert "paused" in shown["decision"]["sentence"]


def test_slots_of_a_cron_are_shown_in_utc_and_on_the_zones_clock(api: Api) -> None:
    shown = api.post("/api/schedule/preview", {"baselineCron": "0 9 * * *", "timezone": "Asia/Tokyo"})
    assert shown["timezone"] == "Asia/Tokyo"
    assert len(shown["slots"]) == 10
    for slot in shown["slots"]:
        assert slot["at"].endswith("T00:00:00.000000Z")
        assert slot["local"].endswith("T09:00:00+09:00")


def test_a_preview_keeps_to_its_window(api: Api) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    window = {"startsAt": start.isoformat(), "endsAt": (start + timedelta(minutes=3)).isoformat()}
    shown = api.post("/api/schedule/preview", {"baselineIntervalMs": 60_000, **window})
    instants = [datetime.fromisoformat(slot["at"]) for slot in shown["slots"]]
    assert len(instants) == 3
    assert all(start <= instant < start + timedelta(minutes=3) for instant in instants)


def test_a_preview_of_one_run_is_that_run(api: Api) -> None:
    shown = api.post("/api/schedule/preview", {"runOnceAt": "2150-01-01T00:00:00+01:00"})
    assert [slot["at"] for slot in shown["slots"]] == ["2149-12-31T23:00:00.000000Z"]


def test_health_counts_rates_and_percentiles(api: Api, endpoint: Endpoint) -> None:
    Endpoint.objects.update(failure_count=2)
    now = datetime.now(UTC)
    for number in range(4):
        make_run(endpoint, due_at=now - timedelta(minutes=number + 1), duration_ms=100.0 * (number + 1))
    make_run(endpoint, status="failed")
    make_run(endpoint, status="abandoned")
    make_run(endpoint, status="missed")
    make_run(endpoint, due_at=now - timedelta(hours=30))
    shown = api.get(f"/api/endpoints/{endpoint.pk}/health")
    assert (shown["total"], shown["success"], shown["failed"], shown["abandoned"], shown["missed"]) == (7, 4, 1, 1, 1)
    assert shown["successRate"] == pytest.approx(4 / 6)
    assert shown["failureStreak"] == 2
    assert shown["durationP50Ms"] == 150.0
    assert shown["latenessP95Ms"] == pytest.approx(2.0)
    assert api.get(f"/api/endpoints/{endpoint.pk}/health?sinceHours=48")["total"] == 8


def test_health_without_runs_has_no_rates(api: Api, endpoint: Endpoint) -> None:
    shown = api.get(f"/api/endpoints/{endpoint.pk}/health?sinceHours=1")
    assert (shown["total"], shown["successRate"], shown["durationP95Ms"]) == (0, None, None)
