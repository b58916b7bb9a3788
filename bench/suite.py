"""All benchmarks in turn, in a database of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from django.test.utils import override_settings

from bench import claims, discovery, hints, idle, lateness, throughput
from bench.figures import Figure, machine, table, write_json
from bench.place import BenchError, bench_database, endpoints_in_use

MEASURES: dict[str, Callable[[str, float], list[Figure]]] = {
    "throughput": throughput.measure,
    "https": throughput.measure_https,
    "lateness": lateness.measure,
    "hint": hints.measure,
    "claims": claims.measure,
    "idle": idle.measure,
    "discovery": discovery.measure,
}


def run(
    names: Sequence[str], *, seconds: float, write: Callable[[str], object], file: Path | None, anyway: bool
) -> None:
    """Measures, writes the table, and the JSON file where one is named.

    Raises BenchError where other work would suffer, unless `anyway`.
    """
    in_use = endpoints_in_use()
    if in_use and not anyway:
        raise BenchError(
            f"The configured database schedules {in_use} endpoints. The benchmarks have a database of their own, but "
            "would take machine and server from them, and they from the figures. Give --yes to run all the same."
        )
    # Debug mode would keep the text of every statement.
    with override_settings(DEBUG=False), bench_database() as url:
        facts = machine()
        figures: list[Figure] = []
        for name in names:
            write(f"{name} ...")
            figures += MEASURES[name](url, seconds)
    write("\n".join(f"{key}: {value}" for key, value in facts.items()))
    write(table(figures))
    if file is not None:
        write_json(file, facts, figures)
