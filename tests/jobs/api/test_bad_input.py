"""Bad input, route by route: each value has its answer, and nothing is half-written."""

import json
import time
from datetime import datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.models import Endpoint, Job
from tests.support.api import Api, faults
from tests.support.factories import Cast, make_endpoint, make_job

GOOD: dict[str, Any] = {"name": "Ping", "url": "https://example.com/", "baselineIntervalMs": 60_000}
LONG = "x" * 10_000

# What is wrong with an endpoint: changes to a good one (`...` leaves a field out), then code and field.
BAD_ENDPOINTS: list[tuple[dict[str, Any], str, str]] = [
    ({"name": ...}, "required", "name"),
    ({"name": None}, "null", "name"),
    ({"name": ""}, "blank", "name"),
    ({"name": " \t "}, "blank", "name"),
    ({"name": "\u200b\u2060"}, "blank", "name"),
    ({"name": "\u3164\u2800"}, "blank", "name"),
    ({"name": "\u0301"}, "blank", "name"),
    ({"name": 7}, "invalid_type", "name"),
    ({"name": "x" * 256}, "too_long", "name"),
    ({"name": "abc\u202egpj"}, "invalid_characters", "name"),
    ({"name": "a\nb"}, "invalid_characters", "name"),
    ({"name": "a\x1bb"}, "invalid_characters", "name"),
    ({"name": "a\x00b"}, "invalid_characters", "name"),
    ({"name": "a\ud800b"}, "invalid_characters", "name"),
    ({"name": "a\U000e0041"}, "invalid_characters", "name"),
    ({"description": "x" * 2001}, "too_long", "description"),
    ({"description": "a\x07"}, "invalid_characters", "description"),
    ({"description": ["a"]}, "invalid_type", "description"),
    ({"url": ...}, "required", "url"),
    ({"url": ""}, "blank", "url"),
    ({"url": "example.com"}, "invalid_url", "url"),
    ({"url": "ftp://example.com/"}, "invalid_url", "url"),
    ({"url": "file:///etc/passwd"}, "invalid_url", "url"),
    ({"url": "http://user:pw@example.com/"}, "invalid_url", "url"),
    ({"url": "http:///path"}, "invalid_url", "url"),
    ({"url": "http://exa mple.com/"}, "invalid_url", "url"),
    ({"url": "http://example.com:99999/"}, "invalid_url", "url"),
    ({"url": "http://example.com/\r\nX: y"}, "invalid_url", "url"),
    ({"url": "https://example.com/" + LONG}, "too_long", "url"),
    ({"url": "http://10.0.0.1/"}, "destination_not_allowed", "url"),
    ({"url": "http://169.254.169.254/latest/meta-data"}, "destination_not_allowed", "url"),
    ({"url": "http://[::ffff:10.0.0.1]/"}, "destination_not_allowed", "url"),
    ({"url": "http://0xa9fea9fe/"}, "destination_not_allowed", "url"),
    ({"url": "http://2852039166/"}, "destination_not_allowed", "url"),
    ({"url": "http://example.com:6379/"}, "destination_not_allowed", "url"),
    ({"url": "http://metadata.google.internal/"}, "destination_not_allowed", "url"),
    ({"method": "get"}, "invalid_choice", "method"),
    ({"method": "CONNECT"}, "invalid_choice", "method"),
    ({"method": 1}, "invalid_type", "method"),
    ({"headers": {"a": "b"}}, "invalid_type", "headers"),
    ({"headers": ["a: b"]}, "invalid_type", "headers[0]"),
    ({"headers": [{"name": "a b", "value": "c"}]}, "invalid", "headers[0].name"),
    ({"headers": [{"name": "", "value": "c"}]}, "invalid", "headers[0].name"),
    ({"headers": [{"value": "c"}]}, "invalid", "headers[0].name"),
    ({"headers": [{"name": "X-A", "value": "b\r\nX-Evil: 1"}]}, "invalid", "headers[0].value"),
    ({"headers": [{"name": "X-A", "value": "ü"}]}, "invalid", "headers[0].value"),
    ({"headers": [{"name": "X-A", "value": 1}]}, "invalid", "headers[0].value"),
    ({"headers": [{"name": "X-A"}]}, "required", "headers[0].value"),
    ({"headers": [{"name": "X-A", "secret": False}]}, "required", "headers[0].value"),
    ({"headers": [{"name": "X-A", "value": "b", "secret": "yes"}]}, "invalid_type", "headers[0].secret"),
    ({"headers": [{"name": "X-A", "value": "b", "extra": 1}]}, "unknown_field", "headers[0].extra"),
    ({"headers": [{"name": "X-A", "value": "b"}, {"name": "x-a", "value": "c"}]}, "duplicate", "headers[1].name"),
    ({"headers": [{"name": "Host", "value": "b"}]}, "reserved", "headers[0].name"),
    ({"headers": [{"name": "content-length", "value": "1"}]}, "reserved", "headers[0].name"),
    ({"headers": [{"name": "Transfer-Encoding", "value": "chunked"}]}, "reserved", "headers[0].name"),
    ({"headers": [{"name": "Webhook-Signature", "value": "v1,x"}]}, "reserved", "headers[0].name"),
    ({"headers": [{"name": "Cronicorn-Attempt", "value": "9"}]}, "reserved", "headers[0].name"),
    ({"headers": [{"name": f"X-{number}", "value": "b"} for number in range(51)]}, "too_many", "headers"),
    ({"headers": [{"name": "X-A", "value": "b" * 8192}]}, "too_large", "headers"),
    ({"body": "x" * (256 * 1024 + 1)}, "too_large", "body"),
    ({"body": "ü" * (128 * 1024 + 1)}, "too_large", "body"),
    ({"body": 7}, "invalid_type", "body"),
    ({"body": True}, "invalid_type", "body"),
    ({"body": "a\x00"}, "invalid_characters", "body"),
    ({"body": {"a": ["\udfff"]}}, "invalid_characters", "body.a[0]"),
    ({"timeoutMs": 999}, "out_of_range", "timeoutMs"),
    ({"timeoutMs": 900_001}, "out_of_range", "timeoutMs"),
    ({"timeoutMs": 5000.0}, "invalid_type", "timeoutMs"),
    ({"timeoutMs": "5000"}, "invalid_type", "timeoutMs"),
    ({"timeoutMs": True}, "invalid_type", "timeoutMs"),
    ({"maxResponseBytes": -1}, "out_of_range", "maxResponseBytes"),
    ({"maxResponseBytes": 1_048_577}, "out_of_range", "maxResponseBytes"),
    ({"successCriteria": "200"}, "invalid_criteria", "successCriteria"),
    ({"successCriteria": {"status": [99]}}, "invalid_criteria", "successCriteria.status[0]"),
    ({"successCriteria": {"max_status": 1}}, "invalid_criteria", "successCriteria.max_status"),
    (
        {"successCriteria": {"assertions": [{"path": "$.a", "op": "~", "value": 1}]}},
        "invalid_criteria",
        "successCriteria.assertions[0].op",
    ),
    (
        {"successCriteria": {"assertions": [{"path": "$.a", "op": [], "value": 1}]}},
        "invalid_criteria",
        "successCriteria.assertions[0].op",
    ),
    ({"baselineIntervalMs": ...}, "one_baseline", "baselineIntervalMs"),
    ({"baselineCron": "* * * * *"}, "one_baseline", "baselineCron"),
    ({"baselineIntervalMs": 0}, "out_of_range", "baselineIntervalMs"),
    ({"baselineIntervalMs": -60_000}, "out_of_range", "baselineIntervalMs"),
    ({"baselineIntervalMs": 999}, "out_of_range", "baselineIntervalMs"),
    ({"baselineIntervalMs": 367 * 86_400_000}, "out_of_range", "baselineIntervalMs"),
    ({"baselineIntervalMs": 10**30}, "out_of_range", "baselineIntervalMs"),
    ({"baselineIntervalMs": 60_000.5}, "invalid_type", "baselineIntervalMs"),
    ({"baselineIntervalMs": "60000"}, "invalid_type", "baselineIntervalMs"),
    ({"baselineIntervalMs": ..., "baselineCron": ""}, "invalid_cron", "baselineCron"),
    ({"baselineIntervalMs": ..., "baselineCron": "* * * *"}, "invalid_cron", "baselineCron"),
    ({"baselineIntervalMs": ..., "baselineCron": "* * * * * *"}, "invalid_cron", "baselineCron"),
    ({"baselineIntervalMs": ..., "baselineCron": "60 * * * *"}, "invalid_cron", "baselineCron"),
    ({"baselineIntervalMs": ..., "baselineCron": "\u0665 * * * *"}, "invalid_cron", "baselineCron"),
    ({"baselineIntervalMs": ..., "baselineCron": "R * * * *"}, "invalid_cron", "baselineCron"),
    ({"baselineIntervalMs": ..., "baselineCron": "0 0 31 2 *"}, "never_fires", "baselineCron"),
    ({"baselineIntervalMs": ..., "baselineCron": "1 " * 500}, "too_long", "baselineCron"),
    ({"baselineIntervalMs": ..., "baselineCron": 5}, "invalid_type", "baselineCron"),
    ({"timezone": "Mars/Olympus"}, "invalid_timezone", "timezone"),
    ({"timezone": "europe/berlin"}, "invalid_timezone", "timezone"),
    ({"timezone": "posix/Europe/Berlin"}, "invalid_timezone", "timezone"),
    ({"timezone": "Factory"}, "invalid_timezone", "timezone"),
    ({"timezone": "../../etc/passwd"}, "invalid_timezone", "timezone"),
    ({"timezone": ""}, "invalid_timezone", "timezone"),
    ({"startsAt": "2030-01-01T00:00:00"}, "invalid_instant", "startsAt"),
    ({"startsAt": "2030-01-01"}, "invalid_instant", "startsAt"),
    ({"startsAt": 1_900_000_000}, "invalid_instant", "startsAt"),
    ({"startsAt": "2030-13-01T00:00:00Z"}, "invalid_instant", "startsAt"),
    ({"startsAt": "2030-01-01T00:00:00+99:00"}, "invalid_instant", "startsAt"),
    ({"startsAt": "9999-12-31T23:59:59-12:00"}, "out_of_range", "startsAt"),
    ({"startsAt": "0001-01-01T00:00:00+12:00"}, "out_of_range", "startsAt"),
    ({"endsAt": "tomorrow"}, "invalid_instant", "endsAt"),
    ({"startsAt": "2031-01-01T00:00:00Z", "endsAt": "2031-01-01T00:00:00Z"}, "window", "endsAt"),
    ({"baselineIntervalMs": ..., "runOnceAt": "2020-01-01T00:00:00Z"}, "in_the_past", "runOnceAt"),
    (
        {"baselineIntervalMs": ..., "runOnceAt": "2100-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z"},
        "window",
        "runOnceAt",
    ),
    ({"jitterMs": -1}, "out_of_range", "jitterMs"),
    ({"jitterMs": 86_400_001}, "out_of_range", "jitterMs"),
    ({"minIntervalMs": 999}, "out_of_range", "minIntervalMs"),
    ({"minIntervalMs": 120_000}, "bounds", "baselineIntervalMs"),
    ({"maxIntervalMs": 30_000}, "bounds", "baselineIntervalMs"),
    ({"minIntervalMs": 50_000, "maxIntervalMs": 40_000}, "bounds", "minIntervalMs"),
    ({"recoveryCheckMs": 999}, "out_of_range", "recoveryCheckMs"),
    ({"recoveryCheckMs": 30_000}, "bounds", "recoveryCheckMs"),
    ({"recoveryCheckMs": 366 * 86_400_000 + 1}, "out_of_range", "recoveryCheckMs"),
    ({"retryLimit": 11}, "out_of_range", "retryLimit"),
    ({"misfireGraceMs": -1}, "out_of_range", "misfireGraceMs"),
    ({"misfireGraceMs": 2**63}, "out_of_range", "misfireGraceMs"),
    ({"onWorkerLoss": "explode"}, "invalid_choice", "onWorkerLoss"),
    ({"plannerMode": "on"}, "invalid_choice", "plannerMode"),
    ({"rules": {}}, "invalid", "rules"),
    ({"rules": [1]}, "invalid", "rules[0]"),
    ({"nope": 1}, "unknown_field", "nope"),
    ({"baseline_interval_ms": 1}, "unknown_field", "baseline_interval_ms"),
    ({"id": "x"}, "read_only", "id"),
    ({"nextRunAt": "2030-01-01T00:00:00Z"}, "read_only", "nextRunAt"),
    ({"failureCount": 0}, "read_only", "failureCount"),
    ({"serverWaitUntil": None}, "read_only", "serverWaitUntil"),
    ({"failingSince": None}, "read_only", "failingSince"),
    ({"pausedUntil": None}, "read_only", "pausedUntil"),
    ({"status": "paused"}, "read_only", "status"),
]
_IDS = [f"{number}-{code}-{field}" for number, (_, code, field) in enumerate(BAD_ENDPOINTS)]


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}


