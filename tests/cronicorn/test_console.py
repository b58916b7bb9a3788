"""The console: whose rows it shows, what its forms and buttons do, and that nothing stored becomes markup."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from pytest_django import DjangoAssertNumQueries

from accounts.keys import parse_key
from accounts.models import ApiKey, User
from accounts.vault import unseal
from cronicorn.admin import site
from jobs import services
from jobs.models import Author, Endpoint, Job, Run, RunResponse
from planner.models import AnalysisSession, Proposal
from tests.support.factories import Cast, make_api_key, make_cast, make_endpoint, make_job, make_run

pytestmark = pytest.mark.django_db

XSS = '"><script>alert(1)</script>'
SECRET_WORD = "bobs-own-thing"


@pytest.fixture
def cast() -> Cast:
    return make_cast()


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def make_session(endpoint: Endpoint, **fields: Any) -> AnalysisSession:
    values = {"trigger": "new_runs", "backend": "openai", "status": "completed", "reasoning": "Because.", **fields}
    return AnalysisSession.objects.create(endpoint=endpoint, owner_id=endpoint.owner_id, **values)


def make_proposal(endpoint: Endpoint, **fields: Any) -> Proposal:
    values = {
        "cause": "model",
        "tool": "propose_interval",
        "arguments_asked": {"interval_ms": 60_000, "reason": "It changes often."},
        "arguments": {"interval_ms": 60_000, "reason": "It changes often."},
        "mode": "approve",
        "status": "pending",
        "ttl_ms": 600_000,
        "reason": "It changes often.",
        "offer_expires_at": datetime.now(UTC) + timedelta(hours=1),
        **fields,
    }
    proposal = Proposal.objects.create(endpoint=endpoint, owner_id=endpoint.owner_id, **values)
    proposal.refresh_from_db()
    return proposal


def make_estate(owner: User, word: str) -> dict[str, Any]:
    """One row of everything that a person can own, each named after the word."""
    job = make_job(owner, name=f"{word} job")
    endpoint = make_endpoint(job, name=f"{word} endpoint", url=f"https://{word}.example.com/")
    run = make_run(endpoint, status="failed", error_kind="timeout", error_message=f"{word} error")
    RunResponse.objects.create(run=run, endpoint=endpoint, received_at=run.finished_at, body=f"{word} body")
    key, _ = make_api_key(owner, name=f"{word} key")
    return {
        "job": job,
        "endpoint": endpoint,
        "run": run,
        "analysissession": make_session(endpoint, reasoning=f"{word} reasoning"),
        "proposal": make_proposal(endpoint, reason=f"{word} reason"),
        "apikey": key,
    }


def console_routes() -> Iterator[tuple[str, list[str]]]:
    """Every named address of the console with the names of its arguments."""

    def walk(patterns: list[URLPattern | URLResolver]) -> Iterator[tuple[str, list[str]]]:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns)
            elif pattern.name == "app_list":
                yield pattern.name, ["app_label"]
            elif pattern.name:
                yield pattern.name, list(pattern.pattern.converters)

    yield from walk(site.get_urls())


def test_the_walk_sees_the_whole_console() -> None:
    names = {name for name, _ in console_routes()}
    assert len(names) > 40
    assert {"jobs_endpoint_page", "jobs_endpoint_do", "jobs_run_page", "planner_proposal_do", "dashboard_live"} <= names


def test_no_page_shows_or_admits_what_belongs_to_somebody_else(cast: Cast) -> None:
    estate = make_estate(cast.bob, SECRET_WORD)
    make_estate(cast.alice, "alices")
    LogEntry.objects.create(
        user=cast.bob, content_type_id=None, object_id=str(estate["job"].pk), object_repr=SECRET_WORD, action_flag=2
    )
    client = signed_in(cast.alice)
    for name, arguments in console_routes():
        if name in ("logout", "login"):
            continue
        model = name.split("_")[1] if "_" in name else ""
        for foreign in estate.values():
            values = {
                "object_id": foreign.pk,
                "name": "archive",
                "content_type_id": 1,
                "app_label": "jobs",
                "url": "x/",
            }
            address = reverse(f"admin:{name}", kwargs={key: values[key] for key in arguments})
            for method in (client.get, client.post):
                response = method(address, follow=False)
                body = response.content.decode()
                assert SECRET_WORD not in body, f"{address} shows what is Bob's"
                assert response.status_code < 500, address
                if "object_id" in arguments and model in estate:
                    assert response.status_code in (403, 404, 405), f"{address} answered {response.status_code}"


@pytest.mark.parametrize(
    "address",
    [
        f"/jobs/job/?q={SECRET_WORD}",
        f"/jobs/endpoint/?q={SECRET_WORD}",
        f"/jobs/run/?q={SECRET_WORD}",
        f"/search/?s={SECRET_WORD}",
        "/jobs/endpoint/add/",
        f"/planner/proposal/?q={SECRET_WORD}",
        f"/accounts/apikey/?q={SECRET_WORD}",
    ],
)
def test_search_choices_and_filters_offer_only_what_is_ones_own(cast: Cast, address: str) -> None:
    make_estate(cast.bob, SECRET_WORD)
    body = signed_in(cast.alice).get(address).content.decode()
    assert f"{SECRET_WORD} " not in body.replace(f'value="{SECRET_WORD}"', "")


def test_filters_by_a_foreign_id_find_nothing(cast: Cast) -> None:
    estate = make_estate(cast.bob, SECRET_WORD)
    client = signed_in(cast.alice)
    for address in (
        f"/jobs/run/?endpoint={estate['endpoint'].pk}",
        f"/jobs/endpoint/?job={estate['job'].pk}",
        f"/?job={estate['job'].pk}",
    ):
        assert SECRET_WORD not in client.get(address, follow=True).content.decode()


def test_an_operator_sees_everybodys_rows(cast: Cast) -> None:
    estate = make_estate(cast.bob, SECRET_WORD)
    client = signed_in(cast.operator)
    for name in ("job", "endpoint", "run"):
        assert client.get(reverse(f"admin:jobs_{name}_page", args=[estate[name].pk])).status_code == 200
    assert f"{SECRET_WORD} endpoint" in client.get("/jobs/endpoint/").content.decode()


def test_pages_of_people_are_for_operators(cast: Cast) -> None:
    owner, operator = signed_in(cast.alice), signed_in(cast.operator)
    for address in ("/accounts/user/", "/accounts/user/add/"):
        assert owner.get(address).status_code == 403
        assert operator.get(address).status_code == 200
    assert owner.get(f"/accounts/user/{cast.bob.pk}/change/").status_code in (403, 404)
    assert "/accounts/user/" not in owner.get("/").content.decode()
    assert "/accounts/user/" in operator.get("/").content.decode()


def test_who_has_no_account_or_a_closed_one_is_sent_to_sign_in(cast: Cast) -> None:
    assert Client().get("/jobs/job/").headers["Location"].startswith("/")
    assert Client().get("/", follow=True).redirect_chain[-1][0].startswith("/accounts/login/")
    client = signed_in(cast.alice)
    User.objects.filter(pk=cast.alice.pk).update(is_active=False)
    assert client.get("/jobs/job/").status_code == 302


def form_of(client: Client, address: str) -> dict[str, Any]:
    """The values that a browser would send back from the form of a page."""
    form = client.get(address).context["adminform"].form
    values: dict[str, Any] = {}
    for bound in form:
        if bound.name == "headers":
            for number, row in enumerate(bound.value() or []):
                values |= {f"headers-{number}-name": row["name"], f"headers-{number}-value": row["value"] or ""}
                values |= {f"headers-{number}-secret": "on"} if row["secret"] else {}
            continue
        value = bound.value()
        values[bound.name] = "" if value is None else getattr(value, "pk", value)
    return values


def test_a_job_is_created_and_edited(cast: Cast) -> None:
    client = signed_in(cast.alice)
    response = client.post("/jobs/job/add/", {"name": "Checkout", "description": "Cart to receipt"})
    job = Job.objects.get(owner=cast.alice)
    assert response.headers["Location"] == f"/jobs/job/{job.pk}/"
    client.post(f"/jobs/job/{job.pk}/change/", {"name": "Till", "description": ""})
    job.refresh_from_db()
    assert (job.name, job.description) == ("Till", "")


def test_an_endpoint_is_created_planned_and_its_secrets_are_sealed(cast: Cast) -> None:
    client = signed_in(cast.alice)
    job = make_job(cast.alice)
    values = form_of(client, f"/jobs/endpoint/add/?job={job.pk}") | {
        "job": str(job.pk),
        "name": "Queue",
        "url": "https://example.com/queue",
        "baseline_interval_ms": "1 h 30 min",
        "headers-0-name": "X-Api-Key",
        "headers-0-value": "hunter2",
        "headers-0-secret": "on",
    }
    response = client.post("/jobs/endpoint/add/", values)
    endpoint = Endpoint.objects.get()
    assert response.headers["Location"] == f"/jobs/endpoint/{endpoint.pk}/"
    assert endpoint.baseline_interval_ms == 5_400_000
    assert endpoint.next_run_at is not None
    assert "hunter2" not in json.dumps(endpoint.headers)
    assert unseal(f"job_endpoints:{endpoint.pk}", endpoint.headers_sealed or "") == {"X-Api-Key": "hunter2"}
    assert "hunter2" not in client.get(f"/jobs/endpoint/{endpoint.pk}/change/").content.decode()
    assert "hunter2" not in client.get(f"/jobs/endpoint/{endpoint.pk}/").content.decode()


def test_saving_keeps_secrets_that_were_left_empty_and_changes_only_what_differs(cast: Cast) -> None:
    client = signed_in(cast.alice)
    job = make_job(cast.alice)
    values = form_of(client, "/jobs/endpoint/add/") | {
        "job": str(job.pk), "name": "Queue", "url": "https://example.com/queue",
        "headers-0-name": "X-Api-Key", "headers-0-value": "hunter2", "headers-0-secret": "on",
    }  # fmt: skip
    client.post("/jobs/endpoint/add/", values)
    endpoint = Endpoint.objects.get()
    address = f"/jobs/endpoint/{endpoint.pk}/change/"
    client.post(address, form_of(client, address) | {"baseline_interval_ms": "30 s"})
    changed = Endpoint.objects.get()
    assert changed.baseline_interval_ms == 30_000
    assert unseal(f"job_endpoints:{changed.pk}", changed.headers_sealed or "") == {"X-Api-Key": "hunter2"}
    assert (changed.next_run_at or datetime.max.replace(tzinfo=UTC)) < (endpoint.next_run_at or datetime.now(UTC))


def test_a_baseline_of_another_kind_replaces_the_old_one(cast: Cast) -> None:
    client = signed_in(cast.alice)
    endpoint = make_endpoint(make_job(cast.alice))
    address = f"/jobs/endpoint/{endpoint.pk}/change/"
    client.post(address, form_of(client, address) | {"baseline_kind": "cron", "baseline_cron": "0 9 * * *"})
    endpoint.refresh_from_db()
    assert (endpoint.baseline_interval_ms, endpoint.baseline_cron, endpoint.next_source) == (
        None,
        "0 9 * * *",
        "baseline-cron",
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"url": "http://169.254.169.254/"}, "url"),
        ({"url": "ftp://example.com"}, "url"),
        ({"baseline_interval_ms": "5"}, "baseline_interval_ms"),
        ({"baseline_interval_ms": "0 s"}, "baseline_interval_ms"),
        ({"baseline_interval_ms": ""}, "baseline_interval_ms"),
        ({"baseline_interval_ms": "9" * 400 + " d"}, "baseline_interval_ms"),
        ({"baseline_kind": "cron", "baseline_cron": "61 * * * *"}, "baseline_cron"),
        ({"baseline_kind": "once", "run_once_at": "2001-01-01T00:00"}, "run_once_at"),
        ({"baseline_kind": "once", "run_once_at": "soon"}, "run_once_at"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"min_interval_ms": "10 min", "max_interval_ms": "1 min"}, "min_interval_ms"),
        ({"recovery_check_ms": "1 s"}, "recovery_check_ms"),
        ({"headers-0-name": "Host", "headers-0-value": "x"}, "headers"),
        ({"headers-0-name": "X-Key", "headers-0-value": "", "headers-0-secret": "on"}, "headers"),
        ({"headers-0-name": "X-Key", "headers-0-value": "a\nb"}, "headers"),
        ({"success_criteria": "{not json"}, "success_criteria"),
        ({"success_criteria": "[" * 5000}, "success_criteria"),
        ({"rules": '[{"when": {}, "then": {}}]'}, "rules"),
        ({"retry_limit": "99"}, "retry_limit"),
        ({"retry_limit": "9" * 50}, "retry_limit"),
        ({"body": "nul \x00 here"}, "body"),
        ({"timeout_ms": ""}, "timeout_ms"),
    ],
)
def test_faults_stand_at_their_fields_and_nothing_is_written(cast: Cast, changes: dict[str, str], field: str) -> None:
    client = signed_in(cast.alice)
    job = make_job(cast.alice)
    values = form_of(client, "/jobs/endpoint/add/") | {
        "job": str(job.pk),
        "name": "Queue",
        "url": "https://example.com/",
    }
    response = client.post("/jobs/endpoint/add/", values | changes)
    assert response.status_code == 200
    assert field in response.context["adminform"].form.errors
    assert not Endpoint.objects.exists()


def test_a_foreign_job_cannot_be_chosen(cast: Cast) -> None:
    client = signed_in(cast.alice)
    make_job(cast.alice)
    foreign = make_job(cast.bob)
    values = form_of(client, "/jobs/endpoint/add/") | {
        "job": str(foreign.pk),
        "name": "Queue",
        "url": "https://example.com/",
    }
    response = client.post("/jobs/endpoint/add/", values)
    assert "job" in response.context["adminform"].form.errors
    assert not Endpoint.objects.exists()


def do(client: Client, endpoint: Endpoint, name: str) -> Endpoint:
    response = client.post(f"/jobs/endpoint/{endpoint.pk}/do/{name}/")
    assert response.status_code == 302
    endpoint.refresh_from_db()
    return endpoint


def test_every_button_of_an_endpoint_plans_anew(cast: Cast) -> None:
    client = signed_in(cast.alice)
    endpoint = make_endpoint(make_job(cast.alice), failure_count=3)
    services.set_interval_hint(
        endpoint_id=endpoint.pk, interval_ms=30_000, ttl_ms=600_000, reason="", author=Author.PLANNER
    )
    assert do(client, endpoint, "run-now").next_source == "manual"
    assert do(client, endpoint, "clear-hints").ai_hint_interval_ms is None
    paused = do(client, endpoint, "pause")
    assert (paused.status, paused.next_run_at) == ("paused", None)
    assert do(client, endpoint, "resume").next_run_at is not None
    assert do(client, endpoint, "reset-failures").failure_count == 0
    assert do(client, endpoint, "planner-off").planner_mode == "off"
    archived = do(client, endpoint, "archive")
    assert (archived.status, archived.next_run_at) == ("archived", None)
    assert LogEntry.objects.filter(object_id=str(endpoint.pk)).count() == 7


def test_resuming_ends_a_pause_with_a_time_too(cast: Cast) -> None:
    endpoint = make_endpoint(make_job(cast.alice))
    until = datetime.now(UTC) + timedelta(hours=1)
    services.pause(endpoint_id=endpoint.pk, until=until, reason="night", author=Author.USER)
    assert do(signed_in(cast.alice), endpoint, "resume").paused_until is None


def test_page_says_what_the_server_asked_for_and_reset_forgets_it(cast: Cast) -> None:
    client, endpoint = signed_in(cast.alice), make_endpoint(make_job(cast.alice))
    now = datetime.now(UTC)
    Endpoint.objects.update(
        server_wait_since=now,
        server_wait_until=now + timedelta(hours=5),
        server_wait_reason="it answered 429 with Retry-After",
    )
    page = client.get(reverse("admin:jobs_endpoint_page", args=[endpoint.pk])).content.decode()
    assert "The server asked to wait" in page
    assert "because it answered 429 with Retry-After" in page
    assert do(client, endpoint, "reset-failures").server_wait_until is None


def test_a_button_answers_only_to_post_and_refusals_are_told(cast: Cast) -> None:
    client = signed_in(cast.alice)
    endpoint = make_endpoint(make_job(cast.alice))
    assert client.get(f"/jobs/endpoint/{endpoint.pk}/do/run-now/").status_code == 405
    assert client.post(f"/jobs/endpoint/{endpoint.pk}/do/explode/").status_code == 404
    do(client, endpoint, "pause")
    response = client.post(f"/jobs/endpoint/{endpoint.pk}/do/run-now/", follow=True)
    assert "resume it first" in response.content.decode()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.alice, backend="django.contrib.auth.backends.ModelBackend")
    assert strict.post(f"/jobs/endpoint/{endpoint.pk}/do/resume/").status_code == 403


def test_bulk_actions_go_through_the_services_and_touch_only_ones_own(cast: Cast) -> None:
    client = signed_in(cast.alice)
    own, foreign = make_endpoint(make_job(cast.alice)), make_endpoint(make_job(cast.bob))
    chosen = {"_selected_action": [str(own.pk), str(foreign.pk)], "index": "0"}
    client.post("/jobs/endpoint/", {"action": "pause", **chosen})
    own.refresh_from_db()
    foreign.refresh_from_db()
    assert (own.status, own.next_run_at, foreign.status) == ("paused", None, "active")
    client.post("/jobs/endpoint/", {"action": "delete_selected", **chosen})
    assert Endpoint.objects.count() == 2


def test_pausing_a_job_stops_its_endpoints(cast: Cast) -> None:
    client = signed_in(cast.alice)
    endpoint = make_endpoint(make_job(cast.alice))
    client.post(f"/jobs/job/{endpoint.job_id}/do/pause/")
    endpoint.refresh_from_db()
    assert endpoint.next_run_at is None
    client.post(f"/jobs/job/{endpoint.job_id}/do/resume/")
    endpoint.refresh_from_db()
    assert endpoint.next_run_at is not None


def test_a_proposal_is_approved_and_rejected(cast: Cast) -> None:
    client = signed_in(cast.alice)
    endpoint = make_endpoint(make_job(cast.alice), planner_mode="approve")
    proposal = make_proposal(endpoint)
    assert "Approve" in client.get(f"/planner/proposal/{proposal.pk}/").content.decode()
    client.post(f"/planner/proposal/{proposal.pk}/do/approve/")
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 60_000
    client.post(f"/planner/proposal/{proposal.pk}/do/undo/")
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms is None
    other = make_proposal(endpoint)
    client.post(f"/planner/proposal/{other.pk}/do/reject/")
    other.refresh_from_db()
    assert other.status == "rejected"


def test_runs_sessions_and_proposals_cannot_be_changed(cast: Cast) -> None:
    client = signed_in(cast.operator)
    estate = make_estate(cast.bob, "x")
    for app, name in (("jobs", "run"), ("planner", "analysissession"), ("planner", "proposal")):
        assert client.get(f"/{app}/{name}/add/").status_code == 403
        assert client.post(f"/{app}/{name}/{estate[name].pk}/change/", {}).status_code == 302
        assert client.post(f"/{app}/{name}/{estate[name].pk}/delete/", {"post": "yes"}).status_code == 403
    assert Run.objects.count() == 1


def test_a_new_api_key_is_shown_once_and_can_be_revoked(cast: Cast) -> None:
    client = signed_in(cast.alice)
    response = client.post("/accounts/apikey/add/", {"name": "CI", "scopes": ["read"], "expires_at": "2099-01-01"})
    found = re.search(r"cc_[a-z0-9]{12}_[A-Za-z0-9_-]{43}", response.content.decode())
    assert found
    assert "no-store" in response.headers["Cache-Control"]
    key, parts = ApiKey.objects.get(), parse_key(found[0])
    assert parts
    assert (key.secret_hash, key.owner, key.scopes) == (parts.secret_hash, cast.alice, ["read"])
    assert found[0] not in client.get("/accounts/apikey/").content.decode()
    revoke = {"action": "revoke", "_selected_action": [str(key.pk)], "index": "0", "confirmed": "yes"}
    client.post("/accounts/apikey/", revoke)
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_an_operator_makes_an_account_that_can_sign_in(cast: Cast) -> None:
    client = signed_in(cast.operator)
    values = {"email": "New@Example.com", "name": "New", "password": "correct-horse-battery", "is_active": "on"}
    client.post("/accounts/user/add/", values)
    user = User.objects.get(email="new@example.com")
    assert user.check_password("correct-horse-battery")
    assert not user.is_superuser
    weak = client.post("/accounts/user/add/", values | {"email": "other@example.com", "password": "12345"})
    assert "password" in weak.context["adminform"].form.errors


def test_nothing_stored_is_rendered_as_markup(cast: Cast) -> None:
    client = signed_in(cast.alice)
    job = make_job(cast.alice, name=XSS, description=XSS)
    endpoint = make_endpoint(job, name=XSS, description=XSS, url="https://example.com/?q=" + XSS)
    services.set_interval_hint(
        endpoint_id=endpoint.pk, interval_ms=30_000, ttl_ms=600_000, reason=XSS, author=Author.PLANNER
    )
    run = make_run(
        endpoint,
        status="failed",
        error_kind="timeout",
        error_message=XSS,
        decision={"sentence": XSS, "candidates": [{"source": XSS, "at": None, "verdict": XSS, "note": XSS}]},
    )
    RunResponse.objects.create(
        run=run, endpoint=endpoint, received_at=run.finished_at, body=XSS, content_type=XSS, headers={XSS: XSS}
    )
    session = make_session(
        endpoint, reasoning=XSS, warnings=[XSS], model=XSS, tool_calls=[{"name": XSS, "arguments": {"a": XSS}}]
    )
    proposal = make_proposal(endpoint, reason=XSS, arguments={"interval_ms": XSS}, session=session)
    addresses = [
        "/",
        "/dashboard/live/",
        "/jobs/job/",
        "/jobs/endpoint/",
        "/jobs/run/",
        "/planner/proposal/",
        "/planner/analysissession/",
        f"/jobs/job/{job.pk}/",
        f"/jobs/endpoint/{endpoint.pk}/",
        f"/jobs/endpoint/{endpoint.pk}/live/",
        f"/jobs/endpoint/{endpoint.pk}/change/",
        f"/jobs/run/{run.pk}/",
        f"/planner/analysissession/{session.pk}/",
        f"/planner/proposal/{proposal.pk}/",
        "/search/?s=script",
    ]
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200, address
        assert "<script>alert" not in response.content.decode().replace("\\u003c", "<"), address


@pytest.mark.parametrize(
    "body", ["\u202e\u200b" * 100, "x" * 900_000, "]]>-->\u2028\u2029", "%s {{ 7*7 }} {% now %}", ""]
)
def test_hostile_bodies_do_not_break_a_page(cast: Cast, body: str) -> None:
    endpoint = make_endpoint(make_job(cast.alice))
    run = make_run(endpoint)
    RunResponse.objects.create(run=run, endpoint=endpoint, received_at=run.finished_at, body=body)
    response = signed_in(cast.alice).get(f"/jobs/run/{run.pk}/")
    assert response.status_code == 200
    assert len(response.content) < 400_000


def test_run_page_tells_of_slots_that_were_not_called_and_of_the_lateness_against_the_slot(cast: Cast) -> None:
    endpoint = make_endpoint(make_job(cast.alice))
    slot = datetime.now(UTC) - timedelta(hours=1)
    fields = {"coalesced_slots": 3, "coalesced_until": slot, "coalesced_cause": "long_call"}
    run = make_run(endpoint, scheduled_for=slot, due_at=slot + timedelta(seconds=60), **fields)
    page = signed_in(cast.alice).get(f"/jobs/run/{run.pk}/").content.decode()
    assert "stands for 3 more, mainly because an earlier call of the endpoint was under way" in page
    assert "60 s after its slot" in page or "1 min after its slot" in page


def test_empty_pages_say_what_comes(cast: Cast) -> None:
    client = signed_in(cast.alice)
    assert "Create the first job" in client.get("/").content.decode()
    job = make_job(cast.alice)
    assert "No endpoints yet" in client.get(f"/jobs/job/{job.pk}/").content.decode()
    endpoint = make_endpoint(job)
    assert "No runs yet: the first starts" in client.get(f"/jobs/endpoint/{endpoint.pk}/").content.decode()


@pytest.mark.parametrize(
    "address",
    [
        "/jobs/job/",
        "/jobs/endpoint/",
        "/jobs/run/",
        "/planner/proposal/",
        "/planner/analysissession/",
        "/",
        "/jobs/job/{job}/",
    ],
)
def test_the_number_of_queries_does_not_grow_with_the_rows(
    cast: Cast, address: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    job = make_job(cast.alice)
    for _ in range(12):
        endpoint = make_endpoint(job)
        make_run(endpoint)
        make_session(endpoint)
        make_proposal(endpoint)
        make_job(cast.alice)
    client = signed_in(cast.alice)
    with django_assert_max_num_queries(22):
        assert client.get(address.format(job=job.pk)).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "p=99999",
        "p=x",
        "o=1.2.3",
        "status__exact=%00",
        "job=nonsense",
        "endpoint=nonsense",
        "q=%00",
        "all=",
        "e=1",
        "id__in=,",
        "owner__password__startswith=m",
    ],
)
@pytest.mark.parametrize("path", ["/jobs/job/", "/jobs/endpoint/", "/jobs/run/", "/planner/proposal/"])
def test_no_list_breaks_on_a_wrong_query(cast: Cast, path: str, query: str) -> None:
    make_estate(cast.alice, "x")
    assert signed_in(cast.alice).get(f"{path}?{query}", follow=True).status_code in (200, 400)


def test_lists_count_to_a_cap_and_no_further(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.ownership.COUNT_CAP", 3)
    endpoint = make_endpoint(make_job(cast.alice))
    for _ in range(5):
        make_run(endpoint)
    assert signed_in(cast.alice).get("/jobs/run/").context["cl"].result_count == 3


@pytest.mark.parametrize(
    ("query", "slots"),
    [
        ("baseline_kind=interval&baseline_interval_ms=5 min", 10),
        ("baseline_kind=cron&baseline_cron=*/5 * * * *&timezone=Europe/Berlin", 10),
        ("baseline_kind=once&run_once_at=2099-01-01T00:00", 1),
        ("baseline_kind=cron&baseline_cron=nonsense", None),
        ("baseline_kind=interval&baseline_interval_ms=5", None),
        ("baseline_kind=cron&timezone=../../etc/passwd", None),
        ("starts_at=x", None),
        ("", None),
    ],
)
def test_slots_are_previewed(cast: Cast, query: str, slots: int | None) -> None:
    answer = signed_in(cast.alice).get(f"/jobs/endpoint/preview/?{query}").json()
    assert (len(answer["slots"]) if slots else "slots" in answer) == (slots or False)
    assert bool(answer.get("fault")) is (slots is None)


def test_preview_of_an_edit_keeps_the_grid_that_the_edit_would_keep(cast: Cast) -> None:
    endpoint = make_endpoint(make_job(cast.alice), anchor_at=datetime.now(UTC) - timedelta(minutes=2))
    query = {"endpoint": str(endpoint.pk), "baseline_kind": "interval", "baseline_interval_ms": "5 min"}
    client = signed_in(cast.alice)
    kept = client.get("/jobs/endpoint/preview/", query).json()
    assert endpoint.next_run_at is not None
    assert kept["slots"][0]["at"] == endpoint.next_run_at.isoformat()
    moved = client.get("/jobs/endpoint/preview/", {**query, "starts_at": "2150-01-01T06:00"}).json()
    assert moved["slots"][0]["utc"] == "2150-01-01 06:00:00"
    assert signed_in(cast.bob).get("/jobs/endpoint/preview/", query).status_code == 404


def test_preview_of_an_edit_keeps_the_fractions_of_a_stored_start_and_an_end_that_has_passed(cast: Cast) -> None:
    start = datetime(2026, 1, 1, 6, 0, 2, 300_000, tzinfo=UTC)
    job = make_job(cast.alice)
    query = {"baseline_kind": "interval", "baseline_interval_ms": "5 min", "starts_at": "2026-01-01T06:00:02"}
    anchored = make_endpoint(job, starts_at=start, anchor_at=start)
    shown = signed_in(cast.alice).get("/jobs/endpoint/preview/", {**query, "endpoint": str(anchored.pk)}).json()
    assert anchored.next_run_at is not None
    assert shown["slots"][0]["at"] == anchored.next_run_at.isoformat()
    ended = make_endpoint(job, starts_at=start, anchor_at=start, ends_at=start + timedelta(days=1))
    query |= {"ends_at": "2026-01-02T06:00:02", "endpoint": str(ended.pk)}
    shown = signed_in(cast.alice).get("/jobs/endpoint/preview/", query).json()
    assert shown["slots"] == []


def test_preview_in_the_form_warns_of_uneven_steps(cast: Cast) -> None:
    query = "baseline_kind=cron&baseline_cron=0 */7 * * *"
    answer = signed_in(cast.alice).get(f"/jobs/endpoint/preview/?{query}").json()
    (warning,) = answer["warnings"]
    assert "the gaps are 7 and 3 h" in warning


def test_the_policy_forbids_inline_scripts_everywhere(cast: Cast) -> None:
    for client, address in (
        (signed_in(cast.alice), "/"),
        (signed_in(cast.alice), "/jobs/job/"),
        (Client(), "/accounts/login/"),
    ):
        response = client.get(address)
        scripts = next(part for part in response.headers["Content-Security-Policy"].split(";") if "script-src" in part)
        assert "unsafe-inline" not in scripts
        assert ("unsafe-eval" in scripts) is (address != "/accounts/login/")
        for tag in re.findall(r"<script[^>]*>", response.content.decode()):
            assert " src=" in tag, f"{address} has an inline script: {tag}"


def test_the_whole_site_resolves_to_the_console_last() -> None:
    assert get_resolver().resolve("/").view_name == "admin:index"
    assert get_resolver().resolve("/api/nothing").view_name != "admin:index"
