"""Who may do what: keys, scopes, sessions, and two owners who do not exist for each other."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import ApiKey, Scope, User
from jobs.models import Endpoint, Job, Run
from planner.models import AnalysisSession, Proposal
from tests.support.api import Api, faults
from tests.support.factories import PASSWORD, Cast, make_api_key, make_endpoint, make_job, make_run

OPEN = ("api/health", "api/schema", "api/docs", "api/synthetic/")
METHODS = ("GET", "POST", "PATCH", "DELETE")


def routes(resolver: URLResolver | None = None, prefix: str = "") -> list[str]:
    """Every pattern below /api, as written in the URLconf; the last one catches the rest."""
    found: list[str] = []
    for item in (resolver or get_resolver()).url_patterns:
        text = prefix + str(item.pattern)
        if isinstance(item, URLResolver) and ("api/".startswith(text) or text.startswith("api/")):
            found += routes(item, text)
        elif isinstance(item, URLPattern) and text.startswith("api/"):
            found.append(text)
    return found


OWNED = [route for route in routes() if not route.startswith(OPEN)]


@pytest.fixture
def estate(cast: Cast) -> dict[str, Any]:
    """One of everything that Alice owns, by the names of the path's parameters."""
    endpoint = make_endpoint(make_job(cast.alice))
    return {
        "job_id": endpoint.job_id,
        "endpoint_id": endpoint.pk,
        "run_id": make_run(endpoint).pk,
        "key_id": make_api_key(cast.alice)[0].pk,
        **make_advice(endpoint),
    }


def make_advice(endpoint: Endpoint) -> dict[str, Any]:
    """A session with an open offer, by the names of the path's parameters."""
    owner_id = endpoint.owner_id
    session = AnalysisSession.objects.create(
        endpoint=endpoint, owner_id=owner_id, trigger="due", backend="openai", status="completed"
    )
    offer = Proposal.objects.create(
        endpoint=endpoint,
        owner_id=owner_id,
        session=session,
        cause="model",
        tool="propose_interval",
        arguments_asked={"interval_ms": 60_000, "ttl_minutes": 60, "reason": "busy"},
        mode="approve",
        status="pending",
        offer_expires_at=datetime.now(UTC) + timedelta(hours=1),
    )
    return {"session_id": session.pk, "proposal_id": offer.pk}


def filled(route: str, ids: dict[str, Any]) -> str:
    return "/" + re.sub(r"<uuid:(\w+)>", lambda part: str(ids.get(part[1]) or uuid4()), route)


def rows() -> list[dict[str, Any]]:
    models: tuple[type[Model], ...] = (Job, Endpoint, Run, ApiKey, Proposal)
    shown = [row for model in models for row in model._default_manager.order_by("pk").values()]
    for row in shown:
        row.pop("last_used_at", None)
    return shown


def test_the_walk_sees_the_routes() -> None:
    assert len(OWNED) >= 20
    assert any("<uuid:run_id>" in route for route in OWNED)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("route", [route for route in OWNED if "<uuid:" in route])
@pytest.mark.parametrize("who", ["bob", "operator"])
def test_what_belongs_to_others_does_not_exist(
    cast: Cast, estate: dict[str, Any], route: str, method: str, who: str
) -> None:
    stranger = Api(getattr(cast, who))
    unknown = stranger.send(method, filled(route, {}), {})
    before = rows()
    foreign = stranger.send(method, filled(route, estate), {})
    assert foreign == unknown
    assert foreign[0] in (404, 405)
    assert rows() == before


@pytest.mark.parametrize("route", [route for route in OWNED if "<uuid:" not in route])
def test_lists_show_nothing_of_others(cast: Cast, estate: dict[str, Any], route: str) -> None:
    stranger = Api(cast.bob)
    _, body = stranger.send("GET", f"/{route}")
    assert not any(str(value) in json.dumps(body) for value in estate.values())


def test_one_of_both_ids_being_ones_own_does_not_help(cast: Cast, estate: dict[str, Any]) -> None:
    stranger = Api(cast.bob)
    own = make_endpoint(make_job(cast.bob))
    for job_id, endpoint_id in ((own.job_id, estate["endpoint_id"]), (estate["job_id"], own.pk)):
        assert stranger.send("GET", f"/api/jobs/{job_id}/endpoints/{endpoint_id}")[0] == 404
        assert stranger.send("DELETE", f"/api/jobs/{job_id}/endpoints/{endpoint_id}")[0] == 404


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("route", OWNED)
def test_nobody_gets_in_without_a_name(cast: Cast, estate: dict[str, Any], route: str, method: str) -> None:
    before = rows()
    status, body = Api(None).send(method, filled(route, estate), {})
    assert (status, faults(body)) == (401, [("not_authenticated", None)])
    assert rows() == before


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("route", OWNED)
def test_a_reading_key_changes_nothing(cast: Cast, estate: dict[str, Any], route: str, method: str) -> None:
    reader = Api(cast.alice, (Scope.READ,))
    before = rows()
    status, body = reader.send(method, filled(route, estate), {"baselineIntervalMs": 60_000})
    assert rows() == before
    if route == "api/schedule/preview" and method == "POST":
        assert status == 200
    elif status != 405:
        assert (status, faults(body)) == (403, [("scope_missing", None)])


