"""How many executions a second one and two schedulers sustain, and what each costs."""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.db import connection

from bench import limits, rows
from bench.figures import Figure
from bench.ledger import invariants
from bench.place import empty
from bench.processes import Scheduler, Target, cpu_seconds, server_cpu_seconds, target
from tests.support.certificates import Certificate, make_certificate

INTERVAL = timedelta(hours=1)
# More than any machine with few cores gets through, so that a backlog remains.
MOST_PER_SECOND = 6_000
MOST_HTTPS_PER_SECOND = 3_000
WARM_UP_S = 4.0
# With fewer calls in hand a scheduler waits for claims and settling to come round: with 500 a fifth of the time.
OPTIONS = ("--concurrency", "1000", "--batch-size", "500")


@dataclass(frozen=True)
class Window:
    """What was counted in the middle of a run: executions, and CPU in seconds."""

    seconds: float
    executions: int
    scheduler_cpu: float
    server_cpu: float | None
    target_cpu: float

    @property
    def rate(self) -> float:
        return self.executions / self.seconds

    def each_us(self, cpu: float | None) -> float | None:
        """CPU per execution, in microseconds."""
        return cpu * 1e6 / self.executions if cpu is not None and self.executions else None


def measure(url: str, seconds: float, *, most_per_second: int = MOST_PER_SECOND) -> list[Figure]:
    """Works off a backlog of endpoints over 200 hosts with one scheduler, then with two; limits beside."""
    figures: list[Figure] = []
    with target() as server:
        loop_rate, loop_cpu = limits.bare_libcurl(server.port, calls=int(300 * seconds))
    without_calls_rate, without_cpu = limits.without_calls(batches=int(4 * seconds))
    server_limit = limits.pgbench(url, batches=int(10 * seconds))
    for processes in (1, 2):
        window, checks = backlog(url, processes, seconds, most_per_second)
        name = _name(processes)
        each_us = window.each_us(window.scheduler_cpu)
        both = loop_cpu + without_cpu
        figures += [
            Figure(name, "executions", window.rate, "per s", "bare libcurl loop", loop_rate),
            Figure(name, "executions", window.rate, "per s", "claim and settle without calls", without_calls_rate),
            Figure(name, "executions", window.rate, "per s", "pgbench, same statements", server_limit),
            Figure(name, "scheduler CPU", each_us, "us each", "libcurl loop + claim and settle", both),
            Figure(name, "PostgreSQL CPU", window.each_us(window.server_cpu), "us each"),
            Figure(name, "target CPU", window.each_us(window.target_cpu), "us each"),
            *checks,
        ]
    return figures


def measure_https(url: str, seconds: float) -> list[Figure]:
    """The same with one scheduler and a full TLS handshake for each call; the target's half is on this machine, too."""
    name = "throughput, HTTPS"
    with tempfile.TemporaryDirectory() as folder:
        hosts = [f"127.0.0.{1 + number}" for number in range(rows.HOSTS)]
        certificate = make_certificate(Path(folder), *hosts)
        with target(certificate.path) as server:
            loop_rate, loop_cpu = limits.bare_libcurl(
                server.port, calls=int(300 * seconds), ca_file=certificate.ca_file
            )
        window, checks = backlog(url, 1, seconds, MOST_HTTPS_PER_SECOND, certificate)
    return [
        Figure(name, "executions", window.rate, "per s", "bare libcurl loop", loop_rate),
        Figure(name, "scheduler CPU", window.each_us(window.scheduler_cpu), "us each", "bare libcurl loop", loop_cpu),
        Figure(name, "PostgreSQL CPU", window.each_us(window.server_cpu), "us each"),
        Figure(name, "target CPU", window.each_us(window.target_cpu), "us each"),
        *checks,
    ]


def backlog(
    url: str, processes: int, seconds: float, most_per_second: int, certificate: Certificate | None = None
) -> tuple[Window, list[Figure]]:
    """Lets the schedulers loose on a backlog that outlasts the window; with a certificate, by HTTPS."""
    empty()
    warm_up = min(WARM_UP_S, seconds)
    count = int(most_per_second * processes**0.5 * (seconds + warm_up))
    path, ca_file = (certificate.path, certificate.ca_file) if certificate else (None, None)
    with target(path) as server:
        rows.fill(
            count,
            port=server.port,
            interval=INTERVAL,
            first_due_at=rows.clock() - INTERVAL * 0.9,
            step=INTERVAL * 0.9 / count,
            scheme="https" if certificate else "http",
        )
        rows.analyze()
        with ExitStack() as stack:
            schedulers = [stack.enter_context(Scheduler(url, *OPTIONS, ca_file=ca_file)) for _ in range(processes)]
            window = _count(schedulers, server, warm_up, seconds)
    return window, invariants("throughput, HTTPS" if certificate else _name(processes), server.receipts)


def _name(processes: int) -> str:
    return f"throughput, {processes} process" + "es" * (processes > 1)


def _count(schedulers: list[Scheduler], server: Target, warm_up: float, seconds: float) -> Window:
    pause = threading.Event()
    pause.wait(warm_up)
    begin, before = rows.clock(), _cpu(schedulers, server)
    pause.wait(seconds)
    end, after = rows.clock(), _cpu(schedulers, server)
    for scheduler in schedulers:
        scheduler.stop()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM runs WHERE finished_at >= %s AND finished_at < %s", [begin, end])
        executions = cursor.fetchone()[0]
        cursor.execute("SELECT EXISTS (SELECT FROM job_endpoints WHERE next_run_at < %s)", [end])
        assert cursor.fetchone()[0], "The backlog was worked off before the window ended."
    own, postgres, other = (
        None if first is None or last is None else last - first for first, last in zip(before, after, strict=True)
    )
    assert own is not None
    assert other is not None
    return Window((end - begin).total_seconds(), executions, own, postgres, other)


def _cpu(schedulers: list[Scheduler], server: Target) -> tuple[float, float | None, float]:
    return sum(cpu_seconds(scheduler.pid) for scheduler in schedulers), server_cpu_seconds(), cpu_seconds(server.pid)
