"""Degradation and recovery: watched closely while the error rate is above 5 %, and until it is below 2 %."""

from planner.evaluation.world import Member, Moment, Reply, Respond, Spell, Want, World

BEGIN, END = 60.0, 150.0


def _targets() -> dict[str, Respond]:
    def shop(at: Moment) -> Reply:
        """Its status page counts errors of the last minutes; between 2 and 5 % there is a long way down."""
        percent = 0.5 if not at.during(BEGIN, END) else 8.0 if at.minute < 120 else 3.5
        return Reply({"error_rate_pct": round(percent + at.dice.random(), 2)})

    def checkout(at: Moment) -> Reply:
        """Nobody counts here but the caller: a third of the calls fail."""
        broken = at.during(BEGIN, 120) and at.dice.random() < 0.33
        return Reply(status=503, duration_ms=900) if broken else Reply({"ok": True})

    return {"shop": shop, "checkout": checkout}


WORLD = World(
    name="degradation",
    summary="The error rate rises above 5 %, and much later falls below 2 %.",
    minutes=240,
    members=(
        Member(
            "shop",
            {"baseline_interval_ms": 300_000, "min_interval_ms": 30_000},
            description="Status page of the shop. Look every minute while error_rate_pct is above 5, until below 2.",
            rules=[
                {
                    "name": "errors",
                    "when": {"path": "$.error_rate_pct", "op": ">", "value": 5},
                    "until": {"path": "$.error_rate_pct", "op": "<", "value": 2},
                    "then": {"interval_ms": 60_000, "ttl_minutes": 60},
                }
            ],
        ),
        Member(
            "checkout",
            {"baseline_interval_ms": 180_000, "min_interval_ms": 30_000},
            description="Calls the checkout. Every minute while more than 5 % of the calls fail, until below 2 %.",
            rules=[
                {
                    "name": "failing calls",
                    "when": {"error_rate": {"op": ">", "value": 0.05, "runs": 10}},
                    "until": {"error_rate": {"op": "<", "value": 0.02, "runs": 20}},
                    "then": {"interval_ms": 60_000, "ttl_minutes": 60},
                }
            ],
        ),
    ),
    targets=_targets,
    spells=(
        Spell("shop", "errors above 5 %", BEGIN, END, shows=lambda run: run.number("$.error_rate_pct") > 2),
        Spell("checkout", "a third of the calls fail", BEGIN, 120),
    ),
    wants=(
        Want(
            "While things are well, nothing is changed.",
            lambda played: not played.applied("shop", 0, BEGIN) and not played.applied("checkout", 0, BEGIN),
        ),
        Want(
            "While the rate is high the shop is looked at at least every 2 minutes, also on its way down.",
            lambda played: played.longest_gap("shop", 75, END) <= 2,
        ),
        Want(
            "Once three calls have failed the checkout is called at least every 2 minutes.",
            lambda played: played.longest_gap("checkout", 98, 120) <= 2,
        ),
        Want(
            "Within a quarter of an hour after the recovery the shop is back on its own schedule.",
            lambda played: len(played.runs("shop", END + 15)) <= 16,
        ),
        Want(
            "Within half an hour after its recovery the checkout is back on its own schedule.",
            lambda played: len(played.runs("checkout", 150)) <= 31,
        ),
        Want("The pace of the shop changes twice.", lambda played: played.changes_of_pace("shop") == 2),
    ),
)
