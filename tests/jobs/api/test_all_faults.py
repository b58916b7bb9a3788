"""Every fault of a request is told at once, whichever stage of the judgement finds it."""

from typing import Any

import pytest

from jobs.models import Endpoint, Job
from tests.support.api import Api, faults
from tests.support.factories import Cast, make_endpoint, make_job

# Faults of type, of value, of the destination, between fields, and of the owner's own JSON, in one endpoint.
BAD_ENDPOINT = {
    "name": 7,
    "url": "https://169.254.169.254/x",
    "timeoutMs": "x",
    "retryLimit": 99,
    "plannerMode": "always",
    "baselineCron": "61 * * * *",
    "startsAt": "2031-01-01T00:00:00Z",
    "endsAt": "2030-01-01T00:00:00Z",
    "headers": [{"name": "Host", "value": "x"}, {"name": "X-Key"}],
    "successCriteria": {"status": [7], "other": 1, "assertions": [{"path": "$.a"}, {"max_duration_ms": 0}, 5]},
    "rules": [{"when": {"failing_for": 0}, "then": {"interval_ms": 1}}],
    "timeout_ms": 5,
    "id": "x",
}
ENDPOINT_FAULTS = {
    ("invalid_type", "name"),
    ("destination_not_allowed", "url"),
    ("invalid_type", "timeoutMs"),
    ("out_of_range", "retryLimit"),
    ("invalid_choice", "plannerMode"),
    ("window", "endsAt"),
    ("reserved", "headers[0].name"),
    ("invalid_criteria", "successCriteria.other"),
    ("invalid_criteria", "successCriteria.status[0]"),
    ("invalid_criteria", "successCriteria.assertions[0].value"),
    ("invalid_criteria", "successCriteria.assertions[1].max_duration_ms"),
    ("invalid_criteria", "successCriteria.assertions[2]"),
    ("unknown_field", "timeout_ms"),
    ("read_only", "id"),
}


def told(body: Any) -> set[tuple[str, str | None]]:
    return set(faults(body))


@pytest.fixture
def job(cast: Cast) -> Job:
    return make_job(cast.alice)


def test_a_new_endpoint_tells_the_faults_of_all_stages(api: Api, job: Job) -> None:
    status, body = api.send("POST", f"/api/jobs/{job.pk}/endpoints", BAD_ENDPOINT)
    assert status == 400
    assert told(body) >= ENDPOINT_FAULTS
    fields = [field for _, field in faults(body)]
    for start in ("baselineCron", "successCriteria", "rules[0].when", "rules[0].then"):
        assert any((field or "").startswith(start) for field in fields), start
    assert "one_baseline" not in {code for code, _ in faults(body)}


def test_an_edit_tells_the_faults_of_all_stages(api: Api, job: Job) -> None:
    endpoint = make_endpoint(job)
    changes = {**BAD_ENDPOINT, "status": "gone"}
    status, body = api.send("PATCH", f"/api/jobs/{job.pk}/endpoints/{endpoint.pk}", changes)
    assert status == 400
    assert told(body) >= ENDPOINT_FAULTS | {("invalid_choice", "status")}


