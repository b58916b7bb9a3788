"""Runs several commands as one: their output in one log, the end of one is the end of all."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import IO

from cronicorn.runtime.clock import monotonic_ns


class Supervisor:
    """Starts the commands and stands by them until a signal comes or one of them ends.

    `write` is called from several threads with the name of a command and one line of its output, without its end.
    `stop_seconds` is how long a command may take to end after SIGTERM; then its whole process group is killed.
    """

    def __init__(
        self, commands: Mapping[str, Sequence[str]], *, write: Callable[[str, str], None], stop_seconds: float
    ) -> None:
        self._commands = commands
        self._write = write
        self._stop_seconds = stop_seconds
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._changed = threading.Event()
        self.signalled = False

    def run(self) -> dict[str, int]:
        """Runs to the end and returns the exit codes of the commands that were started.

        The first SIGINT or SIGTERM asks the commands to end, a second one kills them. Only the main thread may call
        this; it leaves both signals with the supervisor. Whatever is raised, no process stays.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        threads: list[threading.Thread] = []
        try:
            for name, command in self._commands.items():
                if self._changed.is_set():
                    break
                threads += self._start(name, command)
            self._changed.wait()
            self._signal_groups(signal.SIGTERM)
            deadline = monotonic_ns() + int(self._stop_seconds * 1e9)
            for thread in threads:
                thread.join(max(0.0, (deadline - monotonic_ns()) / 1e9))
        finally:
            self._signal_groups(signal.SIGKILL)
        for thread in threads:
            thread.join()
        return {name: process.wait() for name, process in self._processes.items()}

    def _start(self, name: str, command: Sequence[str]) -> list[threading.Thread]:
        """Starts a command in a session of its own, so that a Ctrl-C of the terminal reaches it only through us."""
        process = subprocess.Popen(  # noqa: S603  the commands are the caller's own
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._processes[name] = process
        assert process.stdout is not None
        threads = [
            threading.Thread(target=self._relay, args=(name, process.stdout), daemon=True),
            threading.Thread(target=self._await_end, args=(process,), daemon=True),
        ]
        for thread in threads:
            thread.start()
        return threads

    def _relay(self, name: str, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self._write(name, line.decode(errors="replace").rstrip("\r\n"))

    def _await_end(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._changed.set()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signalled:
            self._signal_groups(signal.SIGKILL)
        self.signalled = True
        self._changed.set()

    def _signal_groups(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
