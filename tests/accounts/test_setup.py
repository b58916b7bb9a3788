"""The link of the first operator: sets the password once, within an hour, and leaves no secret behind."""

import re
import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from pytest_django import Settings

from accounts.models import ApiKey, SetupLink, User
from accounts.setup import LINK_LIFETIME, create_operator, issue_link, owner_of_link, use_link
from cronicorn.env import read_environment, variables
from tests.support.factories import make_operator

pytestmark = pytest.mark.django_db
PASSWORD = "correct-horse-battery"
CHOICE = {"new_password1": PASSWORD, "new_password2": PASSWORD}


def prepared(*arguments: str) -> str:
    out = StringIO()
    call_command("prepare", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def link_in(text: str) -> str:
    found = re.search(r"^Set the password .*: (http://127\.0\.0\.1:8000)(/accounts/setup/\S+/)$", text, re.MULTILINE)
    assert found, text
    return found[2]


def test_prepare_prints_a_link_and_neither_password_nor_key() -> None:
    text = prepared()
    path = link_in(text)
    assert not re.search("^(Password|API key):", text, re.MULTILINE)
    assert "Admin: admin@example.com" in text
    assert not User.objects.get().has_usable_password()
    assert not ApiKey.objects.exists()
    token = path.split("/")[-2]
    assert len(token) >= 40
    with connection.cursor() as cursor:
        cursor.execute("SELECT s::text || u::text FROM setup_links s JOIN users u ON u.id = s.user_id")
        assert token not in cursor.fetchone()[0], "only a hash is stored"


def test_the_link_leads_to_site_url(settings: Settings) -> None:
    settings.ENV = read_environment({**variables(), "SITE_URL": "https://cron.example.com"})
    assert ": https://cron.example.com/accounts/setup/" in prepared()


def test_the_link_sets_the_password_and_shows_a_key_that_works_once() -> None:
    path, client = link_in(prepared()), Client()
    for _ in range(2):
        page = client.get(path)
        assert page.status_code == 200, "looking uses nothing up"
    assert "no-store" in page.headers["Cache-Control"]
    assert page.headers["Referrer-Policy"] == "same-origin"
    done = client.post(path, CHOICE)
    found = re.search(r"cc_[\w-]+", done.content.decode())
    assert found
    assert "no-store" in done.headers["Cache-Control"]
    assert Client().get("/api/jobs", headers={"x-api-key": found[0]}).status_code == 200
    answer = client.post("/accounts/login/", {"login": "admin@example.com", "password": PASSWORD})
    assert answer.headers["Location"] == "/", "the address counts as verified"

    for replay in (client.get(path), client.post(path, CHOICE), Client().post(path, CHOICE)):
        assert replay.status_code == 410
        assert "This link is over" in replay.content.decode()
        assert "cc_" not in replay.content.decode()
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"new_password1": "short", "new_password2": "short"},
        {"new_password1": "admin@example.com", "new_password2": "admin@example.com"},
        {"new_password1": PASSWORD, "new_password2": "other"},
        {"new_password1": "password123", "new_password2": "password123"},
    ],
)
def test_a_bad_password_is_refused_and_the_link_stays(choice: dict[str, str]) -> None:
    path, client = link_in(prepared()), Client()
    response = client.post(path, choice)
    assert response.status_code == 400
    assert "errorlist" in response.content.decode()
    assert client.post(path, CHOICE).status_code == 200


def test_the_link_ends_after_an_hour() -> None:
    path = link_in(prepared())
    assert timedelta(hours=1) == LINK_LIFETIME
    SetupLink.objects.update(expires_at=Now() + timedelta(seconds=1))
    assert Client().get(path).status_code == 200
    SetupLink.objects.update(expires_at=Now())
    assert Client().get(path).status_code == 410
    assert Client().post(path, CHOICE).status_code == 410
    assert not User.objects.get().has_usable_password()
    assert Client().get(link_in(prepared())).status_code == 200, "prepare prints a new one"


def test_a_second_prepare_prints_a_new_link_and_the_old_one_is_void() -> None:
    old, new = link_in(prepared()), link_in(prepared())
    assert Client().get(old).status_code == 410
    assert Client().post(new, CHOICE).status_code == 200
    text = prepared()
    assert "/accounts/setup/" not in text
    assert "changepassword admin@example.com" in text
    assert User.objects.count() == 1


def test_a_password_set_otherwise_ends_the_link() -> None:
    path = link_in(prepared())
    user = User.objects.get()
    user.set_password(PASSWORD)
    user.save()
    assert Client().get(path).status_code == 410
    assert Client().post(path, {"new_password1": "taken-" + PASSWORD, "new_password2": "taken-" + PASSWORD})
    assert User.objects.get().check_password(PASSWORD)
    assert "/accounts/setup/" not in prepared()


def test_a_deactivated_operator_s_link_opens_nothing() -> None:
    path = link_in(prepared())
    User.objects.update(is_active=False)
    assert Client().get(path).status_code == 410


@pytest.mark.parametrize("token", ["x", "%00", "%ff", "a" * 5000, "..", "-"])
def test_an_unknown_link_is_over(token: str) -> None:
    prepared()
    assert Client().get(f"/accounts/setup/{token}/").status_code == 410
    assert Client().post(f"/accounts/setup/{token}/", CHOICE).status_code == 410


def test_operators_without_a_link_get_none() -> None:
    operator = make_operator("boss@example.com")
    operator.set_unusable_password()
    operator.save()
    assert "/accounts/setup/" not in prepared(), "they sign in through a provider"


def test_scripts_up_still_shows_password_and_key_also_after_an_unused_link() -> None:
    path = link_in(prepared())
    said = re.fullmatch(r"Admin: (\S+)\nPassword: (\S+)\nAPI key: (\S+)\n", prepared("--credentials"))
    assert said
    assert User.objects.get().check_password(said[2])
    assert Client().get("/api/jobs", headers={"x-api-key": said[3]}).status_code == 200
    assert Client().get(path).status_code == 410
    assert "Password:" not in prepared("--credentials")


def test_a_form_of_another_site_sets_no_password() -> None:
    assert Client(enforce_csrf_checks=True).post(link_in(prepared()), CHOICE).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_of_two_uses_at_once_one_wins() -> None:
    token = issue_link(create_operator("admin@example.com"))
    start, keys = threading.Barrier(4), []

    def use(number: int) -> None:
        start.wait(10)
        keys.append(use_link(token, f"{PASSWORD}-{number}"))
        connection.close()

    threads: list[Any] = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [key is None for key in keys].count(False) == 1
    assert ApiKey.objects.count() == 1
    assert owner_of_link(token) is None
