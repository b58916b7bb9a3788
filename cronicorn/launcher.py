"""`python -m cronicorn.launcher`: the whole service on one machine, in one terminal; `scripts/up` ends in it.

Prepares the database, starts web, scheduler and planner with one prefixed log, and stops all of them, and the embedded
PostgreSQL, on SIGINT or SIGTERM.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from cronicorn.env import (
    PROJECT_DIR,
    ConfigurationError,
    Environment,
    data_dir,
    named_variables,
    read_environment,
    variables,
)
from cronicorn.postgres.configuration import database_from_url
from cronicorn.postgres.embedded import embedded_server
from cronicorn.postgres.errors import EmbeddedPostgresError
from cronicorn.probe import fault_at
from cronicorn.runtime.stopping import Stop
from cronicorn.runtime.supervision import Supervisor
from cronicorn.secrets import write_secrets

LOOPBACK = "127.0.0.0/8,[::1]/128"
# Longer than the scheduler takes to drain (30 s), shorter than patience.
STOP_SECONDS = 40
READY_ATTEMPTS = 240
READY_PAUSE_S = 0.25
PROCESSES = {
    "web": ("-m", "gunicorn", "--config", "python:cronicorn.web_server", "cronicorn.wsgi"),
    "scheduler": ("manage.py", "run_scheduler"),
    "planner": ("manage.py", "run_ai_planner"),
}


class LaunchError(Exception):
    """The service cannot be started here; the message says what to do."""


class Log:
    """The one prefixed log; what `say` prints stands on lines of its own, without a prefix."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._width = max(map(len, PROCESSES))

    def write(self, name: str, line: str) -> None:
        """Prints a line of one process."""
        self.say(f"{name:<{self._width}} | {line}")

    def say(self, text: str) -> None:
        """Prints lines for the person at the terminal. A terminal that went away is no reason to stop."""
        with self._lock, suppress(OSError):
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()


def main() -> int:
    """Runs until a signal or the end of one of the processes; returns the exit code, 0 after a signal."""
    # Both: a shell that starts it in the background lets it inherit a SIGINT that is ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    os.chdir(PROJECT_DIR)
    try:
        folder = data_dir(os.environ)
        if write_secrets(folder):
            _note(f"New secrets are in {folder / 'secrets.env'}. Keep a copy: encrypted values need them.")
        if "EGRESS_ALLOW" not in named_variables():
            os.environ["EGRESS_ALLOW"] = LOOPBACK
            _note(f"Endpoints may call this machine: EGRESS_ALLOW={LOOPBACK}. EGRESS_ALLOW=none closes it.")
        environment = read_environment(variables())
        os.environ["PYTHONUNBUFFERED"] = "1"
        with _alone(folder), _database(environment):
            _require_port(environment)
            return _serve(environment, _prepare())
    except KeyboardInterrupt:
        return 0
    except (LaunchError, ConfigurationError, EmbeddedPostgresError, OSError) as error:
        _note(str(error))
        return 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps a second start with the same data away, which would stop the database of the first."""
    with (folder / "up.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(f"Cronicorn runs already with the data in {folder}.") from None
        yield


@contextmanager
def _database(environment: Environment) -> Iterator[None]:
    """Stops the embedded server at the end; a server that DATABASE_URL names is left alone."""
    settings_dict = database_from_url(
        environment.database_url, data_dir=environment.data_dir, durable=environment.database_durable
    )
    server = embedded_server(settings_dict)
    try:
        yield
    finally:
        # A second Ctrl-C must not leave the server behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if server is not None:
            server.stop()


def _require_port(environment: Environment) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((environment.bind_address, environment.port))
        except OSError as error:
            raise LaunchError(
                f"Port {environment.port} of {environment.bind_address} cannot be used ({error.strerror}). "
                "Choose another one: PORT=8001 scripts/up"
            ) from None


def _prepare() -> str:
    """Prepares database and static files; returns what is to be told once the service answers.

    A password that was made before a fault or an interruption is told at once, because it cannot be shown again.
    """
    command = [sys.executable, "manage.py", "prepare", "--static", "--credentials"]
    told: list[str] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)  # noqa: S603  our own command
    try:
        told.extend(process.stdout or ())
    except KeyboardInterrupt:
        process.terminate()
        _note("".join(told).strip())
        raise
    finally:
        process.wait()
    if process.returncode != 0:
        raise LaunchError(f"{''.join(told)}The preparation failed; the reason stands above.")
    return "".join(told).strip()


def _serve(environment: Environment, told: str) -> int:
    log = Log()
    commands = {name: [sys.executable, *arguments] for name, arguments in PROCESSES.items()}
    # The web server first: what is due at once may be a self-test, which calls it.
    supervisor = Supervisor(
        commands,
        write=log.write,
        stop_seconds=STOP_SECONDS,
        await_first=lambda ended: _announce(environment, told, log, ended),
    )
    codes = supervisor.run()
    # A process that is asked to end before it listens to signals dies of the request, which is as good.
    well = (0, -signal.SIGTERM) if supervisor.signalled else (0,)
    failed = [f"{name} (exit code {code})" for name, code in codes.items() if code not in well]
    if failed:
        _note(f"Ended with a fault: {', '.join(failed)}.")
    return 0 if supervisor.signalled and not failed else 1


def _announce(environment: Environment, told: str, log: Log, ended: Stop) -> None:
    """Tells the address and the credentials once the web server answers, or when it does not in time or any more."""
    host = environment.bind_address if environment.bind_address != "0.0.0.0" else "127.0.0.1"  # noqa: S104  compared
    address = f"http://{host}:{environment.port}"
    for _ in range(READY_ATTEMPTS):
        if fault_at(f"{address}/api/health") is None:
            log.say(f"\n{told}\nURL: {environment.site_url or address}\n")
            return
        if ended.wait(READY_PAUSE_S):
            break
    log.say(f"\n{told}\nThe web server does not answer at {address}.\n")


if __name__ == "__main__":
    sys.exit(main())
