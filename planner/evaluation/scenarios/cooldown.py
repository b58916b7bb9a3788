"""Cooldown: a restart takes a while to help, and until then nothing is restarted again, however the figures jump."""

from dataclasses import dataclass
from itertools import pairwise

from planner.evaluation.world import Member, Moment, Reply, Respond, Spell, Want, World

LEAKS = (30.0, 150.0)
HELPS_AFTER = 12.0
COOLDOWN_MS = 20 * 60_000


@dataclass
class _Service:
    """Leaks memory from the minutes of LEAKS on; a restart helps twelve minutes later."""

    helped_at: float = 0

    def memory(self, at: Moment) -> Reply:
        leak = max((begin for begin in LEAKS if begin <= at.minute), default=None)
        high = leak is not None and not leak <= self.helped_at <= at.minute
        return Reply({"memory_pct": round((88 if high else 40) + 10 * at.dice.random(), 1)})

    def restart(self, at: Moment) -> Reply:
        self.helped_at = at.minute + HELPS_AFTER
        return Reply({"restarted": True}, duration_ms=3_000)


def _targets() -> dict[str, Respond]:
    service = _Service()
    return {"service": service.memory, "restart": service.restart}


WORLD = World(
    name="cooldown",
    summary="Memory leaks twice and jumps round the threshold while the restart has not helped yet.",
    minutes=240,
    members=(
        Member(
            "service",
            {"baseline_interval_ms": 60_000},
            description="Memory of the service. Above 90 %, run restart.",
            rules=[
                {
                    "name": "memory",
                    "when": {"path": "$.memory_pct", "op": ">", "value": 90},
                    "then": {"run_sibling": "restart", "ttl_minutes": 5},
                }
            ],
        ),
        Member(
            "restart",
            {"baseline_cron": "0 4 * * *", "min_interval_ms": COOLDOWN_MS},
            method="POST",
            description="Restarts the service. It takes 12 minutes to help, so never twice within 20 minutes.",
        ),
    ),
    targets=_targets,
    spells=tuple(
        Spell("service", "memory leaks", begin, begin + 25, shows=lambda run: run.number("$.memory_pct") > 90)
        for begin in LEAKS
    ),
    wants=(
        Want("Each leak is met with one restart.", lambda played: len(played.runs("restart")) == len(LEAKS)),
        Want(
            "Two restarts are never closer than the cooldown.",
            lambda played: all(b - a >= COOLDOWN_MS / 60_000 for a, b in pairwise(played.minutes("restart"))),
        ),
        Want(
            "Half an hour after a leak has begun memory is fine.",
            lambda played: all(
                run.number("$.memory_pct") < 60
                for begin in LEAKS
                for run in played.runs("service", begin + 30, begin + 60)
            ),
        ),
    ),
)
