"""The stop of a command, with real signals in processes of their own."""

import signal
import subprocess
import sys
import threading

import pytest

from cronicorn.env import PROJECT_DIR
from cronicorn.runtime.stopping import Stop

SIGNALLED_WHILE_IT_LOOKS = """
import os, signal, threading
from cronicorn.runtime.stopping import Stop

for _ in range(100):
    stop = Stop()
    stop.install()
    threading.Timer(0.005, os.kill, (os.getpid(), signal.SIGTERM)).start()
    while not stop.wait(0):
        pass
print("ended")
"""
SIGNALLED_TWICE = """
import os, signal
from cronicorn.runtime.stopping import Stop

stop = Stop()
stop.install()
os.kill(os.getpid(), signal.SIGTERM)
print(stop.requested(), flush=True)
os.kill(os.getpid(), signal.SIGINT)
print("still here", flush=True)
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_DIR, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.processes
def test_a_signal_at_any_moment_of_a_wait_ends_it() -> None:
    done = run(SIGNALLED_WHILE_IT_LOOKS)

    assert (done.stdout, done.returncode) == ("ended\n", 0)


@pytest.mark.processes
def test_the_second_signal_ends_the_process_at_once() -> None:
    done = run(SIGNALLED_TWICE)

    assert (done.stdout, done.returncode) == ("True\n", 128 + signal.SIGINT)


def test_a_request_from_another_thread_ends_a_wait() -> None:
    stop = Stop()
    threading.Timer(0.01, stop.request).start()

    assert stop.wait(30) is True


def test_a_wait_without_a_request_ends_with_its_time() -> None:
    stop = Stop()

    assert stop.wait(0.01) is False
    assert not stop.requested()
