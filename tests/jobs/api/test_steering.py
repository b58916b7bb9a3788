"""Hints, pauses and run now through the API: answered with the new plan."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.models import Endpoint
from tests.support.api import Api, faults
from tests.support.factories import Cast, make_endpoint, make_job


@pytest.fixture
def endpoint(cast: Cast) -> Endpoint:
    return make_endpoint(make_job(cast.alice), baseline_interval_ms=3_600_000)


def seconds_ahead(shown: dict[str, Any]) -> float:
    return (datetime.fromisoformat(shown["nextRunAt"]) - datetime.now(UTC)).total_seconds()


def test_an_interval_hint_takes_effect_at_once_and_is_cleared_at_once(api: Api, endpoint: Endpoint) -> None:
    path = f"/api/endpoints/{endpoint.pk}/hints"
    shown = api.post(f"{path}/interval", {"intervalMs": 30_000, "ttlMinutes": 5, "reason": "busy"})
    assert 25 < seconds_ahead(shown) <= 30
    assert (shown["nextSource"], shown["aiHintIntervalMs"]) == ("ai-interval", 30_000)
    assert (shown["aiHintIntervalReason"], shown["aiHintIntervalSetBy"]) == ("busy", "user")
    status, shown = api.send("DELETE", path)
    assert status == 200
    assert shown["aiHintIntervalMs"] is None
    assert shown["nextSource"] == "baseline-interval"
    assert seconds_ahead(shown) > 3_500


@pytest.mark.parametrize("relative", [True, False])
def test_a_one_shot_hint_runs_once_at_its_time(api: Api, endpoint: Endpoint, relative: bool) -> None:
    at = (datetime.now(UTC) + timedelta(minutes=2)).isoformat()
    value = {"nextRunInMs": 120_000} if relative else {"nextRunAt": at.replace("+00:00", "Z")}
    shown = api.post(f"/api/endpoints/{endpoint.pk}/hints/oneshot", value)
    assert shown["nextSource"] == "ai-oneshot"
    assert 115 < seconds_ahead(shown) <= 120


def test_a_pause_holds_until_its_end_or_until_null(api: Api, endpoint: Endpoint) -> None:
    path = f"/api/endpoints/{endpoint.pk}/pause"
    until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    shown = api.post(path, {"pausedUntil": until, "reason": "Upgrade"})
    assert (shown["nextSource"], shown["pauseReason"], shown["pausedBy"]) == ("paused", "Upgrade", "user")
    shown = api.post(path, {"pausedUntil": None})
    assert (shown["pausedUntil"], shown["nextSource"]) == (None, "baseline-interval")


def test_run_now_is_accepted_and_planned_for_now(api: Api, endpoint: Endpoint, cast: Cast) -> None:
    shown = api.post(f"/api/endpoints/{endpoint.pk}/run", expect=202)
    assert shown["nextSource"] == "manual"
    assert seconds_ahead(shown) <= 0
    assert Endpoint.objects.get().manual_run_by == cast.alice.pk


def test_run_now_is_refused_under_a_persons_pause(api: Api, endpoint: Endpoint) -> None:
    until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    api.post(f"/api/endpoints/{endpoint.pk}/pause", {"pausedUntil": until})
    status, body = api.send("POST", f"/api/endpoints/{endpoint.pk}/run")
    assert (status, faults(body)) == (409, [("paused_by_a_person", None)])


def test_resetting_failures_ends_the_back_off(api: Api, endpoint: Endpoint) -> None:
    Endpoint.objects.update(failure_count=4)
    shown = api.post(f"/api/endpoints/{endpoint.pk}/reset-failures")
    assert shown["failureCount"] == 0
    assert 3_590 < seconds_ahead(shown) <= 3_600


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hints/interval", {"intervalMs": 30_000}),
        ("hints/oneshot", {"nextRunInMs": 1}),
        ("pause", {"pausedUntil": None}),
        ("run", None),
        ("reset-failures", None),
    ],
)
def test_an_archived_endpoint_is_not_steered(api: Api, endpoint: Endpoint, path: str, value: Any) -> None:
    api.send("DELETE", f"/api/jobs/{endpoint.job_id}/endpoints/{endpoint.pk}")
    status, body = api.send("POST", f"/api/endpoints/{endpoint.pk}/{path}", value)
    assert status == 409
    assert faults(body)[0][0] in ("archived", "endpoint_not_active")
