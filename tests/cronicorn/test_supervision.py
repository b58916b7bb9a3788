"""The supervisor with real processes and real signals: each test runs it in a process of its own."""

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from cronicorn.env import PROJECT_DIR

pytestmark = pytest.mark.processes

SUPERVISE = """
import sys
from cronicorn.runtime.supervision import Supervisor

def write(name, line):
    print(f"{name} | {line}", flush=True)

commands = dict(zip(sys.argv[2::2], ([sys.executable, "-u", "-c", code] for code in sys.argv[3::2])))
supervisor = Supervisor(commands, write=write, stop_seconds=float(sys.argv[1]))
codes = supervisor.run()
print("codes", sorted(codes.items()), supervisor.signalled, flush=True)
"""
WAITS = """
import os, signal, sys, threading
print("pid", os.getpid(), flush=True)
signal.sigwait({signal.SIGTERM})
"""
POLITE = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n" + WAITS
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    + """
import os
print("pid", os.getpid(), flush=True)
signal.pause()
"""
)
# An ignored signal stays ignored in the child.
PARENT = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("pid", subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]).pid, flush=True)
"""


@contextmanager
def supervised(stop_seconds: float, **programs: str) -> Iterator[subprocess.Popen[str]]:
    arguments = [part for name, code in programs.items() for part in (name, textwrap.dedent(code))]
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(stop_seconds), *arguments],
        cwd=PROJECT_DIR,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        assert process.stdout is not None
        process.stdout.close()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    return next(line.strip() for line in process.stdout if text in line)


def pid_of(process: subprocess.Popen[str], name: str) -> int:
    return int(line_with(process, f"{name} | pid").rsplit(" ", 1)[1])


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_command_politely(number: signal.Signals) -> None:
    with supervised(20, one=POLITE) as process:
        pid = pid_of(process, "one")

        process.send_signal(number)

        assert line_with(process, "codes") == "codes [('one', 0)] True"
        assert not lives(pid)


def test_the_end_of_one_command_ends_the_others_and_its_code_is_kept() -> None:
    with supervised(20, one=POLITE, two="import sys; sys.exit(3)") as process:
        assert line_with(process, "codes").endswith("('two', 3)] False")


def test_a_command_that_ignores_the_signal_is_killed_after_its_time() -> None:
    with supervised(0.2, one=STUBBORN) as process:
        pid = pid_of(process, "one")

        process.send_signal(signal.SIGTERM)

        assert line_with(process, "codes") == "codes [('one', -9)] True"
        assert not lives(pid)


def test_a_second_signal_kills_at_once() -> None:
    with supervised(50, one=STUBBORN) as process:
        pid_of(process, "one")

        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)

        assert line_with(process, "codes") == "codes [('one', -9)] True"


def test_children_of_a_command_that_died_are_killed_too() -> None:
    with supervised(0.2, one=PARENT) as process:
        pid = pid_of(process, "one")

        assert line_with(process, "codes") == "codes [('one', 0)] False"
        assert not lives(pid)


def test_output_comes_line_by_line_also_when_it_is_not_text() -> None:
    with supervised(20, one="import sys; sys.stdout.buffer.write(b'a\\xff\\nb')") as process:
        assert line_with(process, "one |") == "one | a\N{REPLACEMENT CHARACTER}"
        assert line_with(process, "one |") == "one | b"
