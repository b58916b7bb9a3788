"""`manage.py migrate`: Django's, on a connection that waits for no lock longer than 2 s and tries again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import Error, connections

from cronicorn.postgres.base import DatabaseWrapper
from cronicorn.postgres.configuration import database_from_url
from cronicorn.postgres.readiness import await_database
from cronicorn.postgres.session import MIGRATION_BOUNDS, SESSION_BOUNDS, give_role_bounds
from cronicorn.postgres.sqlstate import sqlstate_of, unavailable_reason
from cronicorn.runtime.clock import monotonic_ns
from cronicorn.runtime.stopping import Stop

# Lock not available, deadlock: the transaction was rolled back, and the same migration may begin again.
AGAIN = ("55P03", "40P01")
PATIENCE_S = 600.0
# Between two tries the workers have the tables for themselves.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0
_ADDRESS = ("NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
_BLOCKERS = """
SELECT a.pid, COALESCE(NULLIF(a.application_name, ''), 'a client without a name'),
       extract(epoch FROM clock_timestamp() - a.xact_start)::integer
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start < clock_timestamp() - interval '1 s'
  AND EXISTS (SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
              WHERE l.pid = a.pid AND c.relkind IN ('r', 'p') AND c.relnamespace <> 'pg_catalog'::regnamespace)
ORDER BY a.xact_start LIMIT 3
"""


class Command(migrate.Command):
    """Waits for the database, gives the role its time limits, migrates. Safe to repeat and beside running workers."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Declares how long to try."""
        super().add_arguments(parser)
        parser.add_argument(
            "--lock-patience",
            type=float,
            default=PATIENCE_S,
            help="how long to try again while other sessions hold locks, in seconds",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError with what an operator has to do."""
        connection = connections[options["database"]]
        assert isinstance(connection, DatabaseWrapper)
        await_database(schema=False, say=self._note)
        with _apart(connection):
            if not connection.settings_dict.get("EMBEDDED_DATA_DIR") and not connection.in_atomic_block:
                self._give_role_bounds(connection)
            self._migrate(connection, args, options)

    def _migrate(self, connection: DatabaseWrapper, args: Any, options: dict[str, Any]) -> None:
        began_ns, pause_s = monotonic_ns(), FIRST_PAUSE_S
        while True:
            try:
                super().handle(*args, **options)
            except Error as error:
                state = sqlstate_of(error)
                if state == "42501":
                    raise CommandError(_rights(connection, error)) from error
                waited_s = (monotonic_ns() - began_ns) / 1e9
                if state not in AGAIN and (reason := unavailable_reason(error)) is not None:
                    raise CommandError(f"{reason} {error}".strip()) from error
                if state not in AGAIN or connection.in_atomic_block:
                    raise
                blockers = _blockers(connection)
                if waited_s + pause_s > options["lock_patience"]:
                    raise CommandError(
                        f"The tables were not free within {waited_s:.0f} s. {blockers} End those sessions, or try "
                        "again later; what was migrated so far is kept."
                    ) from error
                self._note(f"{blockers} Nobody is kept waiting; trying again in {pause_s:.0f} s.")
                Stop().wait(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                return

    def _give_role_bounds(self, connection: DatabaseWrapper) -> None:
        connection.ensure_connection()
        fault = give_role_bounds(connection.connection)
        if fault is not None:
            self._note(f"{fault}. Behind a pooler, set them as an operator; without one each session sets its own.")
        if connection.session.missing:
            # The pooler keeps this session for others; the next one begins with the limits of the role.
            with connection.cursor() as cursor:
                try:
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
                except Error:
                    connection.close()

    def _note(self, text: str) -> None:
        self.stderr.write(text)
        self.stderr.flush()


@contextmanager
def _apart(connection: DatabaseWrapper) -> Iterator[None]:
    """Inside the block the connection is a new one for migrations, past a pooler where DATABASE_URL_DIRECT is set."""
    if connection.in_atomic_block:
        yield
        return
    before = connection.settings_dict
    direct = settings.ENV.database_url_direct
    if direct and not before.get("EMBEDDED_DATA_DIR"):
        found = database_from_url(direct, data_dir=settings.ENV.data_dir, durable=True)
        connection.settings_dict = {
            **before,
            **{name: found[name] for name in ("USER", "PASSWORD", "HOST", "PORT", "OPTIONS", "NAME")},
        }
    connection.close()
    connection.bounds = MIGRATION_BOUNDS
    try:
        yield
    finally:
        connection.close()
        connection.bounds, connection.settings_dict = SESSION_BOUNDS, before


def _rights(connection: DatabaseWrapper, error: Error) -> str:
    """What is missing, and the SQL that an operator runs."""
    role = connection.settings_dict["USER"] or "its role"
    said = " ".join(str(error).split())
    return (
        f"The role {role} may not change the schema of this database: {said}. The role that migrates has to own the "
        f'tables and to be able to create some. As a superuser: GRANT CREATE, USAGE ON SCHEMA public TO "{role}"; for '
        f'each table that exists: ALTER TABLE ... OWNER TO "{role}"; or run prepare with the URL of the owner.'
    )


def _blockers(connection: DatabaseWrapper) -> str:
    """Who holds locks for long, in a sentence."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_BLOCKERS)
            rows = cursor.fetchall()
    except Error:
        rows = []
    found = [f"pid {pid} ({name}), in a transaction for {seconds} s" for pid, name, seconds in rows]
    return f"Another session holds a lock: {'; '.join(found)}." if found else "Another session holds a lock."
