"""Runs schedulers under faults and holds what the target saw against what they wrote down.

`python -m tests.chaos --seconds 60 --schedulers 3 --seed 1`; prints a report and exits 1 on a violation.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.arena import LEASE_SECONDS, Fleet, Postgres
from tests.chaos.target import Target, recording_target

if TYPE_CHECKING:
    from tests.chaos.checker import Report
    from tests.chaos.facts import EndpointFacts, RunFacts
    from tests.chaos.population import Population

# After the last fault: a lease runs out, what was lost is repeated, and what was missed is made up for.
CALM = LEASE_SECONDS + 6.0


def main() -> int:
    """Reads the arguments, runs, reports."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, help="how long faults are caused")
    parser.add_argument("--seconds", type=float, default=60, help="the same in seconds")
    parser.add_argument("--schedulers", type=int, default=3)
    parser.add_argument("--endpoints", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--faults", help="kinds of faults, separated by commas; all by default")
    parser.add_argument("--pause", type=float, default=2.5, help="longest time between two faults, in seconds")
    parser.add_argument("--outage", type=float, default=10, help="how long an outage of the database lasts, in seconds")
    options = parser.parse_args()
    if options.minutes is not None:
        options.seconds = options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="cronicorn-chaos-") as name:
        folder = Path(name)
        with closing(Postgres(folder / "postgres")) as postgres, recording_target(folder / "calls.log") as target:
            report = _run(folder, postgres, target, options)
        if report.violations:
            kept = Path(tempfile.mkdtemp(prefix="cronicorn-chaos-failed-"))
            for log in ("calls.log", "schedulers.log", "changes.log", "runs.log"):
                (folder / log).rename(kept / log)
            print(f"The logs are kept in {kept}.")
    print("\n".join(report.lines()))
    return 1 if report.violations else 0


def _run(folder: Path, postgres: Postgres, target: Target, options: argparse.Namespace) -> "Report":
    os.environ |= {"DATABASE_URL": postgres.url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    os.environ["TEST_DATA_DIR"] = str(folder)
    import django

    django.setup()
    from django.core.management import call_command

    from tests.chaos.checker import check
    from tests.chaos.editors import Editors, prepare_journal
    from tests.chaos.facts import Window
    from tests.chaos.injector import CONNECTING, FAULTS, Injector
    from tests.chaos.population import make_population

    call_command("migrate", verbosity=0)
    prepare_journal()
    began_at = _database_now()
    population = make_population(target, options.endpoints, seed=options.seed, seconds=options.seconds)
    fleet = Fleet(folder, options.schedulers)
    injector = Injector(
        fleet=fleet,
        postgres=postgres,
        seed=options.seed,
        kinds=options.faults.split(",") if options.faults else FAULTS,
        pause=options.pause,
        outage=options.outage,
    )
    print(
        f"seed {options.seed}, {options.schedulers} schedulers, {len(population.kinds)} endpoints,"
        f" {options.seconds:.0f} s of faults"
    )
    try:
        _wait_for_runs()
        # Nobody was there yet for what came due before.
        starting = Window(began_at, _database_now() + CONNECTING)
        with Editors(population, seed=options.seed) as editors:
            injector.run(options.seconds)
        editors.settle()
        died = fleet.died()
        threading.Event().wait(CALM)
        ended_at = _database_now()
        codes = fleet.drain()
    finally:
        fleet.close()
    faults = replace(injector.faults, others=(starting, *injector.faults.others))
    runs = _runs()
    for name, facts in (("changes.log", editors.changes), ("runs.log", runs)):
        (folder / name).write_text("".join(f"{fact}\n" for fact in facts), encoding="utf-8")
    report = check(target.calls(), runs, _endpoints(population), editors.changes, faults, ended_at=ended_at)
    report.violations += [f"a scheduler ended by itself with {code}" for code in died]
    report.violations += [f"a scheduler ended with {code} when it was told to stop" for code in codes if code]
    report.figures.update(Counter({f"fault {kind}": count for kind, count in injector.done.items()}))
    report.figures.update(Counter({f"change {kind}": count for kind, count in editors.done.items()}))
    return report


def _wait_for_runs() -> None:
    from jobs.models import Run
    from tests.support.processes import eventually

    eventually(lambda: Run.objects.filter(status="success").exists(), 60)


def _database_now() -> datetime:
    from django.db import connection

    from cronicorn.runtime.clock import database_now

    with connection.cursor() as cursor:
        return database_now(cursor)


def _runs() -> "list[RunFacts]":
    from jobs.models import Run
    from tests.chaos.facts import RunFacts

    return [
        RunFacts(
            endpoint_id=run.endpoint_id,
            slot=run.scheduled_for,
            due_at=run.due_at,
            attempt=run.attempt,
            source=run.source,
            status=run.status,
            error_kind=run.error_kind,
            claimed_at=run.claimed_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
            fence=run.fence,
            worker=run.worker,
            coalesced_slots=run.coalesced_slots,
            planned_at=datetime.fromisoformat(run.decision["inputs"]["now"]),
            after_slot=_instant(run.decision["inputs"].get("last_slot_at")),
            coalesced_cause=run.coalesced_cause,
        )
        for run in Run.objects.all()
    ]


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


def _endpoints(population: "Population") -> "list[EndpointFacts]":
    from jobs.models import Endpoint
    from tests.chaos.facts import EndpointFacts
    from tests.chaos.population import Kind

    return [
        EndpointFacts(
            id=endpoint.pk,
            label=endpoint.name,
            steady=population.kinds[endpoint.pk] is Kind.GRID,
            repeats=endpoint.on_worker_loss == "retry",
            interval=timedelta(milliseconds=endpoint.baseline_interval_ms or 0),
            anchor_at=endpoint.anchor_at,
            next_run_at=endpoint.next_run_at,
            lease_owner=endpoint.lease_owner,
            lease_until=endpoint.lease_until,
            once_at=endpoint.run_once_at,
            retry_limit=endpoint.retry_limit,
            last_slot_at=endpoint.last_slot_at,
        )
        for endpoint in Endpoint.objects.all()
    ]


if __name__ == "__main__":
    sys.exit(main())
