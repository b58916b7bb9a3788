"""A flash sale of 40 minutes: a surge, slow pages, critical errors, recovery; ten endpoints in four tiers."""

from collections.abc import Callable
from dataclasses import dataclass

from planner.evaluation.play import Played
from planner.evaluation.world import Member, Moment, Reply, Respond, Spell, Want, World

SURGE, SLOW, CRITICAL, OVER = 5.0, 12.0, 20.0, 32.0
# Run by others only: nothing of it is due while the sale lasts.
ON_DEMAND = {"baseline_cron": "0 4 * * *"}


@dataclass
class _Shop:
    """The shop in the sale: more servers make its pages fast again, and a restart its checkout sound."""

    scaled_at: float | None = None
    restarted_at: float | None = None

    def traffic(self, at: Moment) -> Reply:
        busy = at.during(SURGE, OVER)
        return Reply({"requests_per_min": round((9_000 if busy else 900) * (0.9 + 0.2 * at.dice.random()))})

    def pages(self, at: Moment) -> Reply:
        helped = self.scaled_at is not None and at.minute >= self.scaled_at + 4
        p95 = 3_500 if at.during(SLOW, OVER) and not helped else 400
        return Reply({"p95_ms": round(p95 * (0.9 + 0.2 * at.dice.random()))}, duration_ms=p95)

    def checkout(self, at: Moment) -> Reply:
        sound = self.restarted_at is not None and at.minute >= self.restarted_at + 2
        if at.minute >= CRITICAL and not sound:
            return Reply({"error": "payment backend does not answer"}, status=503, duration_ms=5_000)
        return Reply({"ok": True}, duration_ms=200)

    def stock(self, at: Moment) -> Reply:
        return Reply({"in_stock": round(max(0.0, 5_000 - 120 * max(0.0, at.minute - SURGE)))})

    def scale_out(self, at: Moment) -> Reply:
        self.scaled_at = at.minute
        return Reply({"servers": 12}, duration_ms=8_000)

    def restart(self, at: Moment) -> Reply:
        self.restarted_at = at.minute
        return Reply({"restarted": True}, duration_ms=4_000)


def _done(at: Moment) -> Reply:
    return Reply({"done": True}, duration_ms=1_500)


def _targets() -> dict[str, Respond]:
    shop = _Shop()
    return {
        "traffic": shop.traffic,
        "pages": shop.pages,
        "checkout": shop.checkout,
        "stock": shop.stock,
        "slow-queries": _done,
        "error-digest": _done,
        "scale-out": shop.scale_out,
        "restart-checkout": shop.restart,
        "page-oncall": _done,
        "status-page": _done,
    }


def _above(path: str, high: float, low: float, interval_ms: int) -> dict[str, object]:
    return {
        "name": f"{path[2:]} above {high:g}",
        "when": {"path": path, "op": ">", "value": high},
        "until": {"path": path, "op": "<", "value": low},
        "then": {"interval_ms": interval_ms, "ttl_minutes": 20},
    }


def _once(sibling: str, when: dict[str, object]) -> dict[str, object]:
    return {"name": sibling, "when": when, "then": {"run_sibling": sibling, "ttl_minutes": 60}}


def _called_once_within(name: str, begin: float, minutes: float) -> Callable[[Played], bool]:
    def holds(played: Played) -> bool:
        called = played.minutes(name)
        return len(called) == 1 and begin <= called[0] <= begin + minutes

    return holds


WATCHED = {"baseline_interval_ms": 180_000, "min_interval_ms": 30_000}
SLOW_PAGES = {"path": "$.p95_ms", "op": ">", "value": 2_000}

