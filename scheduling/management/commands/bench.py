"""`manage.py bench`: runs the benchmarks of the `bench` folder."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

ALL = ("throughput", "https", "lateness", "hint", "claims", "idle", "discovery")


class Command(BaseCommand):
    """Measures the scheduler and the planner's discovery, with limits of the same run beside each figure."""

    help = "Runs the benchmarks in a database of their own, which is dropped at the end. See docs/benchmarks.md."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declares the options."""
        parser.add_argument("measure", nargs="?", default="all", choices=[*ALL, "all"])
        parser.add_argument("--seconds", type=float, default=20.0, help="length of each window, in seconds")
        parser.add_argument("--json", type=Path, help="write the figures to this file, too")
        parser.add_argument("--yes", action="store_true", help="run although the database schedules endpoints")

    def handle(self, *args: Any, **options: Any) -> None:
        """Measures and prints. Raises CommandError where it cannot."""
        try:
            from bench.place import BenchError
            from bench.suite import run
        except ModuleNotFoundError as error:
            raise CommandError(f"The benchmarks need a checkout with the development packages: {error}.") from error
        if options["seconds"] <= 0:
            raise CommandError("--seconds must be above 0.")
        names = ALL if options["measure"] == "all" else (options["measure"],)
        try:
            run(
                names,
                seconds=options["seconds"],
                write=self.stdout.write,
                file=options["json"],
                anyway=options["yes"],
            )
        except BenchError as error:
            raise CommandError(str(error)) from error