def test_a_new_job_tells_its_own_faults_and_those_of_every_endpoint_by_its_index(api: Api, cast: Cast) -> None:
    good = {"name": "Good", "url": "https://example.com/", "baselineIntervalMs": 60_000}
    endpoints = [good, BAD_ENDPOINT, "text", {**good, "url": "ftp://x", "jitterMs": True}, {"baselineIntervalMs": 1}]
    status, body = api.send("POST", "/api/jobs", {"name": "\u202e", "other": 1, "endpoints": endpoints})
    assert status == 400
    below = {(code, f"endpoints[1].{field}") for code, field in ENDPOINT_FAULTS}
    assert told(body) >= below | {
        ("unknown_field", "other"),
        ("invalid_characters", "name"),
        ("invalid_type", "endpoints[2]"),
        ("invalid_url", "endpoints[3].url"),
        ("invalid_type", "endpoints[3].jitterMs"),
        ("required", "endpoints[4].name"),
        ("required", "endpoints[4].url"),
        ("out_of_range", "endpoints[4].baselineIntervalMs"),
    }
    assert not any((field or "").startswith("endpoints[0]") for _, field in faults(body))
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("method", "path", "value", "expected"),
    [
        (
            "POST",
            "/api/schedule/preview",
            {"baselineCron": "61 * * * *", "timezone": 5, "startsAt": "soon", "url": "x"},
            {
                ("unknown_field", "url"),
                ("invalid_type", "timezone"),
                ("invalid_instant", "startsAt"),
                ("invalid_cron", "baselineCron"),
            },
        ),
        (
            "POST",
            "/api/schedule/preview",
            {
                "baselineIntervalMs": "5",
                "startsAt": "2031-01-01T00:00:00Z",
                "endsAt": "2030-01-01T00:00:00Z",
                "timezone": "Mars",
            },
            {("invalid_type", "baselineIntervalMs"), ("window", "endsAt"), ("invalid_timezone", "timezone")},
        ),
        (
            "PATCH",
            "/api/jobs/JOB",
            {"name": "", "description": 5, "id": 1},
            {("blank", "name"), ("invalid_type", "description"), ("read_only", "id")},
        ),
        (
            "POST",
            "/api/endpoints/ENDPOINT/hints/interval",
            {"intervalMs": 1, "ttlMinutes": "x", "reason": "x" * 1001, "until": 1},
            {
                ("out_of_range", "intervalMs"),
                ("invalid_type", "ttlMinutes"),
                ("too_long", "reason"),
                ("unknown_field", "until"),
            },
        ),
        (
            "POST",
            "/api/endpoints/ENDPOINT/hints/oneshot",
            {"ttlMinutes": 0, "reason": 5},
            {("required", "nextRunAt"), ("out_of_range", "ttlMinutes"), ("invalid_type", "reason")},
        ),
        (
            "POST",
            "/api/endpoints/ENDPOINT/hints/oneshot",
            {"nextRunInMs": 3_600_000, "reason": "\u0007"},
            {("hint_ends_first", "ttlMinutes"), ("invalid_characters", "reason")},
        ),
        (
            "POST",
            "/api/endpoints/ENDPOINT/pause",
            {"pausedUntil": "2020-01-01T00:00:00Z", "reason": "x" * 1001, "for": 1},
            {("out_of_range", "pausedUntil"), ("too_long", "reason"), ("unknown_field", "for")},
        ),
        (
            "POST",
            "/api/api-keys",
            {"name": " ", "scopes": ["admin"], "expiresAt": "2020-01-01T00:00:00Z", "prefix": "x"},
            {("blank", "name"), ("in_the_past", "expiresAt"), ("read_only", "prefix"), ("invalid_choice", "scopes[0]")},
        ),
    ],
)
def test_every_other_input_tells_all_its_faults(
    api: Api, job: Job, method: str, path: str, value: Any, expected: set[tuple[str, str]]
) -> None:
    endpoint = make_endpoint(job)
    path = path.replace("JOB", str(job.pk)).replace("ENDPOINT", str(endpoint.pk))
    status, body = api.send(method, path, value)
    assert status == 400
    assert told(body) >= expected
    assert "one_baseline" not in {code for code, _ in faults(body)}
    assert Endpoint.objects.get().updated_at == endpoint.updated_at


def test_a_secret_that_is_not_stored_is_told_with_the_other_faults(api: Api, job: Job) -> None:
    endpoint = make_endpoint(job, headers=[{"name": "X-Kept", "secret": True, "value": None}])
    changes = {"headers": [{"name": "X-New"}, {"name": "x-kept"}], "retryLimit": 99}
    status, body = api.send("PATCH", f"/api/jobs/{job.pk}/endpoints/{endpoint.pk}", changes)
    assert (status, told(body)) == (400, {("required", "headers[0].value"), ("out_of_range", "retryLimit")})
