"""Errors have a page of ours or the one error shape, never a bare 500, also where the database is away."""

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver, path
from pytest_django import Settings

from cronicorn import error_pages
from cronicorn import urls as site_urls
from tests.cronicorn.test_sign_in import open_sign_up
from tests.support.factories import make_operator, make_user

BACKEND = "django.contrib.auth.backends.ModelBackend"
ODD = ["x", "-1", "%00", "%ff", "a" * 300, "..%2f..", "'", "00000000-0000-0000-0000-000000000000", "1-set-password"]
QUERIES = [
    "",
    "?next=%00",
    "?next=//evil.example",
    "?process=connect&next=%ff",
    "?state=x&code=y",
    "?state=%00&code=%00",
    "?error=access_denied",
    "?code=" + "c" * 3000,
    "?q=%00&o=99&p=x&is_active__exact=maybe",
]


def addresses(patterns: list[Any], prefix: str = "/") -> Iterator[str]:
    """Every address of the site, with a hole where it takes a value."""
    for item in patterns:
        route = re.sub(r"\(\?P<\w+>(?:[^()]|\([^)]*\))*\)|<[^>]+>", "{}", str(item.pattern)).replace("\\Z", "")
        whole = prefix + route.replace("^", "").replace("$", "").replace("\\/", "/")
        if isinstance(item, URLResolver):
            yield from addresses(item.url_patterns, whole)
        elif isinstance(item, URLPattern):
            yield whole


def below_accounts() -> list[str]:
    found = [address for address in addresses(get_resolver().url_patterns) if address.startswith("/accounts/")]
    assert len(found) > 35
    return ["/accounts/", "/accounts/github/", "/accounts/nothing/", *found]


def client_of(who: str) -> Client:
    cache.clear()
    client = Client(raise_request_exception=False)
    if who != "nobody":
        person = make_operator("op@example.com") if who == "operator" else make_user("ada@example.com")
        client.force_login(person, backend=BACKEND)
    return client


@pytest.mark.django_db
@pytest.mark.timeout(240)
@pytest.mark.parametrize("method", ["get", "post", "head", "put", "delete", "options"])
@pytest.mark.parametrize("who", ["nobody", "owner", "operator"])
def test_no_account_address_ends_in_a_500(who: str, method: str) -> None:
    client = client_of(who)
    queries = QUERIES if method == "get" and who != "operator" else QUERIES[:1]
    for address in below_accounts():
        for value, query in [*product(ODD[:1], queries), *((odd, "") for odd in ODD[1:] if "{}" in address)]:
            url = address.replace("{}", value) + query
            response = getattr(client, method)(url)
            assert response.status_code < 500, (method, url)
            if response.status_code >= 400 and method not in ("head", "options"):
                assert response.content, (method, url)


@pytest.mark.django_db
@pytest.mark.timeout(240)
@pytest.mark.parametrize("value", ["%00", "%ed%a0%80", "a" * 20_000, "%f0%9f%98%80@example.com", "a@" + "b" * 300])
@pytest.mark.parametrize("who", ["nobody", "owner"])
def test_no_odd_field_of_an_account_form_ends_in_a_500(who: str, value: str, settings: Settings) -> None:
    open_sign_up(settings)
    client = client_of(who)
    names = ("login", "email", "password", "password1", "password2", "oldpassword", "next", "code", "action_add")
    for odd in names:
        form = "&".join(f"{name}={value if name == odd else 'x@example.com'}" for name in names)
        for address in below_accounts():
            if "{}" not in address and not address.endswith(("/add/", "/user/", "/apikey/")):
                response = client.post(address, form, content_type="application/x-www-form-urlencoded")
                assert response.status_code < 500, (address, odd)


@pytest.mark.django_db
@pytest.mark.timeout(240)
@pytest.mark.parametrize("value", ["%00", "%ff", "00000000-0000-0000-0000-000000000000"])
@pytest.mark.parametrize("who", ["owner", "operator"])
def test_no_odd_address_of_the_console_ends_in_a_500(who: str, value: str) -> None:
    client = client_of(who)
    for address in addresses(get_resolver().url_patterns):
        if address.startswith("/api"):
            continue
        url = address.replace("{}", value)
        for query in ("", f"?q={value}&p={value}&o={value}&e={value}&status__exact={value}"):
            assert client.get(url + query).status_code < 500, url + query


