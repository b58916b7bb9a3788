"""A place for faults: a PostgreSQL of its own, real scheduler processes and a recording target, all in one folder."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import psycopg

from cronicorn.postgres.address import Address
from cronicorn.postgres.embedded import EmbeddedServer, StopMode
from tests.chaos.facts import DRAIN, EXIT, LEASE, POLL, Freeze, Term

PROJECT_DIR = Path(__file__).resolve().parents[2]
DATABASE = "chaos"
LEASE_SECONDS = int(LEASE.total_seconds())


class Postgres:
    """The server. It keeps its data through every kind of restart."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedServer(folder)
        self.address: Address = self._server.ensure(DATABASE)

    @property
    def url(self) -> str:
        """What DATABASE_URL says."""
        return f"postgresql://{self.address.user}@:{self.address.port}/{DATABASE}?host={quote(self.address.host)}"

    def restart(self, mode: StopMode, down: float, stop: threading.Event) -> None:
        """Stops the server, leaves it down for so many seconds, and starts it again."""
        self._server.stop(mode)
        stop.wait(down)
        self._server.ensure(DATABASE)

    def terminate_backends(self, count: int) -> int:
        """Ends some connections of schedulers, chosen at random by the server; returns how many."""
        with psycopg.connect(
            host=self.address.host, user=self.address.user, dbname=DATABASE, autocommit=True
        ) as connection:
            found = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
                " WHERE application_name = 'cronicorn' ORDER BY random() LIMIT %s) chosen",
                [count],
            )
            return len(found.fetchall())

    @contextmanager
    def held_up_claims(self) -> Iterator[None]:
        """Inside the block no claim ends: its runs cannot be inserted."""
        with psycopg.connect(host=self.address.host, user=self.address.user, dbname=DATABASE) as connection:
            connection.execute("LOCK TABLE runs IN SHARE MODE")
            yield

    def close(self) -> None:
        """Ends the server."""
        self._server.stop("immediate")


@dataclass
class Scheduler:
    """One `manage.py run_scheduler`; its output goes to a file, so that it never waits for a reader."""

    log: Path
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] = field(init=False)
    started_at: datetime = field(init=False)
    frozen: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.started_at = datetime.now(UTC)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "run_scheduler", *self.arguments],
                cwd=PROJECT_DIR,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "cronicorn.settings",
                    "LEASE_SECONDS": str(LEASE_SECONDS),
                    "LOG_LEVEL": "INFO",
                    "LOG_FORMAT": "json",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """Ends the process without a chance to say anything."""
        self.process.kill()
        self.process.wait()


class Fleet:
    """The scheduler processes, and what was done to them."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._arguments = ("--poll-interval", str(int(POLL.total_seconds())), "--per-host", "200")
        self._frozen: list[tuple[Scheduler, datetime, datetime]] = []
        self._leaving: list[tuple[Scheduler, Term]] = []
        self.freezes: list[Freeze] = []
        self.schedulers = [self._start() for _ in range(count)]

    def _start(self) -> Scheduler:
        return Scheduler(self._folder / "schedulers.log", self._arguments)

    @property
    def awake(self) -> list[Scheduler]:
        """Those that are not stopped."""
        return [scheduler for scheduler in self.schedulers if not scheduler.frozen]

    def settled(self, age: timedelta) -> list[Scheduler]:
        """Those that are not stopped and were started at least so long ago."""
        return [scheduler for scheduler in self.awake if scheduler.started_at <= datetime.now(UTC) - age]

    def replace(self, scheduler: Scheduler) -> None:
        """Kills a scheduler and starts another in its place."""
        scheduler.kill()
        self.schedulers[self.schedulers.index(scheduler)] = self._start()

    def retire(self, scheduler: Scheduler) -> None:
        """Tells a scheduler to stop, as an operator does, and starts another at once; the old one drains meanwhile."""
        self._tell_to_stop(scheduler)
        self.schedulers[self.schedulers.index(scheduler)] = self._start()

    def _tell_to_stop(self, scheduler: Scheduler) -> None:
        self._leaving.append((scheduler, Term(datetime.now(UTC), scheduler.process.pid)))
        scheduler.process.terminate()

    @property
    def terms(self) -> tuple[Term, ...]:
        """Which were told to stop, and when."""
        return tuple(term for _, term in self._leaving)

    def freeze(self, scheduler: Scheduler, seconds: float) -> None:
        """Stops a scheduler; `thaw` lets it go on once the time is over."""
        scheduler.process.send_signal(signal.SIGSTOP)
        scheduler.frozen = True
        now = datetime.now(UTC)
        self._frozen.append((scheduler, now, now + timedelta(seconds=seconds)))

    def thaw(self, *, all_of_them: bool = False) -> None:
        """Lets those go on that stood still for long enough."""
        for entry in list(self._frozen):
            scheduler, began_at, until = entry
            if all_of_them or until <= datetime.now(UTC):
                scheduler.process.send_signal(signal.SIGCONT)
                scheduler.frozen = False
                # The first moments after waking belong to the freeze: the process does not know of it yet.
                ended_at = datetime.now(UTC) + timedelta(seconds=1)
                self.freezes.append(Freeze(began_at, ended_at, scheduler.process.pid))
                self._frozen.remove(entry)

    def died(self) -> list[int]:
        """The exit codes of schedulers that ended by themselves."""
        return [code for scheduler in self.schedulers if (code := scheduler.process.poll()) is not None]

    def drain(self) -> list[int]:
        """Tells all to stop and returns the exit codes of all that ever were told; one that takes too long has -9."""
        self.thaw(all_of_them=True)
        for scheduler in self.schedulers:
            self._tell_to_stop(scheduler)
        codes = []
        for scheduler, term in self._leaving:
            left = term.told_at + DRAIN + EXIT - datetime.now(UTC)
            with suppress(subprocess.TimeoutExpired):
                scheduler.process.wait(max(left.total_seconds(), 0))
            scheduler.kill()
            codes.append(scheduler.process.returncode)
        return codes

    def close(self) -> None:
        """Ends whatever still runs."""
        for scheduler in (*self.schedulers, *(leaving for leaving, _ in self._leaving)):
            scheduler.kill()
