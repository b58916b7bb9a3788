"""The limits of a session: set after connecting where the session is ours, by role where a pooler lends it.

A pooler hands each transaction, or each client, a session that outlives it. What is set there would be missing in other
sessions and would stay for other clients, so there the role brings the limits: see `role_statements`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from cronicorn.logging import Event, log_event

logger = logging.getLogger(__name__)

# A stuck statement or an open transaction must not hold up claims.
TIMEOUTS = {"statement_timeout": "30s", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "60s"}
# The server gives up a client that vanished, and with it the rows that it had locked. Without effect on a unix socket.
SESSION_BOUNDS: Mapping[str, str] = {
    **TIMEOUTS,
    "tcp_keepalives_idle": "5s",
    "tcp_keepalives_interval": "2s",
    "tcp_keepalives_count": "5",
    "tcp_user_timeout": "10s",
}
# A migration may take long, but must not wait for long: everybody queues up behind a lock that it waits for.
MIGRATION_BOUNDS: Mapping[str, str] = {
    **SESSION_BOUNDS,
    "statement_timeout": "0",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "0",
}


@dataclass(frozen=True, slots=True)
class Session:
    """`pooled`: a pooler stands between. `missing`: which of the TIMEOUTS do not hold, with their present values."""

    pooled: bool = False
    missing: tuple[str, ...] = ()


def begin_session(connection: psycopg.Connection[Any], bounds: Mapping[str, str] = SESSION_BOUNDS) -> Session:
    """Sets the bounds of a new session that is our own, and finds which hold in one that a pooler lends.

    One round trip. A pooler makes up the process id that it tells its clients; PostgreSQL tells the real one.
    """
    with psycopg.Cursor(connection) as cursor:
        cursor.execute(
            """
            SELECT pg_backend_pid() <> %s, name,
                   CASE WHEN pg_backend_pid() = %s THEN set_config(name, wanted, false) ELSE current_setting(name) END,
                   wanted
            FROM UNNEST(%s::text[], %s::text[]) AS bound(name, wanted)
            """,
            [connection.info.backend_pid] * 2 + [list(bounds), list(bounds.values())],
        )
        rows = cursor.fetchall()
        if not any(pooled for pooled, *_ in rows):
            return Session()
        cursor.execute(
            """
            SELECT name || ' = ' || current_setting(name) FROM UNNEST(%s::text[], %s::text[]) AS bound(name, wanted)
            WHERE current_setting(name)::interval NOT BETWEEN interval '1 ms' AND wanted::interval
            """,
            [list(TIMEOUTS), list(TIMEOUTS.values())],
        )
        return Session(pooled=True, missing=tuple(row[0] for row in cursor.fetchall()))


class _Said:
    """Whether this process has said already that limits are missing."""

    missing: tuple[str, ...] = ()


def say_missing(session: Session, *, user: str, database: str) -> None:
    """Logs once in a process that limits do not hold, with the remedy."""
    if session.missing and session.missing != _Said.missing:
        remedy = "run manage.py prepare as this role, or: " + "; ".join(role_statements(user, database))
        log_event(logger, Event.BOUNDS_MISSING, logging.ERROR, found=list(session.missing), remedy=remedy)
    _Said.missing = session.missing


def role_statements(user: str, database: str) -> list[str]:
    """The SQL that gives a role the bounds in each session that begins later, whoever opens it."""
    return [
        sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}")
        .format(sql.Identifier(user), sql.Identifier(database), sql.Identifier(name), sql.Literal(value))
        .as_string(None)
        for name, value in {**SESSION_BOUNDS, "timezone": "UTC"}.items()
    ]


def give_role_bounds(connection: psycopg.Connection[Any]) -> str | None:
    """Gives the connected role the bounds in this database, where it lacks some; returns the fault, None without one.

    A pooler's session that began before has not got them: it is ended, so that the next one has.
    """
    with psycopg.Cursor(connection) as cursor:
        cursor.execute(
            """
            SELECT current_user::text, current_database()::text, COALESCE(
                (SELECT setconfig FROM pg_db_role_setting s
                 WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = current_user)
                   AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())), '{}')
            """
        )
        user, database, configured = cursor.fetchone() or ("", "", [])
        wanted = {f"{name}={value}" for name, value in {**SESSION_BOUNDS, "TimeZone": "UTC"}.items()}
        if wanted <= {entry.replace("timezone=", "TimeZone=") for entry in configured}:
            return None
        try:
            for statement in role_statements(user, database):
                cursor.execute(statement.encode())
        except psycopg.Error as error:
            return f"The role {user} could not be given its time limits: {str(error).strip()}"
    return None
