"""The console's forms: every fault at once, a typed secret that survives, and whose job an endpoint joins."""

import re
from typing import Any

import pytest
from django.core.signing import TimestampSigner
from django.test import Client

from accounts.vault import seal, unseal
from jobs.models import Endpoint, JobStatus
from tests.cronicorn.test_console import form_of, signed_in
from tests.support.factories import Cast, make_cast, make_endpoint, make_job

pytestmark = pytest.mark.django_db

ADD = "/jobs/endpoint/add/"


@pytest.fixture
def cast() -> Cast:
    return make_cast()


def typed(client: Client, **values: str) -> dict[str, str]:
    """The form of a new endpoint with a secret header, filled in well but for `values`."""
    return form_of(client, ADD) | {
        "name": "Queue",
        "url": "https://example.com/",
        "headers-0-name": "X-Key",
        "headers-0-value": "hunter2",
        "headers-0-secret": "on",
        **values,
    }


BAD = {
    "name": "",
    "url": "http://169.254.169.254/",
    "timeout_ms": "5",
    "retry_limit": "99",
    "max_response_bytes": "x",
    "starts_at": "2031-01-01T00:00",
    "ends_at": "2030-01-01T00:00",
    "timezone": "Mars/Olympus",
    "success_criteria": "{not json",
    "rules": '[{"when": {}, "then": {}}]',
    "min_interval_ms": "10 min",
    "max_interval_ms": "1 min",
    "headers-1-name": "Host",
    "headers-1-value": "x",
}
BAD_FIELDS = {
    *("name", "url", "timeout_ms", "retry_limit", "max_response_bytes", "ends_at", "timezone", "success_criteria"),
    *("rules", "min_interval_ms", "headers"),
}


@pytest.mark.parametrize("editing", [False, True])
def test_a_form_shows_the_faults_of_all_stages_at_once(cast: Cast, editing: bool) -> None:
    client, job = signed_in(cast.alice), make_job(cast.alice)
    address = f"/jobs/endpoint/{make_endpoint(job).pk}/change/" if editing else ADD
    values = form_of(client, address) | {"headers-0-name": "X-Key", "headers-0-value": "hunter2"} | BAD
    response = client.post(address, values)
    form = response.context["adminform"].form
    assert set(form.errors) == BAD_FIELDS
    assert Endpoint.objects.count() == editing


def test_a_field_that_is_unreadable_hides_no_other_fault_and_invents_none(cast: Cast) -> None:
    client = signed_in(cast.alice)
    make_job(cast.alice)
    for changes, expected in (
        ({"baseline_interval_ms": "soon", "url": "ftp://x"}, {"baseline_interval_ms", "url"}),
        ({"baseline_kind": "cron", "baseline_cron": "", "retry_limit": "99"}, {"baseline_cron", "retry_limit"}),
        ({"baseline_kind": "never", "url": "ftp://x"}, {"baseline_kind", "url"}),
        ({"starts_at": "soon", "ends_at": "2001-01-01T00:00"}, {"starts_at", "ends_at"}),
    ):
        response = client.post(ADD, typed(client) | changes)
        assert set(response.context["adminform"].form.errors) == expected, changes


def test_a_preview_tells_all_its_faults(cast: Cast) -> None:
    query = "baseline_kind=interval&baseline_interval_ms=5&timezone=Mars&starts_at=2031-01-01&ends_at=2030-01-01"
    answer = signed_in(cast.alice).get(f"/jobs/endpoint/preview/?{query}").json()
    assert "unit" in answer["fault"]
    assert "Mars" in answer["fault"]
    assert "must end after" in answer["fault"]


@pytest.mark.parametrize("bad", [{"url": "ftp://x"}, {"name": ""}, {"rules": "{"}, {"url": "http://169.254.169.254/"}])
def test_a_typed_secret_survives_a_refused_form_and_is_never_shown(cast: Cast, bad: dict[str, str]) -> None:
    client = signed_in(cast.alice)
    make_job(cast.alice)
    page = client.post(ADD, typed(client, **bad))
    assert "hunter2" not in page.content.decode()
    values = fields_of(page)
    assert values["headers-0-value"] == ""
    good = {"url": "https://example.com/", "name": "Queue", "rules": ""}
    response = client.post(ADD, values | good)
    assert response.status_code == 302, response.context["adminform"].form.errors
    endpoint = Endpoint.objects.get()
    assert unseal(f"job_endpoints:{endpoint.pk}", endpoint.headers_sealed or "") == {"X-Key": "hunter2"}


