"""Oscillation guard: a figure that jitters round its threshold does not make the schedule jitter."""

from planner.evaluation.world import Member, Moment, Reply, Respond, Want, World

BEGIN, END = 20.0, 200.0


def _targets() -> dict[str, Respond]:
    def queue(at: Moment) -> Reply:
        level = 100 if at.during(BEGIN, END) else 40
        return Reply({"depth": level + at.dice.randint(-8, 8)})

    return {"queue": queue, "plain": queue}


WORLD = World(
    name="oscillation",
    summary="For three hours the depth of a queue jitters round the threshold of 100.",
    minutes=240,
    # In this one the plain rule would change the pace 30 times if nothing damped it.
    seed=5,
    members=(
        Member(
            "queue",
            {"baseline_interval_ms": 300_000, "min_interval_ms": 30_000},
            description="Depth of the queue. Every minute while depth is above 100, until below 80.",
            rules=[
                {
                    "name": "deep",
                    "when": {"path": "$.depth", "op": ">", "value": 100},
                    "until": {"path": "$.depth", "op": "<", "value": 80},
                    "then": {"interval_ms": 60_000, "ttl_minutes": 30},
                }
            ],
        ),
        Member(
            "plain",
            {"baseline_interval_ms": 300_000, "min_interval_ms": 30_000},
            description="The same queue, watched by a rule that says nothing of when to stop.",
            rules=[
                {
                    "name": "deep",
                    "when": {"path": "$.depth", "op": ">", "value": 100},
                    "then": {"interval_ms": 60_000, "ttl_minutes": 30},
                }
            ],
        ),
    ),
    targets=_targets,
    wants=(
        Want("The pace changes twice in four hours.", lambda played: played.changes_of_pace("queue") == 2),
        Want(
            "Between, the queue is looked at every minute.",
            lambda played: played.longest_gap("queue", BEGIN + 30, END) <= 1.1,
        ),
        Want(
            "Without an until it changes at most seven times an hour.",
            lambda played: played.changes_of_pace("plain") <= 7 * 3,
        ),
        Want("Then the own schedule is back.", lambda played: len(played.runs("queue", 215)) <= 6),
    ),
)
