"""The database of the benchmarks: made beside the configured one, and dropped at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from django.core.management import call_command
from django.db import connection
from psycopg import sql

from cronicorn.postgres.configuration import database_from_url

NAME = "cronicorn_bench"


class BenchError(Exception):
    """The benchmarks cannot run here; the message says why and what to do."""


def endpoints_in_use() -> int:
    """How many endpoints the configured database schedules: what a benchmark beside it would disturb."""
    with connection.cursor() as cursor:
        if "job_endpoints" not in connection.introspection.table_names(cursor):
            return 0
        cursor.execute("SELECT count(*) FROM job_endpoints WHERE next_run_at IS NOT NULL")
        return int(cursor.fetchone()[0])


@contextmanager
def bench_database() -> Iterator[str]:
    """Yields the URL of a fresh, migrated database, to which Django's own connection leads meanwhile.

    Raises BenchError when another run uses it.
    """
    params = connection.get_connection_params()
    _execute(params, "DROP DATABASE IF EXISTS {}")
    _execute(params, "CREATE DATABASE {}")
    given = connection.settings_dict
    url = _url(params)
    connection.close()
    try:
        own = database_from_url(url, data_dir=given.get("EMBEDDED_DATA_DIR", ""), durable=True)
        connection.settings_dict = {**given, **own, "EMBEDDED_DATA_DIR": None}
        call_command("migrate", verbosity=0, interactive=False)
        yield url
    finally:
        connection.close()
        connection.settings_dict = given
        _execute(params, "DROP DATABASE IF EXISTS {} WITH (FORCE)")


def empty() -> None:
    """Takes all jobs, endpoints, runs and heartbeats out of the benchmarks' database."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE jobs, job_endpoints, runs, run_responses, worker_heartbeats CASCADE")


def _execute(params: dict[str, Any], statement: str) -> None:
    wanted = {key: value for key, value in params.items() if key not in ("cursor_factory", "context", "options")}
    try:
        with psycopg.connect(**wanted, autocommit=True) as beside:
            beside.execute(sql.SQL(statement).format(sql.Identifier(NAME)))
    except psycopg.errors.ObjectInUse as error:
        raise BenchError(f"The database {NAME} is in use: another benchmark runs. Wait for its end.") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise BenchError(f"The benchmarks need a role that may create the database {NAME}.") from error


def _url(params: dict[str, Any]) -> str:
    rest = {key: str(value) for key, value in params.items() if key.startswith(("ssl", "target_"))}
    query = urlencode({"host": params.get("host") or "", **rest})
    name = quote(params.get("user") or "", safe="")
    secret = f":{quote(params['password'], safe='')}" if params.get("password") else ""
    return f"postgresql://{name}{secret}@:{params.get('port') or 5432}/{NAME}?{query}"
