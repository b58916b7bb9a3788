"""Inverse load: a busy service is asked less often, an idle one more often."""

from dataclasses import dataclass

from planner.evaluation.world import Member, Moment, Reply, Respond, Spell, Want, World

BUSY, IDLE, USUAL = 60.0, 120.0, 180.0


@dataclass
class _Service:
    """Each call adds a little to the load of the next minutes."""

    called_at: float = -60
    extra: float = 0

    def load(self, at: Moment) -> Reply:
        self.extra = self.extra * 0.5 ** ((at.minute - self.called_at) / 2) + 2
        self.called_at = at.minute
        own = 90 if at.during(BUSY, IDLE) else 5 if at.during(IDLE, USUAL) else 50
        return Reply({"load_pct": round(own + self.extra + at.dice.random(), 1)})


def _targets() -> dict[str, Respond]:
    return {"batch": _Service().load}


WORLD = World(
    name="inverse",
    summary="A service is busy for an hour, then idle for an hour.",
    minutes=240,
    members=(
        Member(
            "batch",
            {"baseline_interval_ms": 300_000, "min_interval_ms": 60_000, "max_interval_ms": 1_800_000},
            method="POST",
            description=(
                "Does a batch of work. Every 15 minutes while load_pct is above 80, until below 70; every minute while "
                "it is below 20, until above 40."
            ),
            rules=[
                {
                    "name": "busy",
                    "when": {"path": "$.load_pct", "op": ">", "value": 80},
                    "until": {"path": "$.load_pct", "op": "<", "value": 70},
                    "then": {"interval_ms": 900_000, "ttl_minutes": 120},
                },
                {
                    "name": "idle",
                    "when": {"path": "$.load_pct", "op": "<", "value": 20},
                    "until": {"path": "$.load_pct", "op": ">", "value": 40},
                    "then": {"interval_ms": 60_000, "ttl_minutes": 60},
                },
            ],
        ),
    ),
    targets=_targets,
    spells=(
        Spell("batch", "the service is busy", BUSY, IDLE, shows=lambda run: run.number("$.load_pct") > 70),
        Spell("batch", "the service is idle", IDLE, USUAL, shows=lambda run: run.number("$.load_pct") < 40),
    ),
    wants=(
        Want("A busy service gets a third of the calls.", lambda played: len(played.runs("batch", 75, IDLE)) <= 4),
        Want("An idle service gets a call every minute.", lambda played: len(played.runs("batch", 145, USUAL)) >= 33),
        Want(
            "Before and after, the own schedule stands.",
            lambda played: len(played.runs("batch", 5, BUSY)) == 11 and 8 <= len(played.runs("batch", 195, 240)) <= 10,
        ),
    ),
)
