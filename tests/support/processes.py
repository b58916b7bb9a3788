"""Real worker processes against the test's database, for signals and kills."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode

import pytest
from django.db import connection

PROJECT_DIR = Path(__file__).resolve().parents[2]


def test_database_url() -> str:
    """The URL under which another process reaches the database of this test."""
    params = connection.get_connection_params()
    query = urlencode({"host": params["host"]})
    user = quote(params.get("user") or "")
    return f"postgresql://{user}@:{params.get('port') or 5432}/{quote(params['dbname'])}?{query}"


test_database_url.__test__ = False  # type: ignore[attr-defined]


class Command:
    """A running `manage.py` command; killed at the end of its block if it still runs."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        environ = {**os.environ, "DATABASE_URL": test_database_url(), "DJANGO_SETTINGS_MODULE": "cronicorn.settings"}
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT_DIR,
            env={**environ, "LOG_LEVEL": "INFO", "LOG_FORMAT": "json", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_for_line(self, text: str) -> str:
        """The next line of output that has the text in it; raises EOFError when the process ends first."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            if text in line:
                return line
        raise EOFError(f"{text!r} never came:\n{''.join(self.lines)}")

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """The exit status; raises subprocess.TimeoutExpired when it does not come in time."""
        output, _ = self._process.communicate(timeout=seconds)
        self.lines.append(output or "")
        return self._process.returncode


def eventually(check: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits until the check holds, asking ten times a second; fails the test when it never does."""
    tick = threading.Event()
    for _ in range(int(seconds * 10)):
        if check():
            return
        tick.wait(0.1)
    pytest.fail(f"did not come true within {seconds} s: {check}")


@pytest.fixture
def start_scheduler() -> Iterator[Callable[..., Command]]:
    """Starts scheduler processes that may call this machine, with a short lease."""
    commands: list[Command] = []

    def start(*arguments: str, **environment: str) -> Command:
        command = Command("run_scheduler", *arguments, **{"LEASE_SECONDS": "5", **environment})
        commands.append(command)
        command.wait_for_line("worker_started")
        return command

    yield start
    for command in commands:
        command.__exit__(None, None, None)