@pytest.mark.parametrize(("changes", "code", "field"), BAD_ENDPOINTS, ids=_IDS)
def test_a_bad_endpoint_is_refused_alone_and_within_a_job(
    api: Api, cast: Cast, changes: dict[str, Any], code: str, field: str
) -> None:
    job = make_job(cast.alice)
    status, body = api.send("POST", f"/api/jobs/{job.pk}/endpoints", changed(changes))
    assert status == 400
    assert (code, field) in faults(body)
    status, nested = api.send("POST", "/api/jobs", {"name": "Job", "endpoints": [GOOD, changed(changes)]})
    assert status == 400
    assert faults(nested) == [(code, f"endpoints[1].{field}") for code, field in faults(body)]
    assert not Endpoint.objects.exists()
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [row for row in BAD_ENDPOINTS if ... not in row[0].values() and row[1] != "one_baseline" and row[2] != "status"],
)
def test_a_bad_change_leaves_the_endpoint_as_it_was(
    api: Api, cast: Cast, changes: dict[str, Any], code: str, field: str
) -> None:
    endpoint = make_endpoint(make_job(cast.alice), baseline_interval_ms=60_000)
    before = Endpoint.objects.values().get()
    status, body = api.send("PATCH", f"/api/jobs/{endpoint.job_id}/endpoints/{endpoint.pk}", changes)
    assert status == 400
    assert (code, field) in faults(body)
    assert Endpoint.objects.values().get() == before


