"""`manage.py simulate`: plays a scenario file in virtual time and prints what came of it."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cronicorn.runtime.clock import monotonic_ns
from scheduling.plan.wording import duration_words
from scheduling.simulation.engine import simulate
from scheduling.simulation.scenario import Scenario
from scheduling.simulation.scenario_file import read_scenario
from scheduling.simulation.scenario_reader import ScenarioError
from scheduling.simulation.tally import Report
from scheduling.simulation.timeline import LEGEND, TimeLine

MOST_DRAWN = 10


class Command(BaseCommand):
    """Plays a scenario without a database, a network or waiting."""

    help = "Plays a scenario (docs/simulation.md) through the scheduler's own rules in virtual time."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declares the arguments."""
        parser.add_argument("file", type=Path, help="the scenario, as JSON")
        parser.add_argument("--json", action="store_true", help="print the report as JSON, endpoint by endpoint")

    def handle(self, *args: Any, **options: Any) -> None:
        """Reads, plays, prints. Raises CommandError for a file that cannot be read or played."""
        scenario = _read(options["file"])
        timeline = TimeLine(scenario) if len(scenario.endpoints) <= MOST_DRAWN else None
        began = monotonic_ns()
        report = simulate(scenario, timeline.add if timeline is not None and not options["json"] else None)
        real_ms = max((monotonic_ns() - began) // 1_000_000, 1)
        if options["json"]:
            self.stdout.write(json.dumps({**report.to_json(), "real_ms": real_ms}, indent=2))
            return
        self.stdout.write("\n".join(_summary(report, real_ms)))
        if timeline is not None:
            self.stdout.write("")
            self.stdout.write("\n".join(_per_endpoint(report)))
            self.stdout.write(
                f"\nFrom {scenario.start:%Y-%m-%d %H:%M} UTC, {duration_words(timeline.column)} a column:"
            )
            self.stdout.write("\n".join(timeline.lines()))
            self.stdout.write(LEGEND)


def _read(file: Path) -> Scenario:
    try:
        return read_scenario(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}.") from None
    except ScenarioError as error:
        raise CommandError(f"{file} cannot be played:\n{error}") from None


def _summary(report: Report, real_ms: int) -> list[str]:
    span = report.end - report.start
    lines = [
        f"{report.scenario}: {len(report.endpoints)} endpoints over {duration_words(span)}",
        f"runs       {report.runs} ({report.failed} failed); the schedules ask for {report.expected}",
        f"slots      {report.folded} folded into later runs, {report.missed} missed",
        f"lateness   p50 {duration_words(report.lateness_p50_ms)}, p99 {duration_words(report.lateness_p99_ms)},"
        f" max {duration_words(report.lateness_max_ms)}",
    ]
    waited = report.longest_gap
    if waited is not None and waited.longest_gap_ms is not None:
        since = f"{waited.name} from {waited.longest_gap_from:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(f"gap        at most {duration_words(waited.longest_gap_ms)}: {since}")
    lines += [f"source     {source:<18} {count}" for source, count in report.by_source.items()]
    span_ms = round(span.total_seconds() * 1000)
    lines.append(
        f"speed      {duration_words(span)} in {duration_words(real_ms)}: {span_ms // real_ms} times real time"
    )
    return lines


def _per_endpoint(report: Report) -> list[str]:
    width = max(len(endpoint.name) for endpoint in report.endpoints)
    lines = [f"{'':<{width}}  expected  runs  failed  folded  missed  longest gap"]
    for item in report.endpoints:
        gap = "" if item.longest_gap_ms is None else duration_words(item.longest_gap_ms)
        counts = f"{item.expected:>8}  {item.runs:>4}  {item.failed:>6}  {item.folded:>6}  {item.missed:>6}"
        lines.append(f"{item.name:<{width}}  {counts}  {gap}")
    return lines