def test_a_writing_key_may_read(cast: Cast) -> None:
    assert Api(cast.alice, (Scope.WRITE,)).get("/api/jobs")["jobs"] == []


def _broken_keys(owner: User) -> dict[str, str]:
    past = datetime.now(UTC) - timedelta(seconds=1)
    good = make_api_key(owner)[1]
    wrong = make_api_key(owner)[1].rpartition("_")[0] + "_" + "A" * 43
    away = User.objects.create_user("away@example.com", PASSWORD, is_active=False)
    return {
        "empty": "",
        "malformed": "hello",
        "unknown": "cc_" + "z" * 12 + "_" + "A" * 43,
        "wrong secret": wrong,
        "revoked": make_api_key(owner, revoked_at=past)[1],
        "expired": make_api_key(owner, expires_at=past)[1],
        "inactive": make_api_key(away)[1],
        "huge": good + "A" * 100_000,
        "not ascii": "cc_\u00fc",
    }


def test_every_bad_key_gets_the_same_answer(cast: Cast) -> None:
    answers = set()
    for key in _broken_keys(cast.alice).values():
        for headers in ({"x-api-key": key}, {"Authorization": f"Bearer {key}"}):
            response = Client(headers=headers).get("/api/jobs")
            assert response.status_code == 401
            assert response["WWW-Authenticate"] == 'Bearer realm="api"'
            answers.add(response.content)
    answers.add(Client().get("/api/jobs").content)
    answers.add(Client(headers={"Authorization": "Basic eDp5"}).get("/api/jobs").content)
    assert len(answers) == 1


def test_a_bad_key_is_not_saved_by_a_session(cast: Cast) -> None:
    client = Client(headers={"x-api-key": "nonsense"})
    client.force_login(cast.alice, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/api/jobs").status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_key_works_as_a_bearer(cast: Cast, scheme: str) -> None:
    key = make_api_key(cast.alice)[1]
    assert Client(headers={"Authorization": f"{scheme} {key}"}).get("/api/jobs").status_code == 200


def test_use_is_noted_at_most_every_five_minutes(cast: Cast) -> None:
    key, text = make_api_key(cast.alice)
    client = Client(headers={"x-api-key": text})

    def used_at() -> datetime | None:
        client.get("/api/jobs")
        return ApiKey.objects.get(pk=key.pk).last_used_at

    first = used_at()
    assert first is not None
    assert used_at() == first
    ApiKey.objects.filter(pk=key.pk).update(last_used_at=first - timedelta(minutes=6))
    again = used_at()
    assert again is not None
    assert again >= first


def test_a_session_reads_freely_and_writes_only_with_the_csrf_token(cast: Cast) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.alice, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/api/jobs").status_code == 200

    def create(**headers: str) -> Any:
        return client.post("/api/jobs", {"name": "J"}, content_type="application/json", headers=headers)

    refused = create()
    assert (refused.status_code, faults(refused.json())) == (403, [("csrf_failed", None)])
    assert not Job.objects.exists()
    token = "a" * 32
    client.cookies["csrftoken"] = token
    assert create(**{"X-CSRFToken": token}).status_code == 201
    assert Job.objects.get().owner_id == cast.alice.pk


def test_a_form_of_a_session_is_refused_without_a_500(cast: Cast) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(cast.alice, backend="django.contrib.auth.backends.ModelBackend")
    big = client.post("/api/jobs", b"a=" + b"x" * 1_100_000, content_type="application/x-www-form-urlencoded")
    assert (big.status_code, faults(big.json())) == (403, [("csrf_failed", None)])
    broken = client.post("/api/jobs", b"xx", content_type="multipart/form-data")
    assert (broken.status_code, faults(broken.json())) == (403, [("csrf_failed", None)])


def test_keys_are_made_shown_once_used_listed_and_revoked(cast: Cast) -> None:
    api = Api(cast.alice)
    until = "2190-01-01T00:00:00.000000Z"
    made = api.post("/api/api-keys", {"name": "CI", "scopes": ["write", "read", "read"][:2], "expiresAt": until}, 201)
    assert made["scopes"] == ["read", "write"]
    assert made["expiresAt"] == until
    assert made["key"].startswith(made["prefix"] + "_")
    client = Client(headers={"x-api-key": made["key"]})
    assert client.get("/api/jobs").status_code == 200
    listed = {key["id"]: key for key in api.get("/api/api-keys")["apiKeys"]}
    assert "key" not in listed[made["id"]]
    assert made["key"] not in json.dumps(listed)
    assert api.send("DELETE", f"/api/api-keys/{made['id']}") == (204, None)
    assert client.get("/api/jobs").status_code == 401
    revoked_at = ApiKey.objects.get(pk=made["id"]).revoked_at
    assert api.send("DELETE", f"/api/api-keys/{made['id']}") == (204, None)
    assert ApiKey.objects.get(pk=made["id"]).revoked_at == revoked_at


def test_a_new_key_only_reads_unless_asked(cast: Cast) -> None:
    made = Api(cast.alice).post("/api/api-keys", {"name": "CI"}, 201)
    assert made["scopes"] == ["read"]
