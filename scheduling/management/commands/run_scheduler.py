"""`manage.py run_scheduler`: arguments in, worker out."""

import gc
import logging
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from cronicorn.logging import Event, log_event
from cronicorn.postgres.readiness import await_database
from cronicorn.runtime.stopping import Stop
from jobs.heartbeats import worker_name
from jobs.models import WorkerKind
from scheduling.dispatch import CurlDispatcher
from scheduling.dispatch.handles import PER_CALL, needed_for, raise_limit
from scheduling.egress.policy import installation_policy
from scheduling.worker.worker import Worker, WorkerOptions

logger = logging.getLogger(__name__)

# A thread that computes holds the others up for this long, in seconds; with Python's default of 5 ms one call in twenty
# started that much later.
SWITCH_INTERVAL = 0.0005
# Net new containers before the collector looks through them. Calls in flight are many and hold no cycles: with Python's
# default of 700 looking through them again and again was 8 % of a busy scheduler's CPU, so it is 1 %.
COLLECT_AFTER = 50_000

MOST = {"concurrency": 10_000, "per_host": 10_000, "batch_size": 10_000, "poll_interval": 3_600}


class Command(BaseCommand):
    """Runs one scheduler worker until SIGTERM or SIGINT; start as many as you like."""

    requires_system_checks: list[str] = []
    help = "Claims due endpoints, calls them and records what came back. A signal drains, a second one exits at once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declares the options; each default is a setting."""
        env = settings.ENV
        parser.add_argument(
            "--concurrency",
            type=int,
            default=env.scheduler_concurrency,
            help="calls in flight; one slot in ten is kept for owners with none, so give 2 at least",
        )
        parser.add_argument(
            "--per-host", type=int, default=env.scheduler_per_host, help="calls in flight to one destination host"
        )
        parser.add_argument("--batch-size", type=int, default=env.scheduler_batch_size, help="endpoints per claim")
        parser.add_argument(
            "--poll-interval",
            type=float,
            default=env.scheduler_poll_interval_ms / 1000,
            help="longest sleep when idle, in seconds",
        )
        parser.add_argument("--once", action="store_true", help="do what is due now, then exit")

    def handle(self, *args: Any, **options: Any) -> None:
        """Builds the worker and runs it. Raises CommandError for options out of range."""
        faults = [
            f"--{name.replace('_', '-')} must be above 0, and at most {most}."
            for name, most in MOST.items()
            if not 0 < options[name] <= most
        ]
        if faults:
            raise CommandError(" ".join(faults))
        if settings.ENV.egress_allow:
            log_event(logger, Event.EGRESS_ALLOWED, logging.WARNING, networks=settings.ENV.egress_allow)
        self._require_files(options["concurrency"])
        stop = Stop()
        stop.install()
        await_database(stop)
        if stop.requested():
            return
        worker = Worker(
            name=worker_name(WorkerKind.SCHEDULER),
            dispatcher=CurlDispatcher(installation_policy(settings.ENV), concurrency=options["concurrency"]),
            options=WorkerOptions(
                concurrency=options["concurrency"],
                per_host=options["per_host"],
                batch_size=min(options["batch_size"], options["concurrency"]),
                poll_interval=options["poll_interval"],
                lease=float(settings.ENV.lease_seconds),
            ),
            stop=stop,
        )
        if settings.DEBUG:
            # Django would keep the statements of each thread, megabytes of bodies included.
            type(connection).queries_limit = 0
        if options["once"]:
            self.stdout.write(f"{worker.run_once()} runs settled.")
            return
        sys.setswitchinterval(SWITCH_INTERVAL)
        # What is loaded stays for good: looking through all of it again held every call up for 70 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])
        worker.run()
        if worker.crashed:
            raise CommandError("A thread of the worker crashed; the log says where.")

    def _require_files(self, concurrency: int) -> None:
        """Raises the limit of open files as far as it may; raises CommandError where it is too low for the calls."""
        limit, needed = raise_limit(), needed_for(concurrency)
        if limit < needed:
            most = (limit - needed_for(0)) // PER_CALL
            instead = f", or set --concurrency to {most} at most" if most > 1 else ""
            raise CommandError(
                f"{concurrency} calls in flight need {needed} open files, and the limit is {limit}. Raise it (ulimit "
                f"-n, LimitNOFILE= of systemd, --ulimit of a container){instead}."
            )
