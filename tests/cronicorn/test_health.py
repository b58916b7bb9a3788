"""GET /api/health with a database that answers and with one that does not."""

import socket
import threading
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client

from jobs.heartbeats import beat, farewell
from jobs.models import WorkerKind

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
    assert Client().get("/api/health").json()["workers"]["planner"] == {"live": 0, "lastSeenAt": None}


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
