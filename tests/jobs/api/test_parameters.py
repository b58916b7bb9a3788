"""The query of an address: what is unknown, repeated or bad is refused by name, on every route."""

import re
from typing import Any

import pytest

from tests.jobs.api.test_access import routes
from tests.support.api import Api, faults
from tests.support.factories import Cast, make_endpoint, make_job, make_run

# Probes and people may add what they like to these: they answer without a login and take no input.
OPEN = ("/api/health", "/api/docs", "/api/synthetic")
NAMED = [
    "/" + re.sub(r"<uuid:(\w+)>", "00000000-0000-7000-8000-000000000000", route)
    for route in routes()
    if route.startswith("api/") and "(" not in route and not f"/{route}".startswith(OPEN)
]


@pytest.mark.parametrize("path", NAMED)
def test_an_unknown_parameter_is_refused_on_every_route_and_method(api: Api, path: str) -> None:
    allowed = [method for method in ("GET", "POST", "PATCH", "DELETE") if api.send(method, path)[0] != 405]
    assert allowed
    for method in allowed:
        status, body = api.send(method, f"{path}?limt=5", {})
        assert (status, faults(body)) == (400, [("unknown_parameter", "limt")]), method


CASES: list[tuple[str, list[tuple[str, str | None]]]] = [
    ("/api/jobs?Limit=5", [("unknown_parameter", "Limit")]),
    ("/api/jobs?status=active&statsu=paused", [("unknown_parameter", "statsu")]),
    ("/api/jobs?limit=5&limit=6", [("repeated_parameter", "limit")]),
    ("/api/jobs?limit=5&limit=5", [("repeated_parameter", "limit")]),
    ("/api/jobs?limit=x&page=2", [("invalid", "limit"), ("unknown_parameter", "page")]),
    ("/api/jobs?limit=0&offset=-1&status=x", [("min_value", "limit"), ("max", "offset"), ("invalid", "status")]),
    ("/api/jobs/JOB/endpoints?search=x", [("unknown_parameter", "search")]),
    ("/api/endpoints/ENDPOINT/runs?status=failed&since=1", [("unknown_parameter", "since")]),
    ("/api/endpoints/ENDPOINT/health?since_hours=3", [("unknown_parameter", "since_hours")]),
    ("/api/endpoints/ENDPOINT/sessions?status=completed&trigger=x", [("unknown_parameter", "trigger")]),
    ("/api/proposals?endpoint_id=x", [("unknown_parameter", "endpoint_id")]),
    ("/api/runs/RUN?expand=response", [("unknown_parameter", "expand")]),
    ("/api/jobs?=5", [("unknown_parameter", None)]),
]


@pytest.mark.parametrize(("path", "expected"), CASES)
def test_every_fault_of_a_query_is_named_at_once(api: Api, cast: Cast, path: str, expected: Any) -> None:
    endpoint = make_endpoint(make_job(cast.alice))
    ids = {"JOB": endpoint.job_id, "ENDPOINT": endpoint.pk, "RUN": make_run(endpoint).pk}
    for name, value in ids.items():
        path = path.replace(f"/{name}", f"/{value}")
    status, body = api.send("GET", path)
    assert status == 400
    assert [field for _, field in faults(body)] == [field for _, field in expected]
    for (code, _), (wanted, field) in zip(faults(body), expected, strict=True):
        assert field is None or wanted in code or code == "min_value"


def test_the_message_says_which_parameters_are_known(api: Api) -> None:
    _, body = api.send("GET", "/api/jobs?page=2")
    assert body["errors"][0]["message"] == "This parameter is not known. Known are limit, offset, search, status."
    _, body = api.send("POST", "/api/schedule/preview?zone=UTC", {"baselineIntervalMs": 60_000})
    assert body["errors"][0]["message"] == "This parameter is not known. This address takes none."
