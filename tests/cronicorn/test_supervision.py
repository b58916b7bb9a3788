"""The supervisor with real processes and real signals: each test runs it in a process of its own."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from cronicorn.env import PROJECT_DIR

pytestmark = pytest.mark.processes

SUPERVISE = """
import sys
from cronicorn.runtime.supervision import Supervisor

def write(name, line):
    sys.stdout.write(f"{name} | {line}\\n")  # in one piece, for several threads do
    sys.stdout.flush()

def await_first(ended):
    print("first", *supervisor._processes, ended.wait(float(sys.argv[2])), flush=True)

commands = dict(zip(sys.argv[3::2], ([sys.executable, "-u", "-c", code] for code in sys.argv[4::2])))
supervisor = Supervisor(commands, write=write, stop_seconds=float(sys.argv[1]), await_first=await_first)
codes = supervisor.run()
print("codes", sorted(codes.items()), supervisor.signalled, flush=True)
"""
WAITS = """
import os, signal, sys, threading
print("pid", os.getpid(), flush=True)
signal.sigwait({signal.SIGTERM})
"""
POLITE = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n" + WAITS
SAYS_WHEN_ASKED = POLITE + "print('asked to end', flush=True)"
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
def supervised(stop_seconds: float, await_seconds: float = 0, **programs: str) -> Iterator[subprocess.Popen[str]]:
    arguments = [part for name, code in programs.items() for part in (name, textwrap.dedent(code))]
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(stop_seconds), str(await_seconds), *arguments],
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


def has_ended(pid: int) -> bool:
    """Whether a process is dead, or dies within 10 s; whether anybody has asked for its exit code does not matter."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 10)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_command_politely(number: signal.Signals) -> None:
    with supervised(20, one=POLITE) as process:
        pid = pid_of(process, "one")

        process.send_signal(number)

        assert line_with(process, "codes") == "codes [('one', 0)] True"
        assert has_ended(pid)


def test_the_end_of_one_command_ends_the_others_and_its_code_is_kept() -> None:
    with supervised(20, one=POLITE, two="import sys; sys.exit(3)") as process:
        assert line_with(process, "codes").endswith("('two', 3)] False")


def test_a_command_that_ignores_the_signal_is_killed_after_its_time() -> None:
    with supervised(0.2, one=STUBBORN) as process:
        pid = pid_of(process, "one")

        process.send_signal(signal.SIGTERM)

        assert line_with(process, "codes") == "codes [('one', -9)] True"
        assert has_ended(pid)


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
        assert has_ended(pid)


def test_output_comes_line_by_line_also_when_it_is_not_text() -> None:
    with supervised(20, one="import sys; sys.stdout.buffer.write(b'a\\xff\\nb')") as process:
        assert line_with(process, "one |") == "one | a\N{REPLACEMENT CHARACTER}"
        assert line_with(process, "one |") == "one | b"


def test_the_others_start_when_the_wait_for_the_first_is_over() -> None:
    with supervised(20, one=POLITE, two="print('begun')") as process:
        assert line_with(process, "first") == "first one False"
        assert line_with(process, "two |") == "two | begun"


def test_a_signal_ends_the_wait_for_the_first_and_nothing_else_starts() -> None:
    with supervised(20, await_seconds=60, one=POLITE, two=POLITE) as process:
        pid_of(process, "one")

        process.send_signal(signal.SIGTERM)

        assert line_with(process, "first") == "first one True"
        assert line_with(process, "codes") == "codes [('one', 0)] True"


def test_the_end_of_the_first_ends_the_wait_for_it() -> None:
    with supervised(20, await_seconds=60, one="import sys; sys.exit(3)", two=POLITE) as process:
        assert line_with(process, "codes") == "codes [('one', 3)] False"


def test_the_first_command_ends_last() -> None:
    with supervised(20, one=SAYS_WHEN_ASKED, two=SAYS_WHEN_ASKED, three=SAYS_WHEN_ASKED) as process:
        for _ in range(3):
            line_with(process, "| pid")

        process.send_signal(signal.SIGTERM)

        asked = [line_with(process, "asked to end") for _ in range(3)]
        assert asked[2] == "one | asked to end"