def boom(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("boom")


class Urls:
    """The site with addresses that fail below both roots."""

    urlpatterns = (path("boom", boom), path("api/boom", boom), *site_urls.urlpatterns)
    handler400, handler403 = site_urls.handler400, site_urls.handler403
    handler404, handler500 = site_urls.handler404, site_urls.handler500


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "status", "options"),
    [
        ("/nothing-here", 404, {}),
        ("/accounts/github/login/", 404, {}),
        ("/jobs/job/%ff/change/", 404, {}),
        ("/boom", 500, {}),
        ("/", 400, {"headers": {"host": "evil.example.net"}}),
        ("/", 400, {"headers": {"host": "a b"}}),
        ("/logout/", 405, {}),
    ],
)
def test_an_error_is_a_page_of_ours_or_json_where_json_is_asked_for(
    address: str, status: int, options: dict[str, Any], settings: Settings
) -> None:
    settings.ROOT_URLCONF = Urls
    client = client_of("owner")
    response = client.get(address, **options)
    page = response.content.decode()
    assert response.status_code == status
    assert "sign-in.css" in page
    assert "Traceback" not in page
    assert response.headers["Content-Type"].startswith("text/html")

    headers = {"accept": "application/json", **options.get("headers", {})}
    response = client.get(address, headers=headers)
    assert response.status_code == status
    (error,) = response.json()["errors"]
    assert error.keys() == {"code", "field", "message"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "address", "status", "code", "options"),
    [
        ("get", "/api/boom", 500, "internal_error", {}),
        ("get", "/api/nothing", 404, "not_found", {}),
        ("get", "/api/%ff", 404, "not_found", {}),
        ("get", "/api/%00", 404, "not_found", {}),
        ("get", "/api", 404, "not_found", {}),
        ("get", "/api/jobs", 400, "malformed", {"headers": {"host": "evil.example.net"}}),
        ("get", "/api/health", 400, "malformed", {"headers": {"host": "evil.example.net"}}),
        ("delete", "/api/health", 405, "method_not_allowed", {}),
        ("put", "/api/synthetic/health", 405, "method_not_allowed", {}),
        ("put", "/api/jobs", 405, "method_not_allowed", {}),
    ],
)
def test_errors_below_api_have_the_one_shape(
    method: str, address: str, status: int, code: str, options: dict[str, Any], settings: Settings
) -> None:
    settings.ROOT_URLCONF = Urls
    response = getattr(client_of("owner"), method)(address, **options)
    assert response.status_code == status
    (error,) = response.json()["errors"]
    assert (error["code"], error["field"]) == (code, None)


@pytest.mark.django_db
def test_a_form_without_a_token_gets_a_page_that_says_what_to_do() -> None:
    client = Client(enforce_csrf_checks=True)
    response = client.post("/accounts/login/", {"login": "a", "password": "b"})
    assert response.status_code == 403
    assert "Load the page again" in response.content.decode()
    assert "sign-in.css" in response.content.decode()
    client.force_login(make_user(), backend=BACKEND)
    response = client.post("/api/jobs", {}, content_type="application/json")
    assert (response.status_code, response.json()["errors"][0]["code"]) == (403, "csrf_failed")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "status"), [({"a": "x" * 2_000_000}, 413), ({f"f{n}": "" for n in range(2_100)}, 400)]
)
def test_a_form_that_is_too_large_is_refused_with_a_page(body: dict[str, str], status: int) -> None:
    client = Client(enforce_csrf_checks=True)
    client.cookies["csrftoken"] = "a" * 32
    form = "&".join(f"{name}={value}" for name, value in body.items())
    response = client.post("/accounts/login/", form, content_type="application/x-www-form-urlencoded")
    assert response.status_code == status
    assert "sign-in.css" in response.content.decode()


@pytest.mark.django_db
def test_what_is_somebody_elses_is_a_page_of_ours() -> None:
    response = client_of("owner").get("/accounts/user/")
    assert response.status_code in (403, 404)
    assert "sign-in.css" in response.content.decode()


def test_a_500_needs_neither_the_database_nor_the_static_files(settings: Settings) -> None:
    """Runs without a database: pytest-django refuses every query."""
    request = RequestFactory().get("/jobs/job/")
    assert "sign-in.css" in error_pages.server_error(request).content.decode()
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    }
    page = error_pages.server_error(request)
    assert page.status_code == 500
    assert "Something went wrong" in page.content.decode()
    assert connection.connection is None or not connection.in_atomic_block