BAD_ELSEWHERE: list[tuple[str, str, Any, int, str, str | None]] = [
    ("POST", "/api/jobs", [], 400, "invalid_type", None),
    ("POST", "/api/jobs", "text", 400, "invalid_type", None),
    ("POST", "/api/jobs", None, 400, "required", "name"),
    ("POST", "/api/jobs", {"name": "J", "isSynthetic": 1}, 400, "invalid_type", "isSynthetic"),
    ("POST", "/api/jobs", {"name": "J", "endpoints": {}}, 400, "not_a_list", "endpoints"),
    ("POST", "/api/jobs", {"name": "J", "endpoints": [7]}, 400, "invalid_type", "endpoints[0]"),
    ("POST", "/api/jobs", {"name": "J", "endpoints": [GOOD] * 201}, 400, "too_many", "endpoints"),
    ("POST", "/api/jobs", {"name": "J", "description": "x" * 1001}, 400, "too_long", "description"),
    ("POST", "/api/jobs", {"name": "J", "status": "paused"}, 400, "read_only", "status"),
    ("PATCH", "/api/jobs/JOB", {"isSynthetic": True}, 400, "read_only", "isSynthetic"),
    ("PATCH", "/api/jobs/JOB", {"name": None}, 400, "null", "name"),
    ("PATCH", "/api/jobs/JOB", {"endpoints": []}, 400, "unknown_field", "endpoints"),
    ("POST", "/api/jobs/JOB/pause", {"until": 1}, 400, "unknown_field", "until"),
    ("GET", "/api/jobs?status=gone", None, 400, "invalid_choice", "status"),
    ("GET", "/api/jobs?limit=0", None, 400, "min_value", "limit"),
    ("GET", "/api/jobs?limit=201", None, 400, "max_value", "limit"),
    ("GET", "/api/jobs?limit=x", None, 400, "invalid", "limit"),
    ("GET", "/api/jobs?offset=-1", None, 400, "min_value", "offset"),
    ("GET", "/api/jobs?offset=99999999999999999999", None, 400, "max_value", "offset"),
    ("GET", "/api/jobs?search=%00", None, 400, "null_characters_not_allowed", "search"),
    ("GET", "/api/jobs/JOB/endpoints?status=x", None, 400, "invalid_choice", "status"),
    ("PATCH", "/api/jobs/JOB/endpoints/ENDPOINT", {"status": "archived"}, 400, "invalid_choice", "status"),
    ("POST", "/api/endpoints/ENDPOINT/hints/interval", {}, 400, "required", "intervalMs"),
    ("POST", "/api/endpoints/ENDPOINT/hints/interval", {"intervalMs": 999}, 400, "out_of_range", "intervalMs"),
    ("POST", "/api/endpoints/ENDPOINT/hints/interval", {"intervalMs": 1e4}, 400, "invalid_type", "intervalMs"),
    (
        "POST",
        "/api/endpoints/ENDPOINT/hints/interval",
        {"intervalMs": 30_000, "ttlMinutes": 0},
        400,
        "out_of_range",
        "ttlMinutes",
    ),
    (
        "POST",
        "/api/endpoints/ENDPOINT/hints/interval",
        {"intervalMs": 30_000, "ttlMinutes": 1441},
        400,
        "out_of_range",
        "ttlMinutes",
    ),
    (
        "POST",
        "/api/endpoints/ENDPOINT/hints/interval",
        {"intervalMs": 30_000, "reason": "x" * 1001},
        400,
        "too_long",
        "reason",
    ),
    ("POST", "/api/endpoints/ENDPOINT/hints/oneshot", {}, 400, "required", "nextRunAt"),
    ("POST", "/api/endpoints/ENDPOINT/hints/oneshot", {"nextRunInMs": -1}, 400, "out_of_range", "nextRunInMs"),
    (
        "POST",
        "/api/endpoints/ENDPOINT/hints/oneshot",
        {"nextRunAt": "2030-01-01T00:00:00Z", "nextRunInMs": 1},
        400,
        "required",
        "nextRunAt",
    ),
    (
        "POST",
        "/api/endpoints/ENDPOINT/hints/oneshot",
        {"nextRunInMs": 3_600_000, "ttlMinutes": 30},
        400,
        "hint_ends_first",
        "ttlMinutes",
    ),
    ("POST", "/api/endpoints/ENDPOINT/pause", {}, 400, "required", "pausedUntil"),
    (
        "POST",
        "/api/endpoints/ENDPOINT/pause",
        {"pausedUntil": "2020-01-01T00:00:00Z"},
        400,
        "out_of_range",
        "pausedUntil",
    ),
    (
        "POST",
        "/api/endpoints/ENDPOINT/pause",
        {"pausedUntil": "2199-01-01T00:00:00Z"},
        400,
        "out_of_range",
        "pausedUntil",
    ),
    ("POST", "/api/endpoints/ENDPOINT/run", {"now": True}, 400, "unknown_field", "now"),
    ("GET", "/api/endpoints/ENDPOINT/runs?status=x", None, 400, "invalid_choice", "status"),
    ("GET", "/api/endpoints/ENDPOINT/runs?source=x", None, 400, "invalid_choice", "source"),
    ("GET", "/api/endpoints/ENDPOINT/health?sinceHours=0", None, 400, "min_value", "sinceHours"),
    ("GET", "/api/endpoints/ENDPOINT/health?sinceHours=721", None, 400, "max_value", "sinceHours"),
    ("POST", "/api/schedule/preview", {}, 400, "one_baseline", "baselineIntervalMs"),
    ("POST", "/api/schedule/preview", {"baselineCron": "x"}, 400, "invalid_cron", "baselineCron"),
    ("POST", "/api/schedule/preview", {"baselineIntervalMs": 60_000, "url": "x"}, 400, "unknown_field", "url"),
    ("POST", "/api/api-keys", {}, 400, "required", "name"),
    ("POST", "/api/api-keys", {"name": "\u200b"}, 400, "blank", "name"),
    ("POST", "/api/api-keys", {"name": "K", "scopes": []}, 400, "empty", "scopes"),
    ("POST", "/api/api-keys", {"name": "K", "scopes": ["admin"]}, 400, "invalid_choice", "scopes[0]"),
    ("POST", "/api/api-keys", {"name": "K", "expiresAt": "2020-01-01T00:00:00Z"}, 400, "in_the_past", "expiresAt"),
    ("POST", "/api/api-keys", {"name": "K", "prefix": "x"}, 400, "read_only", "prefix"),
    ("GET", "/api/jobs/not-a-uuid", None, 404, "not_found", None),
    ("GET", "/api/jobs/JOB/", None, 404, "not_found", None),
    ("GET", "/api/runs/JOB", None, 404, "not_found", None),
    ("GET", "/api/%00", None, 404, "not_found", None),
    ("GET", "/api", None, 404, "not_found", None),
    ("PATCH", "/api/nothing%0Ahere", None, 404, "not_found", None),
    ("PUT", "/api/jobs", {}, 405, "method_not_allowed", None),
    ("OPTIONS", "/api/jobs", None, 405, "method_not_allowed", None),
    ("DELETE", "/api/health", None, 405, "method_not_allowed", None),
]


