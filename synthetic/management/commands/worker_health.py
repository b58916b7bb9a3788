"""`manage.py worker_health scheduler|planner`: does a worker on this host live? For the checks of containers."""

import platform
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connection

from jobs.models import WorkerKind

FRESH_SECONDS = 60


class Command(BaseCommand):
    """Exits 0 when a worker of the kind beat on this host within FRESH_SECONDS, 1 otherwise."""

    help = "Check that a worker of the given kind on this host gave a sign of life in the last minute."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declares the kind."""
        parser.add_argument("kind", choices=WorkerKind.values)

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError when the last beat is too long ago, or the database does not answer."""
        try:
            age = _age(options["kind"])
        except Error as error:
            raise CommandError(f"The database does not answer: {error}") from error
        if age is None:
            raise CommandError(f"No {options['kind']} has reported from this host.")
        if age > FRESH_SECONDS:
            raise CommandError(f"The last sign of life of a {options['kind']} on this host is {age:.0f} s old.")
        self.stdout.write(f"A {options['kind']} on this host reported {age:.0f} s ago.")


def _age(kind: str) -> float | None:
    """Seconds since the last beat on this host, by the database's clock; None when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT extract(epoch FROM clock_timestamp() - max(seen_at))::float
            FROM worker_heartbeats
            WHERE kind = %(kind)s AND stopped_at IS NULL AND starts_with(worker, %(prefix)s)
                -- the process id and the random tail, so that no longer host name matches
                AND substr(worker, length(%(prefix)s) + 1) ~ '^[0-9]+-[0-9a-f]+$'
            """,
            {"kind": kind, "prefix": f"{kind}-{platform.node()[:40]}-"},
        )
        age: float | None = cursor.fetchone()[0]
    return age
