"""Whether a process can begin its work: the database answers, and has the tables that this version needs."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from django.conf import settings
from django.core.management.base import CommandError
from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader

from cronicorn.logging import Event, log_event
from cronicorn.postgres.errors import EmbeddedPostgresError
from cronicorn.runtime.clock import monotonic_ns
from cronicorn.runtime.stopping import Stop

logger = logging.getLogger(__name__)

PATIENCE_S = 60.0
LONGEST_PAUSE_S = 3.0
# Between two lines that say the same.
SAY_EVERY_S = 15.0
# A migration that code from before it cannot work with has a name with this end.
BREAKING = "_breaking"


class ExitCode(IntEnum):
    """How a process ends that could not begin: the codes of sysexits.h."""

    UNREACHABLE = 69
    SCHEMA = 78


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why work cannot begin. `final`: no time mends it."""

    message: str
    code: ExitCode
    final: bool = False


def find_obstacle(*, schema: bool = True) -> Obstacle | None:
    """Looks once; None when work can begin. `schema` False asks only whether the database answers.

    A schema that is newer than the code is fine, since migrations add; one that is marked as breaking is not.
    """
    try:
        connection.ensure_connection()
        if not schema:
            return None
        loader = MigrationLoader(connection)
    except EmbeddedPostgresError as error:
        return Obstacle(str(error), ExitCode.UNREACHABLE, final=True)
    except Error as error:
        connection.close()
        return Obstacle(f"The database at {_place()} cannot be used: {_one_line(error)}", ExitCode.UNREACHABLE)
    applied = set(loader.applied_migrations)
    newer = applied - set(loader.disk_migrations)
    breaking = sorted(f"{app}.{name}" for app, name in newer if name.endswith(BREAKING))
    if breaking:
        message = f"The database was migrated by a newer version ({', '.join(breaking)}); this one cannot work with it."
        return Obstacle(f"{message} Install the newer version.", ExitCode.SCHEMA, final=True)
    missing = sorted(set(loader.graph.nodes) - applied)
    if missing:
        names = ", ".join(".".join(key) for key in missing[:3]) + (" and others" if len(missing) > 3 else "")
        return Obstacle(
            f"The database at {_place()} is not migrated for this version: {len(missing)} migrations are missing "
            f"({names}). Run: python manage.py prepare",
            ExitCode.SCHEMA,
        )
    return None


def await_database(
    stop: Stop | None = None,
    *,
    schema: bool = True,
    patience_s: float = PATIENCE_S,
    say: Callable[[str], None] | None = None,
) -> None:
    """Returns when the database can be used, or a stop is requested; says at once and now and then what is waited for.

    Raises CommandError, with an exit code, after `patience_s`.
    """
    stop = stop or Stop()
    began_ns, said_ns, said = monotonic_ns(), 0, ""
    pause = 0.25
    while not stop.requested():
        obstacle = find_obstacle(schema=schema)
        if obstacle is None:
            return
        waited_s = (monotonic_ns() - began_ns) / 1e9
        if obstacle.final or waited_s >= patience_s:
            after = "" if obstacle.final else f" Given up after {waited_s:.0f} s."
            raise CommandError(f"{obstacle.message}{after}", returncode=int(obstacle.code))
        if obstacle.message != said or (monotonic_ns() - said_ns) / 1e9 >= SAY_EVERY_S:
            said, said_ns = obstacle.message, monotonic_ns()
            left_s = patience_s - waited_s
            if say is not None:
                say(f"{obstacle.message} Trying for another {left_s:.0f} s.")
            else:
                facts = {"error": obstacle.message, "seconds_left": round(left_s)}
                log_event(logger, Event.DATABASE_AWAITED, logging.WARNING, **facts)
        stop.wait(min(pause, max(0.0, patience_s - waited_s)))
        pause = min(pause * 2, LONGEST_PAUSE_S)


def _place() -> str:
    """Where the database is, without secrets."""
    found = settings.DATABASES["default"]
    hosts, ports = found.get("HOST") or "the usual socket", found.get("PORT")
    return f"{hosts}{f' port {ports}' if ports else ''}, name {found['NAME']}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