@pytest.mark.parametrize(("method", "path", "value", "status", "code", "field"), BAD_ELSEWHERE)
def test_every_other_route_refuses_in_the_same_shape(
    api: Api, cast: Cast, method: str, path: str, value: Any, status: int, code: str, field: str | None
) -> None:
    endpoint = make_endpoint(make_job(cast.alice))
    before = (Job.objects.values().get(), Endpoint.objects.values().get())
    path = path.replace("JOB", str(endpoint.job_id)).replace("ENDPOINT", str(endpoint.pk))
    answered, body = api.send(method, path, value)
    assert (answered, (code, field) in faults(body)) == (status, True), body
    assert (Job.objects.values().get(), Endpoint.objects.values().get()) == before


BAD_BYTES: list[tuple[bytes, int, str, str | None]] = [
    (b"{", 400, "malformed", None),
    (b"name=x", 400, "malformed", None),
    (b"\xff\xfe", 400, "malformed", None),
    (b'\xef\xbb\xbf{"name": "x"}', 400, "malformed", None),
    (b'{"name": "x"} {}', 400, "malformed", None),
    (b'{"name": NaN}', 400, "malformed", None),
    (b'{"name": -Infinity}', 400, "malformed", None),
    (b'{"name": 1e400}', 400, "malformed", None),
    (b'{"name": ' + b"9" * 5000 + b"}", 400, "malformed", None),
    (b'{"name": "a", "name": "b"}', 400, "duplicate_key", None),
    (b'{"name": "a", "endpoints": [{"body": {"k": 1, "k": 2}}]}', 400, "duplicate_key", None),
    (b"[" * 33 + b"]" * 33, 400, "too_deep", None),
    (b"[" * 500_000, 400, "too_deep", None),
    (b'{"a":' * 40 + b"1" + b"}" * 40, 400, "too_deep", None),
    (b'{"name": "a\\u0000b"}', 400, "invalid_characters", "name"),
    (b'{"na\\ud800me": "x"}', 400, "invalid_characters", None),
    (b'{"name": "\\udc00"}', 400, "invalid_characters", "name"),
    (b'{"name": "' + b"x" * 1_048_576 + b'"}', 413, "too_large", None),
]


