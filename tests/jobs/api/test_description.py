"""What describes the API describes all of it."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from jobs.api.inputs import EndpointChanges, EndpointInput, JobInput
from jobs.api.refusals import camel_path
from jobs.validation import ENDPOINT_FIELDS
from tests.jobs.api.test_access import routes

METHODS = {"get", "post", "patch", "delete"}


def braced(route: str) -> str:
    return "/" + re.sub(r"<uuid:(\w+)>", r"{\1}", route)


NAMED = [braced(route) for route in routes() if route.startswith("api/") and "(" not in route]


@pytest.mark.parametrize("route", NAMED)
def test_every_route_has_its_place_in_the_manual(route: str) -> None:
    manual = (Path(settings.BASE_DIR) / "docs" / "api.md").read_text()
    assert re.search(re.escape(route) + r"(?![\w/{-])", manual)


@pytest.mark.django_db
def test_the_schema_is_openapi_3_1_and_names_every_route_and_field() -> None:
    response = Client().get("/api/schema")
    document: dict[str, Any] = response.json()
    assert document["openapi"] == "3.1.0"
    described = {path for path in document["paths"] if not path.startswith("/api/synthetic")}
    expected = {
        route for route in NAMED if not route.startswith(("/api/synthetic", "/api/health", "/api/schema", "/api/docs"))
    }
    assert described == expected
    operations = [item[method] for item in document["paths"].values() for method in METHODS & item.keys()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert {"apiKey": []} in document["paths"]["/api/jobs"]["get"]["security"]
    assert {"bearer": []} in document["paths"]["/api/jobs"]["get"]["security"]
    schema = document["components"]["schemas"]["EndpointInputRequest"]
    assert set(schema["required"]) == {"name", "url"}
    assert set(schema["properties"]) == {camel_path(name) for name in ENDPOINT_FIELDS}


@pytest.mark.django_db
def test_the_page_lists_every_operation_and_loads_nothing_from_elsewhere() -> None:
    page = Client().get("/api/docs").content.decode()
    for route in NAMED:
        if not route.startswith(("/api/synthetic", "/api/health", "/api/schema", "/api/docs")):
            assert f"<code>{route}</code>" in page
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)


def test_inputs_take_what_the_services_take() -> None:
    taken = {field.source or name for name, field in EndpointInput().fields.items()}
    assert taken == ENDPOINT_FIELDS
    assert "status" in EndpointChanges().fields
    assert "status" in JobInput.shown_only


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (None, None),
        ("baseline_interval_ms", "baselineIntervalMs"),
        ("endpoints[3].timeout_ms", "endpoints[3].timeoutMs"),
        ("success_criteria.assertions[0].max_duration_ms", "successCriteria.assertions[0].max_duration_ms"),
        ("endpoints[0].headers[1].some_key", "endpoints[0].headers[1].some_key"),
        ("rules[0].then.interval_ms", "rules[0].then.interval_ms"),
        ("Weird Key", "Weird Key"),
    ],
)
def test_only_our_own_names_turn_camel(field: str | None, expected: str | None) -> None:
    assert camel_path(field) == expected
