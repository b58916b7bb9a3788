"""The whole service behind PgBouncer, in both pooling modes."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from cronicorn.postgres.configuration import connection_parameters
from cronicorn.postgres.session import TIMEOUTS, begin_session
from cronicorn.probe import fault_at
from tests.chaos.arena import DATABASE, Postgres
from tests.support.http_target import HttpTarget, Reply
from tests.support.pgbouncer import PROGRAM, PgBouncer
from tests.support.processes import Command, eventually

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.processes,
    pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed"),
    pytest.mark.timeout(480),
]


WEB = {"DJANGO_SETTINGS_MODULE": "cronicorn.settings", "PORT": "18997", "WEB_WORKERS": "1"}


class Server:
    """A server of the test's own; `cron` is a role without rights beside those on its database."""

    def __init__(self, postgres: Postgres) -> None:
        self.address = postgres.address
        with self.connect("postgres") as admin:
            admin.execute("CREATE ROLE cron LOGIN")
            admin.execute(f"ALTER DATABASE {DATABASE} OWNER TO cron")

    def connect(self, user: str) -> psycopg.Connection:
        return psycopg.connect(host=self.address.host, user=user, dbname=DATABASE, autocommit=True)

    @property
    def direct_url(self) -> str:
        return f"postgresql://cron@:{self.address.port}/{DATABASE}?host={quote(self.address.host)}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with closing(Postgres(tmp_path / "postgres")) as postgres:
        yield Server(postgres)


def endpoint_made(url: str, database: str) -> None:
    make = f"from tests.support.factories import make_endpoint; make_endpoint(url={url!r}, baseline_interval_ms=1000)"
    with Command("shell", "-c", make, DATABASE_URL=database) as made:
        assert made.wait(60) == 0, made.lines


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_service_works_behind_pgbouncer_and_its_time_limits_hold(
    server: Server, tmp_path: Path, http_target: HttpTarget, mode: str
) -> None:
    with PgBouncer(tmp_path, socket_folder=server.address.host, database=DATABASE, user="cron", mode=mode) as pool:
        with Command("prepare", DATABASE_URL=pool.url, DATA_DIR=str(tmp_path)) as prepare:
            assert prepare.wait(120) == 0, prepare.lines
        with psycopg.connect(**connection_parameters(pool.url), autocommit=True) as connection:
            session = begin_session(connection)
            assert (session.pooled, session.missing) == (True, ())
            found = {name: connection.execute(f"SHOW {name}").fetchone() for name in TIMEOUTS}
        assert found == {"statement_timeout": ("30s",), "lock_timeout": ("10s",)} | {
            "idle_in_transaction_session_timeout": ("1min",)
        }
        endpoint_made(http_target.route("/ok", Reply(200)), pool.url)
        with Command("run_scheduler", DATABASE_URL=pool.url) as scheduler:
            scheduler.wait_for_line("wake_ups_off")
            http_target.wait_for(2, 20)
            with Command("run_ai_planner", "--once", DATABASE_URL=pool.url) as planner:
                assert planner.wait(60) == 0, planner.lines
            with server.connect("postgres") as admin:

                def settled() -> bool:
                    row = admin.execute("SELECT count(*) FROM runs WHERE status = 'success'").fetchone()
                    return row is not None and row[0] >= 2

                eventually(settled)
            with subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--config", "python:cronicorn.web_server", "cronicorn.wsgi"],
                env={**os.environ, **WEB, "DATABASE_URL": pool.url, "DATA_DIR": str(tmp_path)},
                stderr=subprocess.DEVNULL,
            ) as web:
                try:
                    eventually(lambda: fault_at(f"http://127.0.0.1:{WEB['PORT']}/api/health?strict") is None, 60)
                    with urllib.request.urlopen(f"http://127.0.0.1:{WEB['PORT']}/api/health") as answer:
                        assert json.load(answer)["databaseLimits"] == "ok"
                finally:
                    web.terminate()
            scheduler.send(signal.SIGTERM)
            assert scheduler.wait(40) == 0
            assert not [line for line in scheduler.lines if "bounds_missing" in line or "_failed" in line]


def test_process_says_which_time_limits_a_pooler_does_not_bring_and_what_to_do(server: Server, tmp_path: Path) -> None:
    with Command("migrate", "--verbosity", "0", DATABASE_URL=server.direct_url) as migrate:
        assert migrate.wait(120) == 0, migrate.lines
    with server.connect("postgres") as admin:
        admin.execute(f"ALTER ROLE cron IN DATABASE {DATABASE} RESET ALL")
    with (
        PgBouncer(
            tmp_path, socket_folder=server.address.host, database=DATABASE, user="cron", mode="transaction"
        ) as pool,
        Command("run_scheduler", DATABASE_URL=pool.url) as scheduler,
    ):
        line = scheduler.wait_for_line("bounds_missing")
        assert "statement_timeout = 0" in line
        assert "ALTER ROLE" in line


def test_own_connection_gets_its_limits_without_any_of_the_role(server: Server) -> None:
    with psycopg.connect(**connection_parameters(server.direct_url), autocommit=True) as connection:
        assert not begin_session(connection).pooled
        assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)


def test_wake_ups_go_past_the_pooler_where_the_way_is_named(server: Server, tmp_path: Path) -> None:
    with Command("migrate", "--verbosity", "0", DATABASE_URL=server.direct_url) as migrate:
        assert migrate.wait(120) == 0, migrate.lines
    with (
        PgBouncer(
            tmp_path, socket_folder=server.address.host, database=DATABASE, user="cron", mode="transaction"
        ) as pool,
        Command("run_scheduler", DATABASE_URL=pool.url, DATABASE_URL_DIRECT=server.direct_url) as scheduler,
        server.connect("postgres") as admin,
    ):
        scheduler.wait_for_line("worker_started")

        def listens() -> bool:
            row = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'").fetchone()
            return row is not None and row[0] == 1

        eventually(listens)