WORLD = World(
    name="flashsale",
    summary="A flash sale: traffic surges at 5 minutes, pages slow down at 12, the checkout breaks at 20.",
    minutes=40,
    members=(
        Member(
            "traffic",
            WATCHED,
            tier="health",
            description="Traffic of the shop. Every 30 s while requests_per_min is above 5000, until below 2000.",
            rules=[_above("$.requests_per_min", 5_000, 2_000, 30_000)],
        ),
        Member(
            "pages",
            WATCHED,
            tier="health",
            description=(
                "Speed of the pages. While p95_ms is above 2000: every minute until below 1000, run scale-out once and "
                "slow-queries once."
            ),
            rules=[
                _above("$.p95_ms", 2_000, 1_000, 60_000),
                _once("scale-out", SLOW_PAGES),
                _once("slow-queries", SLOW_PAGES),
            ],
        ),
        Member(
            "checkout",
            WATCHED,
            tier="health",
            description=(
                "Buys something. While it fails: every minute, and after 2 failures in a row run restart-checkout and "
                "page-oncall once each."
            ),
            rules=[
                {"name": "failing", "when": {"failing_for": 1}, "then": {"interval_ms": 60_000, "ttl_minutes": 15}},
                _once("restart-checkout", {"failing_for": 2}),
                _once("page-oncall", {"failing_for": 2}),
                _once("error-digest", {"failing_for": 2}),
            ],
        ),
        Member(
            "stock",
            {"baseline_interval_ms": 300_000, "min_interval_ms": 60_000},
            tier="analysis",
            description="What is left. Every minute while in_stock is below 2000.",
            rules=[
                {
                    "name": "running out",
                    "when": {"path": "$.in_stock", "op": "<", "value": 2_000},
                    "then": {"interval_ms": 60_000, "ttl_minutes": 20},
                }
            ],
        ),
        Member("slow-queries", ON_DEMAND, tier="analysis", description="Reports slow queries, when pages are slow."),
        Member("error-digest", ON_DEMAND, tier="analysis", description="Sums up errors, when the checkout fails."),
        Member("scale-out", ON_DEMAND, tier="recovery", method="POST", description="Adds servers; takes 4 minutes."),
        Member("restart-checkout", ON_DEMAND, tier="recovery", method="POST", description="Takes 2 minutes."),
        Member("page-oncall", ON_DEMAND, tier="alerts", method="POST", description="Wakes the person on call."),
        Member(
            "status-page",
            {"baseline_interval_ms": 600_000},
            tier="alerts",
            method="POST",
            description="Publishes the state of the shop.",
        ),
    ),
    targets=_targets,
    spells=(
        Spell("traffic", "surge", SURGE, OVER, shows=lambda run: run.number("$.requests_per_min") > 5_000),
        Spell("pages", "slow pages", SLOW, OVER, shows=lambda run: run.number("$.p95_ms") > 2_000),
        Spell("checkout", "critical errors", CRITICAL, OVER),
    ),
    wants=(
        Want("The surge is watched every half minute.", lambda played: len(played.runs("traffic", 16, OVER)) >= 30),
        Want(
            "Servers are added once, within 8 minutes of the first slow page.",
            _called_once_within("scale-out", SLOW, 8),
        ),
        Want("The pages are fast again before the sale is over.", lambda played: _fast(played, 26)),
        Want(
            "The person on call is woken once, within 11 minutes of the first failure.",
            _called_once_within("page-oncall", CRITICAL, 11),
        ),
        Want(
            "The checkout is restarted once, within 11 minutes of the first failure.",
            _called_once_within("restart-checkout", CRITICAL, 11),
        ),
        Want("In the last 5 minutes people can buy.", lambda played: _all_well(played, 35)),
        Want(
            "Before the surge nothing is touched, and the status page never.",
            lambda played: (
                not any(e.applied and played.world.minute_of(e.at) < SURGE for e in played.entries)
                and not played.applied("status-page")
            ),
        ),
    ),
)


def _fast(played: Played, minute: float) -> bool:
    return all(run.number("$.p95_ms") < 1_000 for run in played.runs("pages", minute))


def _all_well(played: Played, minute: float) -> bool:
    runs = played.runs("checkout", minute)
    return bool(runs) and all(run.ok for run in runs)