@pytest.mark.parametrize(("raw", "status", "code", "field"), BAD_BYTES, ids=[str(n) for n in range(len(BAD_BYTES))])
def test_what_is_not_strict_json_is_refused(api: Api, raw: bytes, status: int, code: str, field: str | None) -> None:
    answered, body = api.send("POST", "/api/jobs", raw)
    assert (answered, faults(body)) == (status, [(code, field)])


def test_an_object_as_deep_as_allowed_passes(api: Api, cast: Cast) -> None:
    body: Any = "leaf"
    for _ in range(31):
        body = [body]
    endpoint = api.post(f"/api/jobs/{make_job(cast.alice).pk}/endpoints", {**GOOD, "body": body}, 201)
    assert json.loads(endpoint["body"]) == body


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x" * 300]
)
def test_other_content_types_are_refused(api: Api, content_type: str) -> None:
    response = api.client.generic("POST", "/api/jobs", b'{"name": "x"}', content_type=content_type)
    assert (response.status_code, faults(response.json())) == (415, [("unsupported_media_type", None)])


def test_a_body_of_unknown_length_is_refused(api: Api) -> None:
    response = api.client.generic("POST", "/api/jobs", b"", headers={"Transfer-Encoding": "chunked"})
    assert (response.status_code, faults(response.json())) == (411, [("length_required", None)])


