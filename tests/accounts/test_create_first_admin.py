"""The first operator."""

import re
from io import StringIO

import pytest
from allauth.account.models import EmailAddress
from django.core.management import call_command
from django.test import Client

from accounts.keys import parse_key
from accounts.models import ApiKey, Scope, User
from tests.support.factories import make_operator, make_user

pytestmark = pytest.mark.django_db


def create(*arguments: str) -> str:
    out = StringIO()
    call_command("create_first_admin", *arguments, stdout=out)
    return out.getvalue()


def test_first_operator_gets_a_password_and_a_key_that_work() -> None:
    make_user()

    said = re.fullmatch(r"Admin: (\S+)\nPassword: (\S+)\nAPI key: (\S+)\n", create())

    assert said
    user = User.objects.get(email="admin@example.com", is_superuser=True, is_active=True)
    assert said[1] == user.email
    assert user.check_password(said[2])
    parts = parse_key(said[3])
    assert parts
    key = ApiKey.objects.get(owner=user)
    assert (key.prefix, key.secret_hash) == (parts.prefix, parts.secret_hash)
    assert set(key.scopes) == {Scope.READ, Scope.WRITE}


def test_password_opens_the_sign_in_without_a_mail() -> None:
    password = create("--email", "Ops@example.com").split("Password: ")[1].split("\n")[0]
    assert EmailAddress.objects.filter(email="ops@example.com", verified=True, primary=True).exists()

    client = Client()
    client.post("/accounts/login/", {"login": "ops@example.com", "password": password})

    assert "_auth_user_id" in client.session


def test_second_time_changes_nothing_and_says_how_to_reset() -> None:
    create()
    before = User.objects.values_list("password", flat=True).get()

    said = create()

    assert (User.objects.values_list("password", flat=True).get(), ApiKey.objects.count()) == (before, 1)
    assert "Admin: admin@example.com" in said
    assert "manage.py changepassword admin@example.com" in said
    assert not re.search("^(Password|API key):", said, re.MULTILINE)


def test_any_operator_counts_as_the_first() -> None:
    operator = make_operator("boss@example.com")

    assert f"Admin: {operator.email}" in create()
    assert not User.objects.filter(email="admin@example.com").exists()
