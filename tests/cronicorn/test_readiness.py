"""Processes that start without a database, or with one that is not migrated, newer or foreign."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management.base import CommandError
from django.db import connection

from cronicorn.postgres import readiness
from cronicorn.postgres.readiness import ExitCode, Obstacle, await_database, find_obstacle
from cronicorn.runtime.stopping import Stop
from tests.chaos.arena import Postgres
from tests.support.processes import Command

STARTS = [
    ("manage.py", "run_scheduler"),
    ("manage.py", "run_ai_planner"),
    ("-m", "gunicorn", "--config", "python:cronicorn.web_server", "cronicorn.wsgi"),
    ("manage.py", "prepare"),
]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Postgres]:
    """A server without the project's tables."""
    with closing(Postgres(tmp_path / "postgres")) as server:
        yield server


@pytest.mark.django_db
def test_migrated_database_is_no_obstacle() -> None:
    assert find_obstacle() is None


@pytest.mark.django_db
def test_database_of_a_newer_version_is_no_obstacle_unless_it_is_marked() -> None:
    applied("9999_more_columns")
    assert find_obstacle() is None
    applied("9999_columns_gone_breaking")
    obstacle = find_obstacle()
    assert obstacle is not None
    assert obstacle.final
    assert "jobs.9999_columns_gone_breaking" in obstacle.message


def applied(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('jobs', %s, now())", [name])


@pytest.mark.django_db
def test_older_database_is_an_obstacle_that_names_the_remedy() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'jobs'")
    obstacle = find_obstacle()
    assert obstacle is not None
    assert obstacle.code == ExitCode.SCHEMA
    assert "manage.py prepare" in obstacle.message


def test_wait_ends_with_what_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([Obstacle("away", ExitCode.UNREACHABLE), Obstacle("old", ExitCode.SCHEMA), None])
    monkeypatch.setattr(readiness, "find_obstacle", lambda schema: next(found))
    said: list[str] = []
    await_database(say=said.append)
    assert [line.partition(" ")[0] for line in said] == ["away", "old"]


def test_wait_gives_up_with_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "find_obstacle", lambda schema: Obstacle("away", ExitCode.UNREACHABLE))
    with pytest.raises(CommandError, match="Given up after") as caught:
        await_database(patience_s=0.3)
    assert caught.value.returncode == 69


def test_wait_ends_at_once_when_a_stop_is_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "find_obstacle", lambda schema: Obstacle("away", ExitCode.UNREACHABLE))
    stop = Stop()
    stop.request()
    await_database(stop)


@pytest.mark.processes
@pytest.mark.timeout(240)
def test_processes_say_at_once_what_they_wait_for_and_leave_after_a_minute(
    closed_port: int, empty: Postgres, tmp_path: Path
) -> None:
    away = f"postgresql://cron:hunter2@127.0.0.1:{closed_port}/x"
    waiting = [(start, 69, "cannot be used", started(start, away, tmp_path)) for start in STARTS]
    waiting += [(start, 78, "manage.py prepare", started(start, empty.url, tmp_path)) for start in STARTS[:3]]
    for start, code, words, (process, began) in waiting:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == code, (start, output)
        assert time.monotonic() - began > 55
        assert output.count(words) >= 3, (start, output)
        assert "Given up after" in output
        assert "Traceback" not in output
        assert "hunter2" not in output


@pytest.mark.processes
@pytest.mark.django_db
@pytest.mark.timeout(200)
def test_worker_that_waits_begins_when_the_database_is_migrated(empty: Postgres) -> None:
    with Command("run_scheduler", DATABASE_URL=empty.url) as scheduler:
        scheduler.wait_for_line("database_awaited")
        with Command("migrate", "--verbosity", "0", DATABASE_URL=empty.url) as migrate:
            assert migrate.wait(60) == 0
        scheduler.wait_for_line("worker_started")


def started(start: tuple[str, ...], url: str, folder: Path) -> tuple[subprocess.Popen[str], float]:
    environment = {**os.environ, "DATABASE_URL": url, "DATA_DIR": str(folder), "PORT": "18999"}
    process = subprocess.Popen(
        [sys.executable, *start],
        env={**environment, "DJANGO_SETTINGS_MODULE": "cronicorn.settings", "LOG_LEVEL": "INFO"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process, time.monotonic()