def test_json_is_answered_whatever_is_accepted(api: Api) -> None:
    response = api.client.get("/api/jobs", headers={"Accept": "text/html"})
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")


def test_a_foreign_host_name_is_refused_in_the_same_shape(api: Api) -> None:
    response = api.client.get("/api/jobs", headers={"Host": "evil.example"})
    assert (response.status_code, faults(response.json())) == (400, [("malformed", None)])


@pytest.mark.parametrize(
    ("path", "raw", "code", "field"),
    [
        ("/api/jobs", b'{"name":"J","endpoints":[' + b",".join([b"{}"] * 340_000) + b"]}", "too_many", "endpoints"),
        ("/api/api-keys", b'{"name":"K","scopes":[' + b",".join([b'""'] * 340_000) + b"]}", "max_length", "scopes"),
        (
            "/api/jobs",
            json.dumps({str(number): 1 for number in range(80_000)}, separators=(",", ":")).encode(),
            "too_many_keys",
            None,
        ),
    ],
    ids=["endpoints", "scopes", "keys"],
)
def test_a_request_full_of_entries_is_refused_without_reading_them(
    api: Api, path: str, raw: bytes, code: str, field: str | None
) -> None:
    api.send("POST", path, b"{}")  # what a process does once does not count
    plain = time.process_time()
    json.loads(raw)
    before = time.process_time()
    status, body = api.send("POST", path, raw)
    assert (status, faults(body)) == (400, [(code, field)])
    # Measured 30 to 50 times a plain parse; 340,000 serializers would take hundreds of times as long.
    assert time.process_time() - before < 150 * (before - plain)


