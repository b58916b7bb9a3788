"""Data volume: a backlog above 1000 items is worked off faster, and below 100 the own schedule is enough again."""

from dataclasses import dataclass
from itertools import pairwise

from planner.evaluation.world import Member, Moment, Reply, Respond, Spell, Want, World

BEGIN, END = 30.0, 60.0


@dataclass
class _Queue:
    """Items come in all the time; every call takes up to 500 of them away."""

    pending: float = 0
    minute: float = 0

    def work_off(self, at: Moment) -> Reply:
        flood = max(0.0, min(at.minute, END) - max(self.minute, BEGIN))
        self.pending += 20 * (at.minute - self.minute) + 180 * flood
        self.minute = at.minute
        found = round(self.pending)
        self.pending = max(0.0, self.pending - 500)
        return Reply({"pending": found}, duration_ms=2_000)


def _targets() -> dict[str, Respond]:
    return {"import": _Queue().work_off}


WORLD = World(
    name="volume",
    summary="A flood of items, ten times as many as usual for half an hour.",
    minutes=240,
    members=(
        Member(
            "import",
            {"baseline_interval_ms": 600_000, "min_interval_ms": 60_000},
            method="POST",
            description="Works off up to 500 items. Every minute while pending is above 1000, until below 100.",
            rules=[
                {
                    "name": "backlog",
                    "when": {"path": "$.pending", "op": ">", "value": 1000},
                    "until": {"path": "$.pending", "op": "<", "value": 100},
                    "then": {"interval_ms": 60_000, "ttl_minutes": 60},
                }
            ],
        ),
    ),
    targets=_targets,
    spells=(Spell("import", "more than 1000 pending", BEGIN, END, shows=lambda run: run.number("$.pending") > 1000),),
    wants=(
        Want(
            "A quarter of an hour after the flood less than 1000 are pending.",
            lambda played: all(run.number("$.pending") < 1000 for run in played.runs("import", END + 15)),
        ),
        Want("The calls stay a minute apart.", lambda played: _shortest_gap(played.minutes("import")) > 0.99),
        Want(
            "Then the own schedule is enough again.",
            lambda played: 14 <= len(played.runs("import", 90)) <= 16,
        ),
        Want("The pace changes twice.", lambda played: played.changes_of_pace("import") == 2),
    ),
)


def _shortest_gap(minutes: list[float]) -> float:
    return min(later - earlier for earlier, later in pairwise(minutes))
