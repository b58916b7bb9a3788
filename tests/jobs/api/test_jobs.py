"""Jobs through the API: what is asked for happens, whole."""

import json
from dataclasses import replace
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from jobs.models import Endpoint, EndpointStatus, Job
from tests.support.api import Api, faults
from tests.support.factories import Cast, make_api_key, make_endpoint, make_job

ENDPOINT = {"name": "Ping", "url": "https://example.com/ping", "baselineIntervalMs": 60_000}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
@pytest.mark.parametrize("allow", ["127.0.0.0/8,[::1]/128", ""])
def test_the_curl_of_the_product_works_as_typed(cast: Cast, host: str, allow: str, settings: Any) -> None:
    settings.ENV = replace(settings.ENV, egress_allow=allow)
    key = make_api_key(cast.operator)[1]
    response = Client().generic(
        "POST",
        "/api/jobs",
        f'{{"name":"Synthetic: Health Check","isSynthetic":true,"endpoints":[{{"name":"Basic Health",'
        f'"url":"http://{host}:8000/api/synthetic/health","method":"GET","baselineIntervalMs":60000}}]}}',
        content_type="application/json",
        headers={"x-api-key": key},
    )
    assert response.status_code == 201, response.content
    (endpoint,) = json.loads(response.content)["endpoints"]
    assert endpoint["nextRunAt"] is not None
    assert endpoint["nextSource"] == "baseline-interval"


def test_a_job_with_endpoints_comes_back_in_the_order_given(api: Api) -> None:
    endpoints = [{**ENDPOINT, "name": f"Endpoint {number}"} for number in range(20)]
    job = api.post("/api/jobs", {"name": " Shop ", "description": "All of it", "endpoints": endpoints}, 201)
    assert (job["name"], job["description"], job["status"], job["isSynthetic"]) == (
        "Shop",
        "All of it",
        "active",
        False,
    )
    assert (job["endpointCount"], job["activeEndpointCount"]) == (20, 20)
    assert [endpoint["name"] for endpoint in job["endpoints"]] == [endpoint["name"] for endpoint in endpoints]
    assert api.get(f"/api/jobs/{job['id']}") == {name: job[name] for name in job if name != "endpoints"}


def test_one_bad_endpoint_writes_nothing(api: Api) -> None:
    bad = {**ENDPOINT, "url": "http://10.0.0.1/", "timeoutMs": 1}
    status, body = api.send("POST", "/api/jobs", {"name": "", "endpoints": [ENDPOINT, bad]})
    assert status == 400
    assert faults(body) == [
        ("blank", "name"),
        ("out_of_range", "endpoints[1].timeoutMs"),
        ("destination_not_allowed", "endpoints[1].url"),
    ]
    assert not Job.objects.exists()
    assert not Endpoint.objects.exists()


def test_only_operators_create_synthetic_jobs(api: Api) -> None:
    status, body = api.send("POST", "/api/jobs", {"name": "Synthetic", "isSynthetic": True})
    assert (status, faults(body)) == (403, [("operators_only", "isSynthetic")])
    assert not Job.objects.exists()


def test_a_job_is_edited_paused_resumed_and_archived(api: Api) -> None:
    job = api.post("/api/jobs", {"name": "Old", "endpoints": [ENDPOINT]}, 201)
    path = f"/api/jobs/{job['id']}"
    assert api.patch(path, {"name": "New", "description": "Why"})["name"] == "New"
    assert api.patch(path, {"description": None})["description"] == ""
    assert api.post(f"{path}/pause")["status"] == "paused"
    assert Endpoint.objects.get().next_run_at is None
    assert api.post(f"{path}/pause")["status"] == "paused"
    assert api.post(f"{path}/resume")["status"] == "active"
    assert Endpoint.objects.get().next_run_at is not None
    assert api.send("DELETE", path) == (204, None)
    assert api.get(path)["status"] == "archived"
    assert api.get(path)["archivedAt"] is not None
    assert Endpoint.objects.get().next_run_at is None
    assert api.send("DELETE", path) == (204, None)


@pytest.mark.parametrize(
    ("method", "suffix", "value"),
    [
        ("POST", "/resume", None),
        ("POST", "/pause", None),
        ("PATCH", "", {"name": "X"}),
        ("POST", "/endpoints", ENDPOINT),
    ],
)
def test_an_archived_job_stays_archived(api: Api, cast: Cast, method: str, suffix: str, value: Any) -> None:
    job = make_job(cast.alice)
    api.send("DELETE", f"/api/jobs/{job.pk}")
    status, body = api.send(method, f"/api/jobs/{job.pk}{suffix}", value)
    assert (status, faults(body)) == (409, [("archived", None)])


def test_the_list_filters_searches_and_pages(api: Api, cast: Cast) -> None:
    for number in range(5):
        make_job(cast.alice, name=f"Shop {number}")
    make_job(cast.alice, name="Other", description="runs the SHOP")
    make_job(cast.alice, name="Paused", status="paused")
    gone = make_job(cast.alice, name="Gone")
    api.send("DELETE", f"/api/jobs/{gone.pk}")

    def names(query: str) -> list[str]:
        return [job["name"] for job in api.get(f"/api/jobs{query}")["jobs"]]

    assert len(names("")) == 7
    assert names("?status=paused") == ["Paused"]
    assert names("?status=archived") == ["Gone"]
    assert len(names("?search=shop")) == 6
    assert names("?search=100%25") == []
    assert names("?search=Shop&limit=2&offset=1") == ["Shop 4", "Shop 3"]
    assert api.get("/api/jobs?limit=2")["total"] == 7


def test_the_list_counts_endpoints_that_are_not_archived(api: Api, cast: Cast) -> None:
    job = make_job(cast.alice)
    make_endpoint(job)
    make_endpoint(job, status=EndpointStatus.PAUSED)
    make_endpoint(job, status=EndpointStatus.ARCHIVED)
    (shown,) = api.get("/api/jobs")["jobs"]
    assert (shown["endpointCount"], shown["activeEndpointCount"]) == (2, 1)


@pytest.mark.parametrize("count", [1, 12])
def test_lists_ask_the_same_few_questions_however_long_they_are(
    api: Api, cast: Cast, count: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    jobs = [make_job(cast.alice) for _ in range(count)]
    for job in jobs:
        make_endpoint(jobs[0])
        make_endpoint(job)
    with django_assert_num_queries(5):  # the key, its use, total, page, counts
        api.get("/api/jobs")
    with django_assert_num_queries(5):  # the key, its use, the job, total, page
        api.get(f"/api/jobs/{jobs[0].pk}/endpoints")


def test_a_total_is_counted_only_so_far(api: Api, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.selectors.COUNT_CAP", 2)
    for _ in range(3):
        make_job(cast.alice)
    page = api.get("/api/jobs")
    assert (page["total"], page["totalIsCapped"], len(page["jobs"])) == (2, True, 3)
