"""`manage.py run_ai_planner`: arguments in, worker out."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from cronicorn.postgres.readiness import await_database
from cronicorn.runtime.stopping import Stop
from jobs.heartbeats import worker_name
from jobs.models import WorkerKind
from planner.analyst.llm import ModelAccess
from planner.analyst.modelpass import Analyst
from planner.worker import Planner, PlannerOptions


class Command(BaseCommand):
    """Runs one planner worker until SIGTERM or SIGINT."""

    requires_system_checks: list[str] = []
    help = "Reads runs and writes hints: the owner's rules every few seconds, the model where a key is set."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declares the options; each default is a setting."""
        env = settings.ENV
        parser.add_argument(
            "--rules-interval",
            type=float,
            default=env.planner_rules_interval_ms / 1000,
            help="pause between passes of the rules, in seconds",
        )
        parser.add_argument(
            "--analysis-interval",
            type=float,
            default=env.ai_analysis_interval_ms / 1000,
            help="pause between passes of the model, in seconds",
        )
        parser.add_argument("--once", action="store_true", help="make one pass of each kind, then exit")

    def handle(self, *args: Any, **options: Any) -> None:
        """Builds the worker and runs it. Raises CommandError for options out of range."""
        wrong = [name for name in ("rules_interval", "analysis_interval") if not options[name] > 0]
        if wrong:
            raise CommandError(" ".join(f"--{name.replace('_', '-')} must be above 0." for name in wrong))
        env, stop, name = settings.ENV, Stop(), worker_name(WorkerKind.PLANNER)
        stop.install()
        await_database(stop)
        if stop.requested():
            return
        model = None
        if env.planner_backend != "rules" and env.openai_api_key:
            access = ModelAccess(env.openai_api_key, env.openai_base_url, env.ai_model)
            model = Analyst(worker=name, access=access, concurrency=env.planner_concurrency)
        planner = Planner(
            name=name,
            options=PlannerOptions(
                rules_interval=options["rules_interval"],
                analysis_interval=options["analysis_interval"],
                heuristics=env.planner_backend != "openai",
            ),
            stop=stop,
            model=model,
        )
        if options["once"]:
            planner.run_once()
            self.stdout.write("One pass made.")
            return
        planner.run()