@pytest.mark.parametrize("offset", ["+23:59", "-23:59", "+16:00"])
def test_a_time_with_any_offset_is_kept_as_the_same_instant(api: Api, cast: Cast, offset: str) -> None:
    text = f"2190-01-02T12:00:00{offset}"
    made = api.post(f"/api/jobs/{make_job(cast.alice).pk}/endpoints", {**GOOD, "endsAt": text}, 201)
    assert datetime.fromisoformat(made["endsAt"]) == datetime.fromisoformat(text)
    path = f"/api/endpoints/{made['id']}/pause"
    assert api.send("POST", path, {"pausedUntil": text})[0] == 400
    key = api.post("/api/api-keys", {"name": "CI", "expiresAt": text}, 201)
    assert datetime.fromisoformat(key["expiresAt"]) == datetime.fromisoformat(text)


@pytest.mark.django_db(transaction=True)
def test_a_database_that_does_not_answer_in_time_is_told_apart_from_a_fault_of_ours(api: Api, cast: Cast) -> None:
    job = make_job(cast.alice)
    other = connection.copy()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '20ms'")
        with other.cursor() as blocker:
            blocker.execute("BEGIN; LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
            status, body = api.send("GET", f"/api/jobs/{job.pk}")
            blocker.execute("ROLLBACK")
    finally:
        other.close()
        connection.close()  # with the limit that was set in its session
    assert (status, faults(body)) == (503, [("database_unavailable", None)])
    assert api.get(f"/api/jobs/{job.pk}")["id"] == str(job.pk)


def test_many_faults_are_cut(api: Api) -> None:
    status, body = api.send("POST", "/api/jobs", {f"unknown{number}": 1 for number in range(500)})
    assert (status, len(body["errors"])) == (400, 100)


def test_a_refused_request_starts_no_writing(api: Api) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        api.send("POST", "/api/jobs", {"name": 1})
    assert not [query for query in queries if query["sql"].startswith(("INSERT", "SAVEPOINT"))]
