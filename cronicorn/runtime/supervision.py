"""Runs several commands as one: their output in one log, the end of one is the end of all."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import IO

from cronicorn.runtime.clock import monotonic_ns
from cronicorn.runtime.stopping import LONGEST_NAP_S, Stop


class Supervisor:
    """Starts the commands and stands by them until a signal comes or one of them ends.

    `write` is called from several threads with the name of a command and one line of its output, without its end.
    `stop_seconds` is how long a command may take to end after SIGTERM; then its whole process group is killed.
    `await_first` is called when the first command has been started and before the others are; it is handed a stop
    that is requested when there is nothing more to wait for, because a signal came or the command ended. At the end
    the first command, on which the others may rely, is asked to end when they have.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        write: Callable[[str, str], None],
        stop_seconds: float,
        await_first: Callable[[Stop], None] = lambda ended: None,
    ) -> None:
        self._commands = commands
        self._write = write
        self._stop_seconds = stop_seconds
        self._await_first = await_first
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended = Stop()
        self.signalled = False

    def run(self) -> dict[str, int]:
        """Runs to the end and returns the exit codes of the commands that were started.

        The first SIGINT or SIGTERM asks the commands to end, a second one kills them. Only the main thread may call
        this; it leaves both signals with the supervisor. Whatever is raised, no process stays.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        threads: dict[str, list[threading.Thread]] = {}
        try:
            for name, command in self._commands.items():
                if self._ended.requested():
                    break
                threads[name] = self._start(name, command)
                if len(threads) == 1:
                    self._await_first(self._ended)
            while not self._ended.wait(LONGEST_NAP_S):
                pass
            deadline = monotonic_ns() + int(self._stop_seconds * 1e9)
            first, *others = threads
            for names in (others, [first]):
                self._signal_groups(signal.SIGTERM, names)
                for thread in (thread for name in names for thread in threads[name]):
                    thread.join(max(0.0, (deadline - monotonic_ns()) / 1e9))
        finally:
            self._signal_groups(signal.SIGKILL, self._processes)
        for thread in (thread for pair in threads.values() for thread in pair):
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
        self._ended.request()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signalled:
            self._signal_groups(signal.SIGKILL, self._processes)
        self.signalled = True
        self._ended.request()

    def _signal_groups(self, number: signal.Signals, names: Iterable[str]) -> None:
        for name in names:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._processes[name].pid, number)
