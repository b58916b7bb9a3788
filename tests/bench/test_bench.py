"""Each benchmark runs, in a database of its own, and finds nothing early, nothing twice and nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from bench import claims, discovery
from bench.figures import Figure, spread, table
from bench.ledger import read_receipts
from bench.place import NAME
from tests.support.factories import make_endpoint
from tests.support.processes import PROJECT_DIR, test_database_url

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]
NEVER = ("early starts", "doubled calls", "lost slots")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "DATABASE_URL": test_database_url(), "DJANGO_SETTINGS_MODULE": "cronicorn.settings"}
    command = [sys.executable, "manage.py", "bench", *arguments]
    return subprocess.run(command, cwd=PROJECT_DIR, env=environ, capture_output=True, text=True, timeout=170)


def figures_of(measure: str, file: Path) -> list[dict[str, Any]]:
    done = bench(measure, "--seconds", "1", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(file.read_text())
    assert {"at", "cores", "python", "postgresql", "commit", "load"} <= content["machine"].keys()
    assert content["figures"][0]["measure"] in done.stdout
    return content["figures"]  # type: ignore[no-any-return]


def databases() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        return {row[0] for row in cursor.fetchall()}


@pytest.mark.parametrize("measure", ["throughput", "https", "lateness", "hint"])
def test_calls_are_never_early_doubled_or_lost(measure: str, tmp_path: Path) -> None:
    figures = figures_of(measure, tmp_path / "figures.json")
    checks = [figure for figure in figures if figure["what"] in NEVER]
    assert {figure["what"] for figure in checks} == set(NEVER)
    assert [figure for figure in checks if figure["value"] != 0] == []
    assert any(figure["ratio"] is not None for figure in figures)
    assert NAME not in databases()


def test_idle_scheduler_is_measured_beside_a_bare_process(tmp_path: Path) -> None:
    figures = {figure["what"]: figure for figure in figures_of("idle", tmp_path / "figures.json")}
    assert figures["scheduler CPU"]["value"] >= 0
    assert figures["scheduler memory"]["ratio"] > 1


def test_claims_are_measured_at_each_size_with_leases_and_empty() -> None:
    figures = claims.measure("", 1, sizes=(12_000, 13_000))
    assert {figure.measure for figure in figures} == {"claim of 100 among 12,000", "claim of 100 among 13,000"}
    assert len({figure.what for figure in figures}) == 6
    assert all(figure.value is not None and figure.value > 0 for figure in figures)


def test_discovery_is_measured_at_each_size_and_reads_no_runs() -> None:
    figures = discovery.measure("", 1, sizes=(300, 600))
    assert {figure.measure for figure in figures} == {"discovery among 300", "discovery among 600"}
    values = {figure.what: figure.value for figure in figures}
    assert values.pop("scans of runs") == 0
    assert values["endpoints chosen"] == 100
    assert all(value is not None and value > 0 for value in values.values())


def test_database_that_schedules_endpoints_is_left_alone() -> None:
    make_endpoint()
    done = bench("idle", "--seconds", "1")
    assert done.returncode != 0
    assert "--yes" in done.stderr
    assert NAME not in databases()


def test_table_shows_value_and_ratio() -> None:
    line = table([Figure("m", "w", 300.0, "us", "bare loop", 200.0)]).splitlines()[-1]
    assert line.split() == ["m", "w", "300", "us", "1.50", "x", "200", "bare", "loop"]


def test_quantiles_of_a_hundred_values() -> None:
    assert spread([float(value) for value in range(1, 101)]) == {"p50": 51, "p95": 96, "p99": 100, "max": 100}
    assert spread([])["p50"] is None


def test_receipts_keep_time_slot_and_attempt(tmp_path: Path) -> None:
    file = tmp_path / "received.tsv"
    file.write_text("1500000000\t/e/1\t1970-01-01T00:00:01Z\tabc\t2\n1\t/bare/1\t\t\t\n")
    (receipt,) = read_receipts(file)
    assert (receipt.received_at, receipt.slot_at, receipt.delivery, receipt.attempt) == (1.5, 1.0, "abc", 2)
