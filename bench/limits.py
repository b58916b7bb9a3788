"""What the same machine does with less work: the limits that the figures are held against."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from bench import rows
from bench.dispatch import bare_libcurl as libcurl_loop
from bench.place import empty
from cronicorn.postgres.binaries import find_binaries
from cronicorn.postgres.errors import EmbeddedPostgresError
from scheduling.exchange.outcome import Outcome, Timings
from scheduling.ledger.claims import Claim, claim_due
from scheduling.ledger.settlement import Result, settle
from scheduling.worker.requests import build_request

IN_FLIGHT = 200
BATCH = 100
WORKER = "bench"
LEASE = timedelta(minutes=10)
HEADERS = (("content-type", "application/json"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT"))

# What settling writes, for rows that the client itself has claimed: the arrays of the product become a join.
_SETTLE = """
BEGIN;
SELECT id FROM job_endpoints WHERE lease_owner = :'worker' ORDER BY id FOR NO KEY UPDATE;
SELECT clock_timestamp();
UPDATE runs r SET status = 'success', started_at = r.due_at, finished_at = clock_timestamp(), duration_ms = 1,
    connect_ms = 1, first_byte_ms = 1, total_ms = 1, status_code = 200
FROM job_endpoints e WHERE e.lease_owner = :'worker' AND r.endpoint_id = e.id AND r.status = 'running';
INSERT INTO run_responses (run_id, endpoint_id, received_at, body, truncated, flags, content_type, sha256, headers)
SELECT gen_random_uuid(), id, clock_timestamp(), '{"status":"ok"}', false, '[]', 'application/json', repeat('a', 64),
    '{"content-type": "application/json", "date": "Thu, 01 Jan 1970 00:00:00 GMT"}'
FROM job_endpoints WHERE lease_owner = :'worker';
UPDATE job_endpoints SET next_run_at = next_run_at + interval '1 hour', next_slot_at = next_slot_at + interval '1 hour',
    next_decision = next_decision, lease_owner = NULL, lease_until = NULL, last_run_at = clock_timestamp()
WHERE lease_owner = :'worker';
COMMIT;
"""


def bare_libcurl(port: int, *, calls: int, ca_file: Path | None = None) -> tuple[float, float]:
    """Calls a second, and CPU microseconds a call, of a loop that does nothing but call 200 hosts with libcurl.

    With the certificate authorities of a `ca_file` (PEM) it calls by HTTPS.
    """
    scheme = "https" if ca_file else "http"
    urls = [f"{scheme}://127.0.0.{1 + number % rows.HOSTS}:{port}/bare/{number}" for number in range(calls)]
    cpu, wall = time.process_time(), time.perf_counter()
    libcurl_loop(urls, IN_FLIGHT, str(ca_file or os.devnull))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return calls / wall, cpu * 1e6 / calls


def without_calls(*, batches: int) -> tuple[float, float]:
    """Executions a second, and CPU microseconds each, of claims, requests and settling where no call is made."""
    _backlog(batches * BATCH)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(batches):
        claims = claim_due(worker=WORKER, limit=BATCH, lease=LEASE)
        assert len(claims) == BATCH
        settle(worker=WORKER, results=[_answered(claim) for claim in claims])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return batches * BATCH / wall, cpu * 1e6 / (batches * BATCH)


def pgbench(url: str, *, batches: int, clients: int = 2) -> float | None:
    """Executions a second of PostgreSQL alone, claiming and settling in batches of 100; None without pgbench."""
    program = _pgbench()
    if program is None:
        return None
    each = max(batches // clients, 1)
    _backlog(each * clients * BATCH)
    # pgbench puts the number of its client in place of the variable.
    worker = f"('{WORKER}' || :client_id)"
    claim = claim_statement(limit=BATCH, worker=WORKER).replace(f"'{WORKER}'", worker)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "execution.sql")
        script.write_text(claim + ";\n" + _SETTLE.replace(":'worker'", worker), encoding="utf-8")
        command = [program, "--no-vacuum", f"--client={clients}", f"--jobs={clients}", f"--transactions={each}"]
        done = subprocess.run([*command, f"--file={script}", url], capture_output=True, text=True, check=False)
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    assert found is not None, done.stderr
    return float(found[1]) * BATCH


def claim_statement(*, limit: int, worker: str, horizon: timedelta = timedelta(0)) -> str:
    """The very SQL of a claim, values put in."""
    texts: list[str] = []

    def keep(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if "next_run_at" in sql and not texts:
            texts.append(context["cursor"].cursor.mogrify(sql, params))
        return execute(sql, params, many, context)

    with suppress(_UndoneError), transaction.atomic(), connection.execute_wrapper(keep):
        claim_due(worker=worker, limit=limit, lease=LEASE, horizon=horizon)
        raise _UndoneError
    return texts[0]


class _UndoneError(Exception):
    """Rolls a claim back."""


def _pgbench() -> str | None:
    try:
        beside = find_binaries() / "pgbench"
    except EmbeddedPostgresError:
        return shutil.which("pgbench")
    return str(beside) if beside.exists() else shutil.which("pgbench")


def _backlog(count: int) -> None:
    empty()
    hour = timedelta(hours=1)
    step = hour * 0.9 / count
    rows.fill(count, port=9, interval=hour, first_due_at=rows.clock() - hour * 0.9, step=step)
    rows.analyze()


def _answered(claim: Claim) -> Result:
    """What a call would have brought back, had it been made."""
    call = build_request(claim).call
    now_ns = time.monotonic_ns()
    outcome = Outcome(
        call=call,
        ok=True,
        error_kind=None,
        error_message=None,
        blame=None,
        status_code=200,
        timings=Timings(connect_ms=0.1, first_byte_ms=0.2, total_ms=0.4),
        started_ns=now_ns,
        finished_ns=now_ns,
        body='{"status":"ok"}',
        content_type="application/json",
        sha256="a" * 64,
        headers=HEADERS,
    )
    times = (claim.claimed_at, claim.claimed_at)
    return Result(outcome, claim.attempt, claim.slot_at, *times)
