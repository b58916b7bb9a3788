"""GET /api/health with a database that answers and with one that does not."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client

from jobs.heartbeats import beat, farewell
from jobs.models import Endpoint, WorkerKind
from tests.support.factories import make_endpoint
from tests.support.http_target import HttpTarget, Reply
from tests.support.processes import Command, eventually

pytestmark = pytest.mark.django_db(transaction=True)


def test_health_tells_which_workers_live() -> None:
    beat(worker="scheduler-secret-host-1", kind=WorkerKind.SCHEDULER, facts={"token": "x"})
    beat(worker="scheduler-secret-host-2", kind=WorkerKind.SCHEDULER, facts={})
    farewell(worker="scheduler-secret-host-2")
    with connection.cursor() as cursor:
        beat(worker="planner-1", kind=WorkerKind.PLANNER, facts={})
        cursor.execute("UPDATE worker_heartbeats SET seen_at = now() - interval '2 minutes' WHERE kind = 'planner'")
    response = Client().get("/api/health")
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    body = response.json()
    assert (body["status"], body["database"]) == ("ok", "ok")
    assert body["workers"]["scheduler"]["live"] == 1
    assert body["workers"]["planner"]["live"] == 0
    assert body["workers"]["planner"]["lastSeenAt"] is not None
    assert "secret" not in response.content.decode()


def test_health_is_200_before_any_worker_has_started() -> None:
    assert Client().get("/api/health").json()["workers"]["planner"]["lastSeenAt"] is None


def test_health_is_503_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = {"HOST": "127.0.0.1", "PORT": closed.getsockname()[1], "EMBEDDED_DATA_DIR": None}
    for name, value in away.items():
        monkeypatch.setitem(connections.settings["default"], name, value)
    answers: list[Any] = []

    def ask() -> None:  # in a thread of its own, which opens a connection of its own
        answers.append(Client(raise_request_exception=False).get("/api/health"))
        connections.close_all()

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(20)
    (response,) = answers
    assert response.status_code == 503
    assert response.json()["database"] == "unavailable"
    assert response.json()["errors"] == [
        {"code": "database_unavailable", "field": None, "message": "The database does not answer."}
    ]


def strict() -> Any:
    return Client().get("/api/health?strict")


def test_strict_health_is_503_without_a_live_scheduler() -> None:
    response = strict()
    assert response.status_code == 503
    assert response.json()["errors"][0]["code"] == "no_progress"
    assert Client().get("/api/health").json()["status"] == "degraded"
    beat(worker="scheduler-1", kind=WorkerKind.SCHEDULER, facts={})
    assert strict().status_code == 200
    assert strict().json()["status"] == "ok"


@pytest.mark.parametrize("flag", ["strict", "strict=", "strict=true", "strict=1"])
def test_strict_is_a_flag(flag: str) -> None:
    assert Client().get(f"/api/health?{flag}").status_code == 503


def test_health_tells_how_late_the_oldest_slot_is() -> None:
    beat(worker="scheduler-1", kind=WorkerKind.SCHEDULER, facts={})
    endpoint = make_endpoint(baseline_interval_ms=3_600_000)
    assert strict().json()["oldestOverdueSeconds"] == 0
    move(endpoint, "next_run_at = now() - interval '50 s'")
    assert 49 < strict().json()["oldestOverdueSeconds"] < 59
    assert strict().status_code == 200
    move(endpoint, "next_run_at = now() - interval '70 s', lane = 'owner:somebody'")
    assert strict().status_code == 503
    move(endpoint, "lease_owner = 'w1', lease_until = now() + interval '1 min'")
    assert strict().json()["oldestOverdueSeconds"] == 0
    # A worker that was lost, and nobody to take its endpoints back.
    move(endpoint, "lease_until = now() - interval '70 s'")
    assert strict().status_code == 503


def move(endpoint: Endpoint, assignments: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE job_endpoints SET {assignments} WHERE id = %s", [endpoint.pk])  # noqa: S608


def test_strict_health_is_503_when_the_work_of_every_scheduler_stands_still() -> None:
    facts = {"problem": "No endpoint could be claimed for 30 s.", "claimed_ago_s": 30.0, "settled_ago_s": None}
    beat(worker="scheduler-1", kind=WorkerKind.SCHEDULER, facts=facts)
    found = strict()
    assert found.status_code == 503
    assert found.json()["problems"] == ["No endpoint could be claimed for 30 s."]
    assert found.json()["workers"]["scheduler"]["lastClaimAt"] is not None
    beat(worker="scheduler-2", kind=WorkerKind.SCHEDULER, facts={"problem": None})
    assert strict().status_code == 200


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_total_stop_is_seen_by_every_check_and_its_end_too(http_target: HttpTarget) -> None:
    make_endpoint(url=http_target.route("/ok", Reply(200)), baseline_interval_ms=1000)
    with Command("run_scheduler", "--poll-interval", "1") as scheduler:
        scheduler.wait_for_line("worker_started")
        http_target.wait_for(1, 30)
        eventually(lambda: strict().status_code == 200)
        assert checked("--live") == checked("--ready") == 0
        with inserts_refused():
            eventually(lambda: strict().status_code == 503, 60)
            eventually(lambda: checked("--ready") == 1, 20)
            assert checked("--live") == 0
        eventually(lambda: strict().status_code == 200, 30)
        eventually(lambda: checked("--ready") == 0, 20)


def checked(question: str) -> int:
    with Command("worker_health", "scheduler", question) as command:
        return command.wait(30)


@contextmanager
def inserts_refused() -> Iterator[None]:
    """As after REVOKE INSERT ON runs, which a superuser such as the tests' would not feel."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'permission denied for table runs' USING ERRCODE = '42501'; END $$"
        )
        cursor.execute("CREATE TRIGGER refuse BEFORE INSERT ON runs FOR EACH STATEMENT EXECUTE FUNCTION refuse()")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse CASCADE")
