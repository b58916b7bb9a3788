"""`manage.py evaluate_planner`: plays a scenario or a record with a planner and prints what would have happened."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from threading import Event
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from jobs.errors import ConflictError, InvalidInputError
from jobs.models import Endpoint
from planner.analyst.llm import Model, ModelAccess
from planner.evaluation.model import ModelPlanner
from planner.evaluation.play import Planner, Played, play
from planner.evaluation.record import TooManyRunsError, recorded
from planner.evaluation.report import Comparison
from planner.evaluation.rules import RulesPlanner
from planner.evaluation.scenarios import SCENARIOS
from planner.rules.snapshots import now

MOST_HOURS = 24 * 31
PLANNERS = ("rules", "model", "both", "none")


class Command(BaseCommand):
    """Plays on a virtual clock; nothing is called, changed or stored, and only `--planner model` uses the network."""

    help = "Plays a shipped scenario, or what an endpoint did, with a planner (docs/evaluation.md)."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declares the arguments."""
        parser.add_argument("scenario", nargs="?", help="a shipped scenario, by name")
        parser.add_argument("--list", action="store_true", help="list the shipped scenarios")
        parser.add_argument("--endpoint", type=UUID, help="play what this endpoint and its siblings did instead")
        parser.add_argument("--hours", type=float, default=24, help="how many hours up to now (24)")
        parser.add_argument(
            "--planner", choices=("rules", "model", "both", "none"), default="rules", help="who plans (rules)"
        )
        parser.add_argument("--most-analyses", type=int, default=200, help="ask the model for so many at most (200)")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Plays and prints. Raises CommandError for arguments that do not fit, and where the model gives up."""
        if options["list"]:
            width = max(map(len, SCENARIOS))
            self.stdout.write("\n".join(f"{name:<{width}}  {world.summary}" for name, world in SCENARIOS.items()))
            return
        if (options["scenario"] is None) == (options["endpoint"] is None):
            raise CommandError("Give either a scenario (--list shows them) or --endpoint.")
        with ExitStack() as stack:
            planners = self._planners(options, stack)
            comparison = self._compared(options, planners)
        if options["json"]:
            self.stdout.write(json.dumps(comparison.to_json(), indent=2))
        else:
            self.stdout.write("\n".join(comparison.lines()))
        for planner in planners:
            if isinstance(planner, ModelPlanner) and planner.gave_up is not None:
                raise CommandError(f"The model was not asked to the end: {planner.gave_up}")

    def _planners(self, options: dict[str, Any], stack: ExitStack) -> Sequence[Planner]:
        """Who plans. Raises CommandError where a model is wanted and none is set."""
        env, wanted = settings.ENV, options["planner"]
        planners: list[Planner] = []
        if wanted in ("rules", "both"):
            planners.append(RulesPlanner(heuristics=env.planner_backend != "openai"))
        if wanted in ("rules", "none"):
            return planners
        if not env.openai_api_key:
            raise CommandError("There is no model: set OPENAI_API_KEY.")
        model = stack.enter_context(Model(ModelAccess(env.openai_api_key, env.openai_base_url, env.ai_model)))
        planners.append(
            ModelPlanner(
                lambda said, tools, seconds: model.ask(said, tools, seconds=seconds),
                wait=Event().wait,
                most_sessions=options["most_analyses"],
            )
        )
        return planners

    def _compared(self, options: dict[str, Any], planners: Sequence[Planner]) -> Comparison:
        if options["scenario"] is not None:
            world = SCENARIOS.get(options["scenario"])
            if world is None:
                raise CommandError(f"There is no such scenario; choose one of {', '.join(SCENARIOS)}.")
            beside, label = play(world), "baseline"
        else:
            beside, label = self._recorded(options), "recorded"
        try:
            played = play(beside.world, *planners)
        except InvalidInputError as error:
            raise CommandError(f"The rules of an endpoint cannot be read: {error}") from None
        sessions = tuple(
            session for planner in planners if isinstance(planner, ModelPlanner) for session in planner.sessions
        )
        return Comparison(played, options["planner"], beside, label, sessions)

    def _recorded(self, options: dict[str, Any]) -> Played:
        if not 0 < options["hours"] <= MOST_HOURS:
            raise CommandError(f"Give --hours above 0 and at most {MOST_HOURS}.")
        end = now()
        try:
            return recorded(options["endpoint"], begin=end - timedelta(hours=options["hours"]), end=end)
        except Endpoint.DoesNotExist:
            raise CommandError("There is no endpoint of that id.") from None
        except (TooManyRunsError, ConflictError) as error:
            raise CommandError(str(error)) from None
