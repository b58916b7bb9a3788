"""Measures what a call costs: the dispatcher beside a bare libcurl loop, against one target, in one run.

    .venv/bin/python -m bench.dispatch [--calls 4000] [--in-flight 100] [--hosts 200] [--rounds 3] [--busy]

Every call has a connection of its own. CPU is that of the process that calls, user and system together, per call.
`--busy` adds a thread that computes without pause, as the rest of a worker might: it shows what sharing the
interpreter costs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from uuid import uuid4

import pycurl

from scheduling.dispatch import CurlDispatcher, Dispatcher
from scheduling.dispatch.curl_multi import PolledMulti
from scheduling.egress.policy import EgressPolicy
from scheduling.exchange.outcome import Call, parse_success_criteria
from tests.support.certificates import make_certificate

OWNER = uuid4()
SUCCESS = parse_success_criteria(None)
Run = Callable[[list[str], int, str], None]


@contextmanager
def target(certificate: Path | None, threads: int) -> Iterator[int]:
    """Yield the port of a target in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("target.py")), "--threads", str(threads)]
    command += ["--certificate", str(certificate)] if certificate else []
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)


def bare_libcurl(urls: list[str], in_flight: int, ca_file: str) -> None:
    """Call every URL with nothing but libcurl: no judge, no record, no outcome; the limit for any dispatcher on it."""
    multi, left, running = PolledMulti(), list(reversed(urls)), 0
    handles = [pycurl.Curl() for _ in range(in_flight)]

    def begin(handle: pycurl.Curl) -> None:
        handle.reset()
        for option, value in (
            *((pycurl.URL, left.pop()), (pycurl.NOSIGNAL, 1), (pycurl.FORBID_REUSE, 1), (pycurl.FRESH_CONNECT, 1)),
            *((pycurl.CAINFO, ca_file), (pycurl.CAPATH, None), (pycurl.SSL_SESSIONID_CACHE, 0)),
            *((pycurl.PROXY, ""), (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)),
        ):
            handle.setopt(option, value)
        handle.setopt(pycurl.WRITEFUNCTION, bytearray().extend)
        multi.add(handle)

    for handle in handles:
        if left:
            begin(handle)
            running += 1
    while running:
        for handle, code in multi.turn(1.0):
            assert code == pycurl.E_OK, code
            multi.remove(handle)
            if left:
                begin(handle)
            else:
                running -= 1
    multi.close()


def dispatched(make: Callable[[int, str], Dispatcher]) -> Run:
    """Return a run of a dispatcher that keeps `in_flight` calls under way."""

    def call_all(urls: list[str], in_flight: int, ca_file: str) -> None:
        dispatcher, left, under_way = make(in_flight, ca_file), list(reversed(urls)), 0
        while left or under_way:
            while left and under_way < in_flight:
                dispatcher.start(a_call(left.pop()))
                under_way += 1
            for outcome in dispatcher.completed(1.0):
                assert outcome.ok, outcome
                under_way -= 1
        dispatcher.close()

    return call_all


def a_call(url: str) -> Call:
    return Call(uuid4(), uuid4(), 1, "GET", url, (), None, 10_000, 102_400, SUCCESS, OWNER)


EGRESS = EgressPolicy.from_settings("127.0.0.0/8")
RUNS: dict[str, Run] = {
    "bare libcurl": bare_libcurl,
    "CurlDispatcher": dispatched(lambda size, ca_file: CurlDispatcher(EGRESS, concurrency=size, ca_file=ca_file)),
}


@contextmanager
def busy(wanted: bool) -> Iterator[list[float]]:
    """Compute in another thread meanwhile; yields a list that holds the CPU seconds of that thread at the end."""
    spent, done = [0.0], threading.Event()

    def compute() -> None:
        while not done.is_set():
            sum(range(2_000))
        spent[0] = time.thread_time()

    thread = threading.Thread(target=compute)
    if wanted:
        thread.start()
    try:
        yield spent
    finally:
        done.set()
        if wanted:
            thread.join()


def measure(run: Run, urls: list[str], in_flight: int, ca_file: str, with_busy: bool) -> tuple[float, float]:
    """Return calls per second and CPU microseconds per call."""
    cpu, wall = time.process_time(), time.perf_counter()
    with busy(with_busy) as spent:
        run(urls, in_flight, ca_file)
        wall = time.perf_counter() - wall
    cpu = time.process_time() - cpu - spent[0]
    return len(urls) / wall, cpu * 1e6 / len(urls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=4_000)
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    hosts = [f"127.0.0.{1 + number % options.hosts}" for number in range(options.calls)]
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder), *sorted(set(hosts)))
        for scheme, threads in (("http", 1), ("https", 2)):
            ca_file = str(certificate.ca_file)
            with target(certificate.path if scheme == "https" else None, threads) as port:
                urls = [f"{scheme}://{host}:{port}/x/{number}" for number, host in enumerate(hosts)]
                print(f"{scheme}, {len(urls)} calls, {options.in_flight} in flight, {options.hosts} hosts")
                # The rounds take turns, so that what else the machine does meets all of them.
                rounds = [
                    {name: measure(run, urls, options.in_flight, ca_file, options.busy) for name, run in RUNS.items()}
                    for _ in range(options.rounds)
                ]
                limit = median(result["bare libcurl"][1] for result in rounds)
                for name in RUNS:
                    rate = median(result[name][0] for result in rounds)
                    cpu = median(result[name][1] for result in rounds)
                    print(
                        f"  {name:16} {rate:8,.0f} calls/s {cpu:8,.0f} us CPU per call {cpu / limit:6.1f} x the limit"
                    )


if __name__ == "__main__":
    main()
