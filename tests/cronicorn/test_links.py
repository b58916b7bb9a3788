"""Whatever Host a request names, links in mail, return addresses and redirects lead to SITE_URL."""

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.account.models import EmailAddress
from django.core.cache import cache
from django.test import Client
from django.urls import get_resolver
from pytest_django import Settings

from cronicorn.env import read_environment, variables
from tests.cronicorn.test_error_pages import BACKEND, addresses
from tests.support.factories import PASSWORD, make_operator, make_user

pytestmark = pytest.mark.django_db
SITE = "https://cron.own.com:8443"
HOSTS = [
    {"host": "evil.own.com"},
    {"host": "cron.own.com:666"},
    {"host": "evil.own.com", "x-forwarded-host": "evil.example.net"},
    {"host": "cron.own.com:8443", "x-forwarded-host": "evil.own.com", "x-forwarded-port": "666"},
    {"host": "evil.own.com", "forwarded": "host=evil.example.net", "x-forwarded-proto": "http"},
]


@pytest.fixture(autouse=True)
def _site(settings: Settings) -> None:
    cache.clear()
    settings.ALLOWED_HOSTS = [".own.com"]
    settings.ENV = read_environment({**variables(), "SITE_URL": SITE, "SIGN_UP": "open"})


def links_of(mails: list[Any]) -> set[str]:
    """The origins of all links in the mails; the rest of the text names no other host either."""
    text = "\n".join(f"{mail.subject}\n{mail.body}" for mail in mails)
    assert mails
    assert "evil" not in text
    assert ":666" not in text
    return {"{0.scheme}://{0.netloc}".format(urlsplit(link)) for link in re.findall(r"https?://\S+", text)}


@pytest.mark.parametrize("headers", HOSTS, ids=str)
def test_every_mail_leads_to_the_site(headers: dict[str, str], mailoutbox: list[Any]) -> None:
    user = make_user("ada@own.com")
    client = Client(headers=headers)
    client.post("/accounts/password/reset/", {"email": "ada@own.com"})
    client.post("/accounts/password/reset/", {"email": "stranger@own.com"})
    credentials = {"password1": PASSWORD, "password2": PASSWORD}
    client.post("/accounts/signup/", {"email": "new@own.com", **credentials})
    Client(headers=headers).post("/accounts/signup/", {"email": "ada@own.com", **credentials})
    EmailAddress.objects.update_or_create(user=user, email=user.email, defaults={"verified": True, "primary": True})
    signed_in = Client(headers=headers)
    signed_in.force_login(user, backend=BACKEND)
    signed_in.post("/accounts/email/", {"action_add": "", "email": "second@own.com"})
    signed_in.post("/accounts/email/", {"action_send": "", "email": "second@own.com"})
    signed_in.post(
        "/accounts/password/change/", {"oldpassword": PASSWORD, "password1": "another-" + PASSWORD, "password2": "x"}
    )
    assert {mail.to[0] for mail in mailoutbox} >= {"ada@own.com", "stranger@own.com", "new@own.com", "second@own.com"}
    assert links_of(mailoutbox) == {SITE}


@pytest.mark.parametrize("headers", HOSTS, ids=str)
def test_a_reset_link_works_at_the_site(headers: dict[str, str], mailoutbox: list[Any]) -> None:
    make_user("ada@own.com")
    Client(headers=headers).post("/accounts/password/reset/", {"email": "ada@own.com"})
    found = re.search(rf"{SITE}(/accounts/password/reset/key/\S+)", mailoutbox[0].body)
    assert found
    assert Client(headers={"host": "cron.own.com:8443"}).get(found[1], follow=True).status_code == 200


@pytest.mark.parametrize("headers", HOSTS, ids=str)
def test_a_provider_sends_people_back_to_the_site(headers: dict[str, str], settings: Settings) -> None:
    settings.SOCIALACCOUNT_PROVIDERS = {"github": {"APPS": [{"client_id": "id", "secret": "secret"}]}}
    location = Client(headers=headers).post("/accounts/github/login/").headers["Location"]
    assert parse_qs(urlsplit(location).query)["redirect_uri"] == [f"{SITE}/accounts/github/login/callback/"]


@pytest.mark.parametrize("headers", HOSTS, ids=str)
@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("https://evil.own.com/", "/"),
        ("https://cron.own.com/", "/"),
        ("https://cron.own.com:666/", "/"),
        ("http://cron.own.com:8443/", "/"),
        ("//evil.own.com", "/"),
        ("/jobs/run/", "/jobs/run/"),
        (f"{SITE}/jobs/run/", f"{SITE}/jobs/run/"),
    ],
)
def test_sign_in_leads_to_the_site_only(headers: dict[str, str], target: str, leads_to: str) -> None:
    make_user("ada@own.com")
    values = {"login": "ada@own.com", "password": PASSWORD, "next": target}
    response = Client(headers=headers).post("/accounts/login/", values)
    assert response.headers["Location"] == leads_to


@pytest.mark.parametrize("who", ["nobody", "operator"])
def test_no_page_and_no_redirect_repeats_the_host(who: str) -> None:
    client = Client(headers={"host": "evil.own.com:666", "x-forwarded-host": "evil.example.net"})
    if who == "operator":
        client.force_login(make_operator(), backend=BACKEND)
    for address in addresses(get_resolver().url_patterns):
        response = client.get(address.replace("{}", "x"))
        told = response.headers.get("Location", "") + b"".join(response).decode("utf-8", "replace")
        assert "evil." not in told, address


def test_the_redirect_to_https_leads_to_the_site(settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    location = Client(headers={"host": "evil.own.com"}).get("/accounts/login/").headers["Location"]
    assert location == f"https://{settings.SECURE_SSL_HOST}/accounts/login/"
    assert settings.SECURE_SSL_HOST == "127.0.0.1:8000", "of the SITE_URL that the tests start with"


def test_guesses_are_counted_together_whatever_host_they_name() -> None:
    make_user("ada@own.com")
    for number in range(12):
        client = Client(headers={"host": f"evil{number}.own.com"})
        client.post("/accounts/login/", {"login": "ada@own.com", "password": "wrong"}, REMOTE_ADDR=f"10.0.0.{number}")
    response = Client(headers={"host": "cron.own.com"}).post(
        "/accounts/login/", {"login": "ada@own.com", "password": PASSWORD}
    )
    assert response.status_code != 302


def test_a_host_that_is_not_ours_is_refused() -> None:
    assert Client(headers={"host": "evil.example.net"}).get("/accounts/login/").status_code == 400
