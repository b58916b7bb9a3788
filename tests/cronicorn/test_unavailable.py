"""API and console while the database can be read but not written, or refuses for another reason of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test import Client

from accounts.models import User
from jobs.models import Job
from tests.support.api import Api
from tests.support.factories import make_job, make_operator

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def read_only() -> Iterator[None]:
    """As on a standby, or after an operator's word."""
    database = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on')
    connection.close()
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f'ALTER DATABASE "{database}" RESET default_transaction_read_only')
        connection.close()


@contextmanager
def refusing(state: str) -> Iterator[None]:
    """Jobs cannot be written, for a reason with this SQLSTATE."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION 'refused by a test' USING ERRCODE = '{state}'; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON jobs FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse CASCADE")


def signed_in(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_read_only_database_serves_what_is_stored_and_answers_503_to_changes() -> None:
    api = Api(make_operator())
    make_job(User.objects.get(), name="kept")
    with read_only():
        assert [job["name"] for job in api.get("/api/jobs")["jobs"]] == ["kept"]
        status, body = api.send("POST", "/api/jobs", {"name": "new"})
    assert status == 503
    assert body["errors"][0]["code"] == "database_unavailable"
    assert "read-only" in body["errors"][0]["message"]
    assert api.post("/api/jobs", {"name": "new"}, expect=201)["name"] == "new"


def test_console_on_a_read_only_database_shows_pages_and_answers_503_to_changes() -> None:
    client = signed_in(make_operator())
    with read_only():
        assert client.get("/jobs/job/").status_code == 200
        response = client.post("/jobs/job/add/", {"name": "new", "description": ""})
        assert response.status_code == 503
        assert "read-only" in response.content.decode()
        sign_in = Client(raise_request_exception=False).post(
            "/accounts/login/", {"login": "x@example.com", "password": "y" * 12}
        )
        assert sign_in.status_code in (200, 503)
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("53100", "disk"),
        ("53200", "does not answer in time"),
        ("53300", "no free connection"),
        ("57014", "does not answer in time"),
        ("57P01", "does not answer in time"),
        ("55P03", "does not answer in time"),
        ("40P01", "does not answer in time"),
        ("42501", "lacks a right"),
        ("42P01", "manage.py prepare"),
        ("42703", "manage.py prepare"),
        ("58030", "does not answer in time"),
        ("XX001", "does not answer in time"),
    ],
)
def test_refusal_of_the_database_is_503_with_its_reason_and_never_500(state: str, words: str) -> None:
    operator = make_operator()
    api, console = Api(operator), signed_in(operator)
    with refusing(state):
        status, body = api.send("POST", "/api/jobs", {"name": "new"})
        assert (status, body["errors"][0]["code"]) == (503, "database_unavailable")
        assert words in body["errors"][0]["message"]
        assert "refused by a test" not in str(body)
        response = console.post("/jobs/job/add/", {"name": "new", "description": ""})
        assert response.status_code == 503
        assert words in response.content.decode()


def test_statement_that_we_wrote_wrongly_is_still_our_fault() -> None:
    api = Api(make_operator())
    with refusing("42601"):
        status, body = api.send("POST", "/api/jobs", {"name": "new"})
    assert (status, body["errors"][0]["code"]) == (500, "internal_error")
