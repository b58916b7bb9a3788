"""Sign-in: who gets in, who may make an account, and what guessing costs."""

import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from cronicorn.env import read_environment, variables
from tests.support.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db
LOGIN = "/accounts/login/"


@pytest.fixture(autouse=True)
def _fresh_limits() -> None:
    cache.clear()


def sign_in(client: Client, email: str, password: str = PASSWORD, **extra: Any) -> Any:
    return client.post(LOGIN, {"login": email, "password": password, **extra})


def test_a_person_made_by_an_operator_signs_in_with_a_password() -> None:
    user, client = make_user("ada@example.com"), Client()
    assert sign_in(client, "Ada@example.com").headers["Location"] == "/"
    assert client.get("/").status_code == 200
    assert EmailAddress.objects.get(user=user).verified


def test_an_address_that_was_not_verified_does_not_sign_in() -> None:
    user, client = make_user("ada@example.com"), Client()
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=False)
    sign_in(client, "ada@example.com")
    assert client.get("/").status_code == 302


@pytest.mark.parametrize(
    ("email", "password"), [("ada@example.com", "wrong"), ("nobody@example.com", PASSWORD), ("", "")]
)
def test_a_wrong_guess_is_refused_without_saying_what_was_wrong(email: str, password: str) -> None:
    make_user("ada@example.com")
    response = sign_in(Client(), email, password)
    assert response.status_code == 200
    assert "does not exist" not in response.content.decode()


def test_a_closed_account_does_not_sign_in() -> None:
    make_user("ada@example.com", is_active=False)
    client = Client()
    sign_in(client, "ada@example.com")
    assert client.get("/").status_code == 302


def test_guessing_is_limited() -> None:
    make_user("ada@example.com")
    client = Client()
    answers = [sign_in(client, "ada@example.com", f"guess {number}") for number in range(12)]
    said = [answer.status_code == 429 or "Too many" in answer.content.decode() for answer in answers]
    assert not said[0]
    assert said[-1]
    assert sign_in(client, "ada@example.com").status_code != 302


@pytest.mark.parametrize(
    "target", ["https://evil.example.net/", "//evil.example.net", "javascript:alert(1)", "/\\evil.example.net"]
)
def test_sign_in_leads_only_to_our_own_pages(target: str) -> None:
    make_user("ada@example.com")
    assert sign_in(Client(), "ada@example.com", next=target).headers["Location"] == "/"


def test_sign_in_leads_back_to_where_one_was_going() -> None:
    make_user("ada@example.com")
    assert sign_in(Client(), "ada@example.com", next="/jobs/run/").headers["Location"] == "/jobs/run/"


def test_nobody_signs_up_while_sign_up_is_closed() -> None:
    response = Client().post(
        "/accounts/signup/", {"email": "new@example.com", "password1": PASSWORD, "password2": PASSWORD}
    )
    assert not User.objects.exists()
    assert "closed" in response.content.decode().lower()
    assert "Sign up" not in Client().get(LOGIN).content.decode()


def open_sign_up(settings: Settings) -> None:
    settings.ENV = read_environment({**variables(), "SIGN_UP": "open"})


def test_who_signs_up_must_verify_the_address_first(settings: Settings, mailoutbox: list[Any]) -> None:
    open_sign_up(settings)
    client = Client()
    assert "Sign up" in client.get(LOGIN).content.decode()
    client.post("/accounts/signup/", {"email": "new@example.com", "password1": PASSWORD, "password2": PASSWORD})
    assert User.objects.filter(email="new@example.com", is_superuser=False).exists()
    assert client.get("/").status_code == 302
    link = re.search(r"http://\S+(/accounts/confirm-email/\S+/)", mailoutbox[0].body)
    assert link
    client.get(link[1])
    assert not EmailAddress.objects.get().verified, "looking at the link verified it"
    client.post(link[1])
    sign_in(client, "new@example.com")
    assert client.get("/").status_code == 200


def test_no_provider_is_offered_until_one_is_configured() -> None:
    assert "Continue with" not in Client().get(LOGIN).content.decode()


def test_a_configured_provider_has_a_button_that_posts_and_uses_pkce(settings: Settings) -> None:
    apps = {"APPS": [{"client_id": "id", "secret": "secret"}]}
    settings.SOCIALACCOUNT_PROVIDERS = {
        **settings.SOCIALACCOUNT_PROVIDERS,
        "github": {**settings.SOCIALACCOUNT_PROVIDERS["github"], **apps},
    }
    client = Client()
    page = client.get(LOGIN).content.decode()
    assert "Continue with GitHub" in page
    found = re.search(r'action="([^"]*/github/login/[^"]*)"', page)
    assert found
    assert client.get(found[1]).status_code == 200, "a link alone must not start a sign-in"
    location = client.post(found[1]).headers["Location"]
    assert location.startswith("https://github.com/login/oauth/authorize?")
    assert "code_challenge_method=S256" in location


def test_the_consoles_own_login_and_password_pages_lead_to_the_limited_ones() -> None:
    assert Client().get("/login/").headers["Location"].startswith(LOGIN)
    assert Client().post("/login/", {"username": "a", "password": "b"}).headers["Location"].startswith(LOGIN)
    client = Client()
    client.force_login(make_user(), backend=settings.AUTHENTICATION_BACKENDS[0])
    assert client.get("/password_change/").headers["Location"] == "/accounts/password/change/"


def test_signing_out_takes_a_post() -> None:
    client = Client()
    client.force_login(make_user(), backend=settings.AUTHENTICATION_BACKENDS[0])
    client.get("/accounts/logout/")
    assert client.get("/logout/").status_code == 405
    assert client.get("/").status_code == 200
    assert client.post("/logout/").headers["Location"] == LOGIN
    assert client.get("/").status_code == 302


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/password/change/",
        "/accounts/email/",
        "/accounts/social/connections/",
        "/accounts/logout/",
        "/accounts/reauthenticate/",
    ],
)
def test_account_pages_are_themed(path: str) -> None:
    client = Client()
    client.force_login(make_user(), backend=settings.AUTHENTICATION_BACKENDS[0])
    response = client.get(path, follow=True)
    assert response.status_code == 200
    assert "sign-in.css" in response.content.decode()
