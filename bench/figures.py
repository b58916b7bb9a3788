"""What a benchmark says: figures with their limits, machine facts, a table and a JSON file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.db import connection


@dataclass(frozen=True)
class Figure:
    """One measured value. `limit` is what the same machine did in the same run with less work: `beside` names it."""

    measure: str
    what: str
    value: float | None
    unit: str
    beside: str = ""
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """The value as a multiple of the limit; None without either."""
        return self.value / self.limit if self.limit and self.value is not None else None


def quantile(values: Sequence[float], part: float) -> float | None:
    """The nearest-rank quantile; None without values."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else None


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """p50, p95, p99 and max."""
    named = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: quantile(values, part) for name, part in named.items()}


def machine() -> dict[str, Any]:
    """The facts that figures depend on. `load` is the load average of the last minute before the run."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_name(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgresql": _one("SHOW server_version"),
        "synchronous_commit": _one("SHOW synchronous_commit"),
        "fsync": _one("SHOW fsync"),
        "commit": _commit(),
    }


def table(figures: Sequence[Figure]) -> str:
    """The figures as aligned plain text."""
    head = ("measure", "figure", "value", "unit", "ratio", "limit of the same run")
    rows = [
        (
            figure.measure,
            figure.what,
            _number(figure.value),
            figure.unit,
            f"{figure.ratio:.2f} x" if figure.ratio is not None else "",
            f"{_number(figure.limit)} {figure.beside}" if figure.limit is not None else "",
        )
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    right = (2, 4)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, tuple("-" * width for width in widths), *rows)
    )


def write_json(file: Path, facts: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Machine facts and figures, for later comparison."""
    values = [{**asdict(figure), "ratio": figure.ratio} for figure in figures]
    file.write_text(json.dumps({"machine": facts, "figures": values}, indent=1) + "\n", encoding="utf-8")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _one(statement: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return str(cursor.fetchone()[0])


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_name() -> str | None:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return None