def test_a_secret_typed_over_a_stored_one_survives_two_refusals(cast: Cast) -> None:
    client = signed_in(cast.alice)
    make_job(cast.alice)
    client.post(ADD, typed(client))
    address = f"/jobs/endpoint/{Endpoint.objects.get().pk}/change/"
    page = client.post(address, form_of(client, address) | {"headers-0-value": "swordfish", "url": "ftp://x"})
    page = client.post(address, fields_of(page))
    client.post(address, fields_of(page) | {"url": "https://example.com/"})
    endpoint = Endpoint.objects.get()
    assert unseal(f"job_endpoints:{endpoint.pk}", endpoint.headers_sealed or "") == {"X-Key": "swordfish"}


@pytest.mark.parametrize("how", ["old", "foreign", "garbled", "made openly"])
def test_a_kept_secret_that_cannot_be_had_is_asked_for_again(
    cast: Cast, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = signed_in(cast.alice)
    make_job(cast.alice)
    values = fields_of(client.post(ADD, typed(client, url="ftp://x"))) | {"url": "https://example.com/"}
    if how == "foreign":
        text = seal(f"typed-header:{cast.bob.pk}", "stolen")
        values["headers-0-kept"] = TimestampSigner(salt="typed-header").sign(text)
    elif how == "garbled":
        values["headers-0-kept"] = "x"
    elif how == "made openly":
        del values["headers-0-secret"]
    else:
        monkeypatch.setattr("jobs.admin.fields.TYPED_KEPT_FOR", 0)
    response = client.post(ADD, values)
    assert "headers" in response.context["adminform"].form.errors
    assert not Endpoint.objects.exists()


def test_a_row_without_a_name_is_taken_away_with_what_was_typed(cast: Cast) -> None:
    client = signed_in(cast.alice)
    make_job(cast.alice)
    values = fields_of(client.post(ADD, typed(client, url="ftp://x")))
    client.post(ADD, values | {"url": "https://example.com/", "headers-0-name": ""})
    assert Endpoint.objects.get().headers == []


def fields_of(page: Any) -> dict[str, str]:
    """The values of a rendered form as a browser would send them."""
    html = page.content.decode()
    found: dict[str, str] = {}
    for tag in re.findall(r"<input[^>]*>", html):
        attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        name, kind = attributes.get("name"), attributes.get("type", "text")
        if name and (kind not in ("checkbox", "radio") or re.search(r"\bchecked\b", re.sub(r'"[^"]*"', "", tag))):
            found[name] = attributes.get("value", "on" if kind == "checkbox" else "").replace("&quot;", '"')
    for name, text in re.findall(r'<textarea[^>]*name="([\w-]+)"[^>]*>\s?([^<]*)</textarea>', html):
        found[name] = text.replace("&quot;", '"').replace("&amp;", "&")
    for name, options in re.findall(r'<select[^>]*name="([\w-]+)"[^>]*>(.*?)</select>', html, re.DOTALL):
        chosen = re.search(r'value="([^"]*)"[^>]*\bselected', options)
        found[name] = chosen[1] if chosen else ""
    return found


def chosen_job(client: Client, query: str = "") -> str:
    return fields_of(client.get(f"{ADD}{query}")).get("job", "")


def test_no_foreign_job_is_chosen_beforehand_and_an_operator_sees_whose_each_is(cast: Cast) -> None:
    foreign = make_job(cast.bob, name="AAA")
    client = signed_in(cast.operator)
    assert chosen_job(client) == ""
    assert f"AAA (of {cast.bob.email})" in client.get(ADD).content.decode()
    own = make_job(cast.operator, name="Mine")
    assert chosen_job(client) == str(own.pk)
    page = client.get(ADD).content.decode()
    assert page.index(">Mine<") < page.index("AAA (of")
    assert chosen_job(client, f"?job={foreign.pk}") == str(foreign.pk)
    make_job(cast.operator, name="Mine too")
    assert chosen_job(client) == ""
    values = typed(client) | {"job": ""}
    assert set(client.post(ADD, values).context["adminform"].form.errors) == {"job"}


def test_an_owner_with_one_job_finds_it_chosen_and_with_two_chooses(cast: Cast) -> None:
    make_job(cast.bob)
    own, client = make_job(cast.alice), signed_in(cast.alice)
    assert chosen_job(client) == str(own.pk)
    make_job(cast.alice)
    assert chosen_job(client) == ""


@pytest.mark.parametrize("archived", [False, True])
def test_adding_an_endpoint_without_a_job_offers_to_make_one(cast: Cast, archived: bool) -> None:
    make_job(cast.bob)
    if archived:
        make_job(cast.alice, status=JobStatus.ARCHIVED, archived_at="2026-01-01T00:00:00Z")
    page = signed_in(cast.alice).get(ADD)
    assert page.status_code == 200
    assert 'href="/jobs/job/add/"' in page.content.decode()
    assert "cc-preview" not in page.content.decode()
