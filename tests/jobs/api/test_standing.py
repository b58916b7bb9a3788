"""What stops an endpoint is said wherever the endpoint is shown; the clocks of a row agree."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.vault import SecretUnavailableError, unseal
from jobs.models import EndpointStatus, JobStatus
from tests.support.api import Api, faults
from tests.support.factories import Cast, make_endpoint, make_job


@pytest.mark.parametrize(
    ("job_status", "status", "expected"),
    [
        ("active", "active", ("active", None)),
        ("active", "paused", ("paused", "endpoint")),
        ("active", "archived", ("archived", "endpoint")),
        ("paused", "active", ("paused", "job")),
        ("paused", "paused", ("paused", "endpoint")),
        ("paused", "archived", ("archived", "endpoint")),
        ("archived", "active", ("archived", "job")),
        ("archived", "paused", ("archived", "job")),
    ],
)
def test_an_endpoint_says_what_stops_it(
    api: Api, cast: Cast, job_status: str, status: str, expected: tuple[str, str | None]
) -> None:
    archived_at = datetime.now(UTC) if job_status == "archived" else None
    job = make_job(cast.alice, status=JobStatus(job_status), archived_at=archived_at)
    endpoint = make_endpoint(job, status=EndpointStatus(status))
    shown = [
        api.get(f"/api/jobs/{job.pk}/endpoints/{endpoint.pk}"),
        api.get(f"/api/endpoints/{endpoint.pk}/schedule"),
        api.get(f"/api/jobs/{job.pk}/endpoints?status={status}")["endpoints"][0],
    ]
    assert {(one["effectiveStatus"], one["blockedBy"]) for one in shown} == {expected}
    assert shown[0]["status"] == status
    assert (shown[0]["nextRunAt"] is None) == (expected[1] is not None)
    counted = api.get(f"/api/jobs/{job.pk}")["activeEndpointCount"]
    assert counted == (1 if expected[1] is None else 0)


def test_a_list_of_endpoints_reads_no_job_for_each_row(api: Api, cast: Cast) -> None:
    job = make_job(cast.alice)
    for _ in range(5):
        make_endpoint(job)
    with CaptureQueriesContext(connection) as queries:
        api.get(f"/api/jobs/{job.pk}/endpoints")
    assert len([query for query in queries if 'FROM "jobs"' in query["sql"]]) <= 1


def test_null_ends_both_kinds_of_pause(api: Api, cast: Cast) -> None:
    endpoint = make_endpoint(make_job(cast.alice))
    path, one = f"/api/endpoints/{endpoint.pk}/pause", f"/api/jobs/{endpoint.job_id}/endpoints/{endpoint.pk}"
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    api.post(path, {"pausedUntil": until})
    assert api.patch(one, {"status": "paused"})["nextRunAt"] is None
    resumed = api.post(path, {"pausedUntil": None})
    assert (resumed["status"], resumed["pausedUntil"], resumed["blockedBy"]) == ("active", None, None)
    assert resumed["nextRunAt"] is not None
    api.post(f"/api/jobs/{endpoint.job_id}/pause")
    assert api.post(path, {"pausedUntil": None})["blockedBy"] == "job"
    api.post(f"{one}/archive")
    status, body = api.send("POST", path, {"pausedUntil": None})
    assert (status, faults(body)) == (409, [("archived", None)])


def test_an_endpoint_of_an_archived_job_can_only_be_archived(api: Api, cast: Cast) -> None:
    endpoint = make_endpoint(make_job(cast.alice))
    one = f"/api/jobs/{endpoint.job_id}/endpoints/{endpoint.pk}"
    api.send("DELETE", f"/api/jobs/{endpoint.job_id}")
    for method, path, value in (
        ("POST", f"/api/endpoints/{endpoint.pk}/pause", {"pausedUntil": None}),
        ("PATCH", one, {"status": "active"}),
        ("PATCH", one, {"status": "paused"}),
    ):
        status, body = api.send(method, path, value)
        assert (status, faults(body)) == (409, [("archived", None)])
    assert api.post(f"{one}/archive")["status"] == "archived"


def test_nothing_is_updated_before_it_was_created(api: Api) -> None:
    endpoints = [
        {"name": f"E{number}", "url": "https://example.com/", "baselineIntervalMs": 60_000} for number in (1, 2)
    ]
    made = api.post("/api/jobs", {"name": "Shop", "endpoints": endpoints}, 201)
    alone = api.post(f"/api/jobs/{made['id']}/endpoints", endpoints[0], 201)
    for shown in (made, *made["endpoints"], alone):
        assert shown["updatedAt"] == shown["createdAt"]
    edited = api.patch(f"/api/jobs/{made['id']}/endpoints/{alone['id']}", {"retryLimit": 2})
    assert edited["updatedAt"] > edited["createdAt"]
    assert api.patch(f"/api/jobs/{made['id']}", {"name": "Shop EU"})["updatedAt"] > made["createdAt"]


def test_a_secret_that_cannot_be_opened_names_no_table() -> None:
    for row, token in (("job_endpoints:5", "x"), ("signing_keys:5", "\ud800")):
        with pytest.raises(SecretUnavailableError) as refusal:
            unseal(row, token)
        assert row.split(":")[0] not in str(refusal.value)
