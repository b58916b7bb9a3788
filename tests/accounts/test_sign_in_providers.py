"""Sign-in through a provider that is scripted on the wire: whatever it answers, the person gets a page of ours."""

import base64
import json
import re
from itertools import product
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.github.views import GitHubOAuth2Adapter
from allauth.socialaccount.providers.google.views import GoogleOAuth2Adapter
from django.core.cache import cache
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from tests.cronicorn.test_sign_in import open_sign_up
from tests.support.http_target import Answer, HttpTarget, Reply, raw, reset, stall

pytestmark = pytest.mark.django_db
PROVIDERS = {"github": "github", "google": "google", "oidc": "oidc/sso"}
TOKEN = {"access_token": "token", "token_type": "bearer", "expires_in": 3600}
PROFILES = {
    "github": {"id": 7, "login": "ada", "name": "Ada", "email": "ada@example.com"},
    "google": {"id": "7", "email": "ada@example.com", "verified_email": True, "name": "Ada"},
    "oidc": {"sub": "7", "email": "ada@example.com", "email_verified": True, "name": "Ada"},
}


def as_json(document: Any, status: int = 200) -> Reply:
    return Reply(status, body=json.dumps(document).encode())


@pytest.fixture(autouse=True)
def _providers(settings: Settings, http_target: HttpTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitHub, Google and one OpenID Connect provider, all of them the local server, with open sign-up."""
    cache.clear()
    open_sign_up(settings)
    settings.SOCIALACCOUNT_REQUESTS_TIMEOUT = 1
    key = {"client_id": "id", "secret": "secret"}
    oidc = {**key, "provider_id": "sso", "name": "SSO", "settings": {"server_url": http_target.url("/issuer")}}
    for name, app in (("github", key), ("google", key), ("openid_connect", oidc)):
        settings.SOCIALACCOUNT_PROVIDERS = {
            **settings.SOCIALACCOUNT_PROVIDERS,
            name: {**settings.SOCIALACCOUNT_PROVIDERS[name], "APPS": [app]},
        }
    token, profile = http_target.url("/token"), http_target.url("/profile")
    monkeypatch.setattr(GitHubOAuth2Adapter, "access_token_url", token)
    monkeypatch.setattr(GitHubOAuth2Adapter, "profile_url", profile)
    monkeypatch.setattr(GitHubOAuth2Adapter, "emails_url", http_target.url("/emails"))
    monkeypatch.setattr(GoogleOAuth2Adapter, "access_token_url", token)
    monkeypatch.setattr(GoogleOAuth2Adapter, "identity_url", profile)
    http_target.route("/issuer/.well-known/openid-configuration", as_json(configuration(http_target)))
    http_target.route("/token", as_json(TOKEN))


def configuration(target: HttpTarget) -> dict[str, Any]:
    return {
        "issuer": target.url(""),
        "authorization_endpoint": target.url("/authorize"),
        "token_endpoint": target.url("/token"),
        "userinfo_endpoint": target.url("/profile"),
        "jwks_uri": target.url("/jwks"),
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
    }


def start(client: Client, provider: str) -> str:
    """Presses the provider's button; returns the state that the provider is to send back."""
    response = client.post(f"/accounts/{PROVIDERS[provider]}/login/")
    assert response.status_code == 302, response.content.decode()[:500]
    return parse_qs(urlsplit(response.headers["Location"]).query)["state"][0]


def come_back(client: Client, provider: str, **query: str) -> Any:
    return client.get(f"/accounts/{PROVIDERS[provider]}/login/callback/", query)


def sign_in(target: HttpTarget, provider: str, profile: Any, emails: Any = None) -> tuple[Client, Any]:
    client = Client(raise_request_exception=False)
    target.route("/profile", as_json(profile))
    target.route("/emails", as_json(emails or [], 200 if emails else 404))
    return client, come_back(client, provider, code="code", state=start(client, provider))


def assert_page(response: Any) -> None:
    """A page of ours or a redirect inside the site."""
    if response.status_code == 302:
        assert response.headers["Location"].startswith("/")
    else:
        assert response.status_code in (200, 400, 401, 403, 404, 502), response.content.decode()[:500]
        assert "sign-in.css" in response.content.decode()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_that_confirms_the_address_signs_up_and_in(http_target: HttpTarget, provider: str) -> None:
    emails = [{"email": "ada@example.com", "primary": True, "verified": True}]
    client, response = sign_in(http_target, provider, PROFILES[provider], emails)
    assert response.headers["Location"] == "/"
    assert client.get("/").status_code == 200
    assert SocialAccount.objects.get().user.email == "ada@example.com"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("email", [None, "", "nonsense", 7, ["a@example.com"], "a" * 300 + "@example.com"])
def test_a_profile_without_a_usable_address_asks_for_one(http_target: HttpTarget, provider: str, email: Any) -> None:
    profile = {**PROFILES[provider], "email": email}
    if email is None:
        del profile["email"]
    client, response = sign_in(http_target, provider, profile)
    assert_page(response)
    if response.status_code == 302:
        page = client.get(response.headers["Location"])
        assert_page(page)
        for address in ("", "nonsense", "new@example.com"):
            assert_page(client.post(response.headers["Location"], {"email": address}))
    assert client.get("/").status_code == 302, "nobody vouched for the address"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_unverified_address_has_to_be_confirmed_first(
    http_target: HttpTarget, provider: str, mailoutbox: list[Any]
) -> None:
    profile = {**PROFILES[provider], "email_verified": False, "verified_email": False}
    client, response = sign_in(
        http_target, provider, profile, [{"email": "ada@example.com", "primary": True, "verified": False}]
    )
    assert_page(response)
    assert client.get("/").status_code == 302
    assert not EmailAddress.objects.filter(verified=True).exists()
    assert re.search(r"/accounts/confirm-email/\S+", mailoutbox[0].body)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_address_of_another_account_is_never_taken_over(http_target: HttpTarget, provider: str) -> None:
    User.objects.create_user("ada@example.com", "correct-horse-battery")
    client, response = sign_in(http_target, provider, PROFILES[provider])
    assert_page(response)
    assert client.get("/").status_code == 302


@pytest.mark.parametrize("provider", PROVIDERS)
def test_closed_sign_up_says_so(http_target: HttpTarget, provider: str, settings: Settings) -> None:
    from cronicorn.env import read_environment, variables

    settings.ENV = read_environment({**variables(), "SIGN_UP": "closed"})
    _, response = sign_in(http_target, provider, PROFILES[provider])
    assert_page(response)
    assert "closed" in response.content.decode().lower()
    assert not User.objects.exists()


def token_of(claims: Any) -> dict[str, Any]:
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return {**TOKEN, "id_token": f"e30.{part}.e30"}


GARBAGE: dict[str, Answer] = {
    "status 500": Reply(500, body=b"oops"),
    "status 400": as_json({"error": "invalid_grant"}, 400),
    "nothing": Reply(200),
    "HTML": Reply(200, body=b"<html>", headers={"Content-Type": "text/html"}),
    "no content type": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    "broken JSON": Reply(200, body=b'{"access_token": '),
    "deep JSON": Reply(200, body=b"[" * 100_000),
    "a list": as_json(["access_token"]),
    "a number": as_json(7),
    "null": as_json(None),
    "a string": as_json("access_token"),
    "a token that is a list": as_json({**TOKEN, "access_token": ["x"]}),
    "an unreadable life time": as_json({**TOKEN, "expires_in": "soon"}),
    "an endless life time": as_json({**TOKEN, "expires_in": 10**30}),
    "an identity of no parts": as_json({**TOKEN, "id_token": "x"}),
    "an identity that is a number": as_json({**TOKEN, "id_token": 7}),
    "an identity for somebody else": as_json(token_of({"iss": "x", "aud": "y"})),
    "a list of identities": as_json(token_of([1])),
    "NUL": as_json({**TOKEN, "access_token": "a\x00b"}),
    "line break": as_json({**TOKEN, "access_token": "a\r\nb"}),
    "bytes of no text": Reply(200, body=b"\xff\xfe\xfa"),
    "a redirect": Reply(302, headers={"Location": "http://127.0.0.1:1/"}),
    "an endless redirect": Reply(302, headers={"Location": "/token"}),
    "no HTTP": raw(b"garbage\r\n\r\n"),
    "a reset": reset(),
    "silence": stall,
}


@pytest.mark.parametrize(
    ("provider", "where"), [*product(PROVIDERS, ["/token", "/profile"]), ("github", "/emails")], ids=str
)
@pytest.mark.parametrize("kind", GARBAGE)
def test_whatever_a_provider_answers_the_person_gets_a_page(
    http_target: HttpTarget, provider: str, kind: str, where: str
) -> None:
    http_target.route("/profile", as_json(PROFILES[provider]))
    http_target.route("/emails", as_json([]))
    http_target.route(where, GARBAGE[kind])
    client = Client(raise_request_exception=False)
    assert_page(come_back(client, provider, code="code", state=start(client, provider)))


@pytest.mark.parametrize("kind", [*GARBAGE, "no endpoints", "endpoints that are lists", "endpoints of no scheme"])
def test_an_issuer_that_is_down_or_answers_garbage_is_a_page(http_target: HttpTarget, kind: str) -> None:
    odd = {
        "no endpoints": as_json({}),
        "endpoints that are lists": as_json(
            {**configuration(http_target), "token_endpoint": [], "userinfo_endpoint": 7}
        ),
        "endpoints of no scheme": as_json(
            {**configuration(http_target), "token_endpoint": "x", "userinfo_endpoint": "\x00"}
        ),
    }
    http_target.route("/issuer/.well-known/openid-configuration", {**GARBAGE, **odd}[kind])
    client = Client(raise_request_exception=False)
    response = client.post("/accounts/oidc/sso/login/")
    if response.status_code != 302 or not response.headers["Location"].startswith("http"):
        assert_page(response)
        return
    state = parse_qs(urlsplit(response.headers["Location"]).query)["state"][0]
    assert_page(come_back(client, "oidc", code="code", state=state))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_that_is_not_there_is_a_page(
    settings: Settings, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:1/token"
    monkeypatch.setattr(GitHubOAuth2Adapter, "access_token_url", nowhere)
    monkeypatch.setattr(GoogleOAuth2Adapter, "access_token_url", nowhere)
    client = Client(raise_request_exception=False)
    if provider == "oidc":
        app = {"client_id": "id", "secret": "s", "provider_id": "sso", "settings": {"server_url": nowhere}}
        settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}
        assert_page(client.post("/accounts/oidc/sso/login/"))
    else:
        assert_page(come_back(client, provider, code="code", state=start(client, provider)))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_person_who_declines_or_comes_back_oddly_gets_a_page(http_target: HttpTarget, provider: str) -> None:
    http_target.route("/profile", as_json(PROFILES[provider]))
    http_target.route("/emails", as_json([]))
    client = Client(raise_request_exception=False)
    state = start(client, provider)
    assert_page(come_back(client, provider, error="access_denied", state=state))
    for query in (
        {},
        {"code": "code"},
        {"code": "code", "state": "unknown"},
        {"code": "code", "state": "\x00"},
        {"error": "server_error", "state": start(client, provider)},
        {"code": "", "state": start(client, provider)},
    ):
        assert_page(come_back(client, provider, **query))
    state = start(client, provider)
    come_back(client, provider, code="code", state=state)
    assert_page(come_back(client, provider, code="code", state=state))
    assert_page(come_back(Client(), provider, code="code", state=start(client, provider)))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_that_is_not_set_up_is_a_404(settings: Settings, provider: str) -> None:
    settings.SOCIALACCOUNT_PROVIDERS = {}
    client = Client(raise_request_exception=False)
    for path in ("login/", "login/callback/", *(("login/token/",) if provider == "google" else ())):
        for method in (client.get, client.post):
            response = method(f"/accounts/{PROVIDERS[provider]}/{path}")
            assert response.status_code == 404
            assert "sign-in.css" in response.content.decode()
