"""Runs, schedules and health through the API."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from jobs.models import Endpoint, RunResponse
from jobs.replan import replan
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


@pytest.mark.parametrize(("flags", "masked"), [(["masked"], True), (["decoded:gzip"], False), ([], False)])
def test_a_response_says_whether_secrets_were_masked(
    api: Api, cast: Cast, endpoint: Endpoint, flags: list[str], masked: bool
) -> None:
    run = make_run(endpoint)
    RunResponse.objects.create(run=run, endpoint=endpoint, received_at=run.finished_at, body="{}", flags=flags)
    shown = api.get(f"/api/runs/{run.pk}")["response"]
    assert (shown["masked"], shown["flags"]) == (masked, flags)


def test_the_page_of_a_run_says_what_was_done_to_its_body(cast: Cast, endpoint: Endpoint) -> None:
    run = make_run(endpoint)
    flags = ["decoded:gzip", "incomplete:gzip", "masked", "not_decoded:zstd", "unchanged", "unknown_charset", "other"]
    RunResponse.objects.create(run=run, endpoint=endpoint, received_at=run.finished_at, body="{}", flags=flags)
    client = Client()
    client.force_login(cast.alice)
    page = client.get(f"/jobs/run/{run.pk}/").content.decode()
    for words in (
        "came compressed with gzip",
        "gzip data ended early",
        "Echoes of your secret headers",
        "encoded as zstd, which is not read here",
        "304 to a conditional request",
        "charset that the server names is not known",
    ):
        assert words in page


def test_a_run_tells_of_the_slots_that_were_not_called_and_how_late_it_was_against_its_slot(
    api: Api, endpoint: Endpoint
) -> None:
    slot = datetime.now(UTC) - timedelta(hours=1)
    run = make_run(
        endpoint,
        attempt=2,
        source="retry",
        scheduled_for=slot,
        due_at=slot + timedelta(seconds=60),
        coalesced_slots=3,
        coalesced_until=slot,
        coalesced_cause="worker_lost",
    )
    plain = make_run(endpoint)
    for shown in (api.get(f"/api/runs/{run.pk}"), api.get(f"/api/endpoints/{endpoint.pk}/runs")["runs"][1]):
        assert (shown["latenessMs"], shown["slotLatenessMs"]) == (2.0, 60_002.0)
        assert (shown["coalescedSlots"], shown["coalescedCause"]) == (3, "worker_lost")
    shown = api.get(f"/api/runs/{plain.pk}")
    assert (shown["slotLatenessMs"], shown["coalescedSlots"], shown["coalescedCause"]) == (2.0, 0, None)
    assert api.get(f"/api/runs/{make_run(endpoint, status='missed').pk}")["slotLatenessMs"] is None


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


@pytest.mark.parametrize(
    ("schedule", "clock"),
    [
        (
            {
                "baselineIntervalMs": 14 * 86_400_000,
                "startsAt": "2026-03-16T09:00:00+01:00",
                "timezone": "Europe/Berlin",
            },
            "09:00",
        ),
        ({"baselineIntervalMs": 86_400_000, "startsAt": "2150-01-01T06:00:00Z"}, "06:00"),
        ({"baselineIntervalMs": 5_400_000, "startsAt": "2020-01-01T06:00:00Z", "timezone": "Asia/Tokyo"}, None),
        ({"baselineCron": "*/30 2 * * *", "timezone": "Europe/Berlin"}, None),
    ],
)
def test_preview_shows_the_slots_that_the_governor_plans(
    api: Api, cast: Cast, schedule: dict[str, object], clock: str | None
) -> None:
    shown = api.post("/api/schedule/preview", schedule)["slots"]
    assert clock is None or {slot["local"][11:16] for slot in shown} == {clock}
    given = {"name": "E", "url": "https://example.com/", **schedule}
    made = api.post(f"/api/jobs/{make_job(cast.alice).pk}/endpoints", given, 201)
    endpoint = Endpoint.objects.get(pk=made["id"])
    for slot in shown:
        assert endpoint.next_run_at == datetime.fromisoformat(slot["at"])
        Endpoint.objects.update(last_slot_at=endpoint.next_slot_at)
        replan([endpoint.pk])
        endpoint.refresh_from_db()
    Endpoint.objects.update(last_slot_at=None)
    replan([endpoint.pk])
    assert api.get(f"/api/endpoints/{endpoint.pk}/schedule")["slots"] == shown


def test_end_that_has_passed_is_refused_in_preview_and_endpoint(api: Api, cast: Cast) -> None:
    schedule = {"baselineIntervalMs": 60_000, "endsAt": "2020-01-01T00:00:00Z"}
    job = make_job(cast.alice)
    given = {"name": "E", "url": "https://example.com/", **schedule}
    for path, body in (("schedule/preview", schedule), (f"jobs/{job.pk}/endpoints", given)):
        (error,) = api.post(f"/api/{path}", body, 400)["errors"]
        assert (error["code"], error["field"]) == ("in_the_past", "endsAt")


@pytest.mark.parametrize("field", ["runOnceAt", "startsAt", "endsAt"])
def test_year_2200_is_refused_in_every_time_of_a_schedule(api: Api, field: str) -> None:
    schedule = {field: "2200-01-01T00:00:00Z"} | ({} if field == "runOnceAt" else {"baselineIntervalMs": 60_000})
    (error,) = api.post("/api/schedule/preview", schedule, 400)["errors"]
    assert (error["field"], error["message"]) == (field, "Give a time in the years 2000 to 2199.")


UNEVEN = {
    "code": "uneven_steps",
    "text": "*/45 in the minute starts again in each hour: the gaps are 45 and 15 min. "
    "For even gaps use an interval of 45 min, or a step that divides 60.",
    "unit": "min",
    "gaps": [45, 15],
}


def test_uneven_steps_are_warned_of_in_preview_schedule_and_endpoint(api: Api, cast: Cast) -> None:
    assert api.post("/api/schedule/preview", {"baselineCron": "*/45 * * * *"})["warnings"] == [UNEVEN]
    assert api.post("/api/schedule/preview", {"baselineCron": "*/15 * * * *"})["warnings"] == []
    assert api.post("/api/schedule/preview", {"baselineIntervalMs": 60_000})["warnings"] == []
    job = make_job(cast.alice)
    given = {"name": "E", "url": "https://example.com/", "baselineCron": "*/45 * * * *"}
    made = api.post(f"/api/jobs/{job.pk}/endpoints", given, 201)
    assert made["warnings"] == [UNEVEN]
    assert api.get(f"/api/endpoints/{made['id']}/schedule")["warnings"] == [UNEVEN]
    changed = api.patch(f"/api/jobs/{job.pk}/endpoints/{made['id']}", {"baselineCron": "*/30 * * * *"})
    assert changed["warnings"] == []


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("TZ=Europe/Berlin 0 9 * * *", "give the zone in the field timezone"),
        ("*/10 * * * * *", "use an interval of 10 s. (at character 1)"),
        ("H * * * *", "jitterMs"),
        ("@reboot", "start of a machine"),
    ],
)
def test_preview_and_endpoint_name_the_fault_of_a_cron_expression_alike(
    api: Api, cast: Cast, cron: str, says: str
) -> None:
    job = make_job(cast.alice)
    given = {"name": "E", "url": "https://example.com/", "baselineCron": cron}
    for path, body in (("schedule/preview", {"baselineCron": cron}), (f"jobs/{job.pk}/endpoints", given)):
        (error,) = api.post(f"/api/{path}", body, 400)["errors"]
        assert (error["code"], error["field"]) == ("invalid_cron", "baselineCron")
        assert says in error["message"]


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
