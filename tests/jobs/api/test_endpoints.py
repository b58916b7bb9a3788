"""Endpoints through the API: every field goes in and comes out, edits plan anew."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.vault import unseal
from jobs.models import Endpoint
from tests.support.api import Api, faults
from tests.support.factories import Cast, make_endpoint, make_job

FULL: dict[str, Any] = {
    "name": "Queue",
    "url": "https://example.com/queue?x=1",
    "description": "Watch queue_depth.\nBelow 10 is calm.",
    "method": "POST",
    "headers": [
        {"name": "Authorization", "value": "Bearer s3cret"},
        {"name": "Accept", "value": "application/json", "secret": False},
    ],
    "body": "{ raw: kept }\n",
    "timeoutMs": 5_000,
    "maxResponseBytes": 2_048,
    "successCriteria": {"status": [200, "202-204"], "assertions": [{"path": "$.some_key", "op": "==", "value": 1}]},
    "baselineCron": "*/5 * * * *",
    "timezone": "Europe/Berlin",
    "startsAt": "2026-01-01T00:00:00+01:00",
    "endsAt": "2199-01-01T00:00:00.000000Z",
    "jitterMs": 100,
    "minIntervalMs": 10_000,
    "maxIntervalMs": 3_600_000,
    "recoveryCheckMs": 1_800_000,
    "retryLimit": 2,
    "misfireGraceMs": 60_000,
    "onWorkerLoss": "skip",
    "plannerMode": "approve",
    "rules": [{"when": {"path": "$.queue_depth", "op": ">", "value": 100}, "then": {"interval_ms": 30_000}}],
}


@pytest.fixture
def path(cast: Cast) -> str:
    return f"/api/jobs/{make_job(cast.alice).pk}/endpoints"


def create(api: Api, path: str, **values: Any) -> dict[str, Any]:
    endpoint: dict[str, Any] = api.post(
        path, {"name": "Ping", "url": "https://example.com/", "baselineIntervalMs": 3_600_000, **values}, 201
    )
    return endpoint


def test_bound_on_recovery_may_not_be_less_than_the_interval_that_stands(api: Api, path: str) -> None:
    made = create(api, path, recoveryCheckMs=3_600_000)
    assert (made["recoveryCheckMs"], made["failingSince"], made["serverWaitUntil"]) == (3_600_000, None, None)
    status, body = api.send("PATCH", f"{path}/{made['id']}", {"baselineIntervalMs": 7_200_000})
    assert (status, body["errors"][0]["field"]) == (400, "recoveryCheckMs")
    assert "7200000 ms" in body["errors"][0]["message"]
    status, body = api.send("PATCH", f"{path}/{made['id']}", {"baselineIntervalMs": 7_200_000, "recoveryCheckMs": None})
    assert (status, body["recoveryCheckMs"]) == (200, None)


def test_every_field_comes_back_as_given_but_for_secrets(api: Api, path: str) -> None:
    made = api.post(path, FULL, 201)
    shown = api.get(f"{path}/{made['id']}")
    assert shown == made
    same = FULL.keys() - {"headers", "startsAt"}
    assert {name: shown[name] for name in same} == {name: FULL[name] for name in same}
    assert shown["startsAt"] == "2025-12-31T23:00:00.000000Z"
    assert shown["headers"] == [
        {"name": "Authorization", "secret": True, "value": None},
        {"name": "Accept", "secret": False, "value": "application/json"},
    ]
    row = Endpoint.objects.get()
    assert row.host == "example.com"
    assert row.headers_sealed is not None
    assert "s3cret" not in row.headers_sealed
    assert unseal(f"job_endpoints:{row.pk}", row.headers_sealed) == {"Authorization": "Bearer s3cret"}


def test_what_is_shown_can_be_sent_back(api: Api, path: str) -> None:
    made = api.post(path, FULL, 201)
    sealed = Endpoint.objects.get().headers_sealed
    editable = {name: made[name] for name in FULL}
    again = api.patch(f"{path}/{made['id']}", editable)
    assert {name: again[name] for name in FULL} == editable
    row = Endpoint.objects.get()
    assert unseal(f"job_endpoints:{row.pk}", str(row.headers_sealed)) == unseal(f"job_endpoints:{row.pk}", str(sealed))
    assert row.config_version == 2


def test_a_json_body_is_stored_as_written_with_its_content_type(api: Api, path: str) -> None:
    body = {"snake_case": 1, "camelCase": [None, "ü", 1.5]}
    made = create(api, path, body=body)
    assert made["body"] == json.dumps(body)
    assert made["headers"] == [{"name": "Content-Type", "secret": False, "value": "application/json"}]
    given = [{"name": "content-type", "value": "application/vnd.x+json", "secret": False}]
    assert create(api, path, body=body, headers=given)["headers"] == given
    assert create(api, path, body="text")["headers"] == []


def test_a_json_body_given_later_keeps_the_stored_secrets(api: Api, path: str) -> None:
    made = create(api, path, headers=[{"name": "X-Token", "value": "s3cret"}])
    changed = api.patch(f"{path}/{made['id']}", {"body": {"a": 1}, "method": "POST"})
    assert [header["name"] for header in changed["headers"]] == ["X-Token", "Content-Type"]
    row = Endpoint.objects.get()
    assert unseal(f"job_endpoints:{row.pk}", str(row.headers_sealed)) == {"X-Token": "s3cret"}


def test_a_secret_that_is_not_stored_cannot_be_kept(api: Api, path: str) -> None:
    made = create(api, path, headers=[{"name": "X-Token", "value": "s3cret"}])
    headers = [{"name": "X-Token"}, {"name": "X-Other", "value": None}]
    status, body = api.send("PATCH", f"{path}/{made['id']}", {"headers": headers})
    assert (status, faults(body)) == (400, [("required", "headers[1].value")])


def test_secrets_that_cannot_be_opened_are_a_conflict_not_a_loss(api: Api, path: str) -> None:
    made = create(api, path, headers=[{"name": "X-Token", "value": "s3cret"}])
    Endpoint.objects.update(headers_sealed="broken")
    status, body = api.send("PATCH", f"{path}/{made['id']}", {"headers": [{"name": "X-Token"}]})
    assert (status, faults(body)) == (409, [("secret_unavailable", None)])
    assert api.patch(f"{path}/{made['id']}", {"headers": []})["headers"] == []
    assert Endpoint.objects.get().headers_sealed is None


def test_null_clears_to_the_default(api: Api, path: str) -> None:
    made = api.post(path, FULL, 201)
    cleared = dict.fromkeys(FULL.keys() - {"name", "url", "baselineCron"})
    shown = api.patch(f"{path}/{made['id']}", cleared)
    fresh = create(api, path)
    names = cleared.keys() - {"baselineCron"}
    assert {name: shown[name] for name in names} == {name: fresh[name] for name in names}
    assert shown["baselineCron"] == FULL["baselineCron"]


def test_cron_and_interval_are_swapped_with_or_without_a_null(api: Api, path: str) -> None:
    made = create(api, path)
    one = f"{path}/{made['id']}"
    shown = api.patch(one, {"baselineCron": "0 9 * * *", "baselineIntervalMs": None})
    assert (shown["baselineIntervalMs"], shown["nextSource"]) == (None, "baseline-cron")
    shown = api.patch(one, {"baselineIntervalMs": 60_000})
    assert (shown["baselineCron"], shown["nextSource"]) == (None, "baseline-interval")
    status, body = api.send("PATCH", one, {"baselineIntervalMs": None})
    assert (status, faults(body)) == (400, [("one_baseline", "baselineIntervalMs"), ("one_baseline", "baselineCron")])


def test_a_new_interval_takes_effect_at_once_and_other_edits_leave_the_grid(api: Api, path: str) -> None:
    made = create(api, path)
    one = f"{path}/{made['id']}"
    assert api.patch(one, {"name": "Renamed"})["nextRunAt"] == made["nextRunAt"]
    next_run_at = datetime.fromisoformat(api.patch(one, {"baselineIntervalMs": 60_000})["nextRunAt"])
    assert next_run_at - datetime.now(UTC) < timedelta(seconds=61)


def test_a_bound_is_checked_against_what_is_stored(api: Api, path: str) -> None:
    made = create(api, path, minIntervalMs=60_000)
    status, body = api.send("PATCH", f"{path}/{made['id']}", {"maxIntervalMs": 30_000})
    assert (status, faults(body)) == (400, [("bounds", "minIntervalMs")])
    status, body = api.send("PATCH", f"{path}/{made['id']}", {"baselineIntervalMs": 30_000})
    assert (status, faults(body)) == (400, [("bounds", "baselineIntervalMs")])
    assert Endpoint.objects.get().config_version == 1


def test_an_endpoint_is_paused_without_end_and_resumed_by_its_status(api: Api, path: str) -> None:
    one = f"{path}/{create(api, path)['id']}"
    assert api.patch(one, {"status": "paused", "name": "Both"})["nextRunAt"] is None
    shown = api.patch(one, {"status": "active"})
    assert shown["nextRunAt"] is not None
    assert shown["plannerHoldUntil"] is not None
    assert shown["name"] == "Both"


def test_a_failed_edit_undoes_the_status_beside_it(api: Api, path: str) -> None:
    one = f"{path}/{create(api, path)['id']}"
    assert api.send("PATCH", one, {"status": "paused", "timeoutMs": 1})[0] == 400
    assert api.get(one)["status"] == "active"


def test_archiving_is_final(api: Api, path: str) -> None:
    one = f"{path}/{create(api, path)['id']}"
    shown = api.post(f"{one}/archive")
    assert (shown["status"], shown["nextRunAt"]) == ("archived", None)
    assert shown["archivedAt"] is not None
    assert api.post(f"{one}/archive")["archivedAt"] == shown["archivedAt"]
    for value in ({"name": "X"}, {"status": "active"}):
        status, body = api.send("PATCH", one, value)
        assert (status, faults(body)) == (409, [("archived", None)])
    assert api.get(path)["endpoints"] == []
    assert len(api.get(f"{path}?status=archived")["endpoints"]) == 1


def test_delete_archives(api: Api, path: str) -> None:
    one = f"{path}/{create(api, path)['id']}"
    assert api.send("DELETE", one) == (204, None)
    assert api.get(one)["status"] == "archived"


def test_an_endpoint_is_found_only_below_its_own_job(api: Api, path: str, cast: Cast) -> None:
    made = create(api, path)
    other = make_endpoint(make_job(cast.alice))
    assert api.send("GET", f"{path}/{other.pk}")[0] == 404
    assert api.send("PATCH", f"/api/jobs/{other.job_id}/endpoints/{made['id']}", {"name": "X"})[0] == 404


def test_a_one_shot_runs_once(api: Api, path: str) -> None:
    at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    made = create(api, path, baselineIntervalMs=None, runOnceAt=at.isoformat())
    assert made["nextSource"] == "run-once"
    assert datetime.fromisoformat(made["nextRunAt"]) == at


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *(
            (name, False)
            for name in (
                *("Accept", "accept", "Accept-Language", "Content-Type", "User-Agent", "Cache-Control"),
                *("If-None-Match", "If-Modified-Since", "X-Request-Source", "Origin", "Prefer", "Range"),
                *("X-Requested-With", "traceparent", "Sec-Fetch-Mode"),
            )
        ),
        *(
            (name, True)
            for name in ("Authorization", "Cookie", "X-Api-Key", "X-Anything", "Referer", "X-Accept", "Content-Type-X")
        ),
    ],
)
def test_header_is_secret_by_default_unless_its_name_says_otherwise(
    api: Api, path: str, name: str, secret: bool
) -> None:
    made = create(api, path, headers=[{"name": name, "value": "some-value"}])
    assert made["headers"] == [{"name": name, "secret": secret, "value": None if secret else "some-value"}]
    row = Endpoint.objects.get()
    assert (row.headers_sealed is not None) is secret


def test_the_owner_may_say_that_any_header_is_secret(api: Api, path: str) -> None:
    made = create(api, path, headers=[{"name": "Accept", "value": "text/csv", "secret": True}])
    assert made["headers"] == [{"name": "Accept", "secret": True, "value": None}]
    again = api.patch(f"{path}/{made['id']}", {"headers": made["headers"]})
    assert again["headers"] == made["headers"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Host", "change the URL"),
        ("Accept-Encoding", "uncompressed"),
        ("Idempotency-Key", "slot"),
        ("Webhook-Id", "webhook-"),
        ("Cronicorn-Attempt", "cronicorn-"),
        ("Connection", "protocol"),
    ],
)
def test_reserved_header_is_refused_with_the_reason(api: Api, path: str, name: str, words: str) -> None:
    values = {"name": "P", "url": "https://example.com/", "baselineIntervalMs": 60_000}
    status, body = api.send("POST", path, {**values, "headers": [{"name": name, "value": "x"}]})
    assert (status, faults(body)) == (400, [("reserved", "headers[0].name")])
    assert words in body["errors"][0]["message"]
