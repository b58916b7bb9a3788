"""`manage.py worker_health scheduler|planner [--live|--ready]`: for the checks of containers."""

import platform
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connection

from jobs.models import WorkerKind
from jobs.pulse import SignOfLife, signs_of_life

FRESH_SECONDS = 60


class Command(BaseCommand):
    """Exits 0 when a worker of the kind on this host lives, and, unless only that is asked, its work goes on; else 1.

    Both are read from the worker's own sign of life, which needs no database. Where there is none, as of a worker that
    runs as another user, `--ready` asks the database for the last heartbeat.
    """

    help = "Check that a worker of the given kind on this host lives and gets its work done."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declares the kind and the question."""
        parser.add_argument("kind", choices=WorkerKind.values)
        question = parser.add_mutually_exclusive_group()
        question.add_argument("--live", action="store_true", help="only whether the process lives; asks no database")
        question.add_argument("--ready", action="store_true", help="also whether its work goes on (the default)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError with what is wrong."""
        kind = options["kind"]
        signs = [sign for sign in signs_of_life(WorkerKind(kind)) if sign.age_s <= FRESH_SECONDS]
        if options["live"]:
            if not signs:
                raise CommandError(f"No {kind} of this user on this host gave a sign of life within {FRESH_SECONDS} s.")
            self.stdout.write(f"A {kind} on this host lives.")
            return
        sign = next((sign for sign in signs if sign.problem is None), signs[0] if signs else None)
        if sign is None:
            sign = _heartbeat(kind)
        if sign.problem is not None:
            raise CommandError(f"The {kind} on this host lives, but its work does not go on: {sign.problem}")
        self.stdout.write(f"A {kind} on this host reported {sign.age_s:.0f} s ago.")


def _heartbeat(kind: str) -> SignOfLife:
    """The last heartbeat on this host, by the database's clock. Raises CommandError without a fresh one."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT extract(epoch FROM clock_timestamp() - seen_at)::float, facts->>'problem'
                FROM worker_heartbeats
                WHERE kind = %(kind)s AND stopped_at IS NULL AND starts_with(worker, %(prefix)s)
                    -- the process id and the random tail, so that no longer host name matches
                    AND substr(worker, length(%(prefix)s) + 1) ~ '^[0-9]+-[0-9a-f]+$'
                ORDER BY seen_at DESC LIMIT 1
                """,
                {"kind": kind, "prefix": f"{kind}-{platform.node()[:40]}-"},
            )
            row = cursor.fetchone()
    except Error as error:
        raise CommandError(f"The database does not answer: {error}") from error
    if row is None:
        raise CommandError(f"No {kind} has reported from this host.")
    if row[0] > FRESH_SECONDS:
        raise CommandError(f"The last sign of life of a {kind} on this host is {row[0]:.0f} s old.")
    return SignOfLife(*row)
