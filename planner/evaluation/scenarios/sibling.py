"""Sibling recovery: when a health check failed three times, the recovery endpoint runs once, not every time."""

from collections.abc import Callable
from dataclasses import dataclass

from planner.evaluation.play import Played
from planner.evaluation.world import Member, Moment, Reply, Respond, Spell, Want, World

OUTAGES = (30.0, 120.0)
HEALS_AFTER = 3.0


@dataclass
class _Service:
    """Breaks at the minutes of OUTAGES and stays broken until three minutes after the recovery was run."""

    broken_since: float = -1
    healed_at: float = 0

    def health(self, at: Moment) -> Reply:
        begun = max((begin for begin in OUTAGES if begin <= at.minute), default=None)
        if begun is None or begun <= self.healed_at <= at.minute:
            return Reply({"status": "ok"})
        return Reply({"status": "down"}, status=503, duration_ms=400)

    def recover(self, at: Moment) -> Reply:
        self.healed_at = at.minute + HEALS_AFTER
        return Reply({"restarted": True}, duration_ms=5_000)


def _targets() -> dict[str, Respond]:
    service = _Service()
    return {"health": service.health, "recovery": service.recover}


def _recovers_once(begin: float) -> Callable[[Played], bool]:
    return lambda played: len(played.runs("recovery", begin, begin + 60)) == 1


WORLD = World(
    name="sibling",
    summary="A service goes down twice, and comes back only when its recovery endpoint is called.",
    minutes=180,
    members=(
        Member(
            "health",
            {"baseline_interval_ms": 120_000, "min_interval_ms": 60_000},
            description=(
                "Health check. While it fails, look every minute. After 3 failures in a row run recovery once, and not "
                "again within 30 minutes."
            ),
            rules=[
                {"name": "down", "when": {"failing_for": 1}, "then": {"interval_ms": 60_000, "ttl_minutes": 30}},
                {"name": "recover", "when": {"failing_for": 3}, "then": {"run_sibling": "recovery", "ttl_minutes": 30}},
            ],
        ),
        Member(
            "recovery",
            {"baseline_cron": "0 4 * * *"},
            method="POST",
            description="Restarts the service; it takes 3 minutes.",
        ),
    ),
    targets=_targets,
    spells=tuple(Spell("health", "the service is down", begin, begin + 15) for begin in OUTAGES),
    wants=(
        *(
            Want(
                f"The outage at minute {begin:.0f} runs the recovery once.",
                _recovers_once(begin),
            )
            for begin in OUTAGES
        ),
        Want(
            "Not before three calls have failed.",
            lambda played: all(
                sum(not run.ok for run in played.runs("health", begin, minute)) >= 3
                for begin, minute in zip(OUTAGES, played.minutes("recovery"), strict=False)
            ),
        ),
        Want(
            "A quarter of an hour after it went down the service is up, and is seen to be.",
            lambda played: all(any(run.ok for run in played.runs("health", begin, begin + 16)) for begin in OUTAGES),
        ),
        Want(
            "The rest of the time the recovery is left alone.",
            lambda played: len(played.runs("recovery")) == len(OUTAGES),
        ),
    ),
)
