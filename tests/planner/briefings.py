"""Ten realistic endpoints as the planner briefs the model about them."""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from planner.analyst.briefing import ActionLine, Briefing, HealthLine, RunLine, SiblingLine

NOW = datetime(2026, 10, 5, 7, 0, tzinfo=UTC)


def minutes_ago(count: float) -> datetime:
    return NOW - timedelta(minutes=count)


def runs(
    *outcomes: tuple[str, int | None, float | None, str | None], every: float = 5, source: str = "baseline-interval"
) -> list[RunLine]:
    return [
        RunLine(minutes_ago(1 + number * every), status, code, duration, kind, source)
        for number, (status, code, duration, kind) in enumerate(outcomes)
    ]


OK = ("success", 200, 84.0, None)
HEALTHY = [
    HealthLine(1, 12, 12, 80.0, 120.0),
    HealthLine(4, 48, 48, 81.0, 130.0),
    HealthLine(24, 288, 287, 82.0, 140.0),
]

QUIET = Briefing(
    now=NOW,
    trigger="due",
    name="health",
    description="Is the shop up? Look closer while it is not.",
    method="GET",
    baseline="baseline every 5 min",
    limits_ms=(30_000, 900_000),
    failure_count=0,
    next_run_at=NOW + timedelta(minutes=4),
    next_source="baseline-interval",
    in_force=[],
    health=HEALTHY,
    runs=runs(*[OK] * 5),
    body='{"status": "ok"}',
    actions=[],
    siblings=[],
)


def _many_keys() -> str:
    chance = random.Random(7)
    return json.dumps({f"pool_{number:03}_connections_in_use": chance.randint(0, 10_000) for number in range(200)})


def _page() -> str:
    rows = "".join(f'<tr class="row"><td>Order {n}</td><td>{n * 37 % 101} EUR</td></tr>' for n in range(80))
    return f"<!doctype html>\n<html><head><title>Orders</title></head>\n<body><table>{rows}</table></body></html>"


def _endpoint(**fields: Any) -> Briefing:
    return replace(QUIET, **fields)


BRIEFINGS: dict[str, Briefing] = {
    "health_check": QUIET,
    "queue_depth": _endpoint(
        trigger="number out of range",
        name="queue depth",
        description="Poll every 30 s while queue_depth is above 100, and not more often than needed below 10.",
        in_force=["every 1 min until 2026-10-05 07:20:00 UTC (in 20 min) by model"],
        body='{"queue_depth": 412, "oldest_seconds": 93, "workers": 4}',
        actions=[
            ActionLine(
                minutes_ago(40), "propose_interval", {"interval_ms": 60_000, "ttl_minutes": 60}, "model, applied"
            ),
            ActionLine(minutes_ago(190), "clear_hints", {}, "model, applied"),
        ],
        siblings=[SiblingLine("drain", "Starts two more workers for ten minutes.", "success", 0, "auto")],
    ),
    "etl_status": _endpoint(
        trigger="never analysed",
        name="extract status",
        description="The nightly extract. When done, run 'transform' at once; while it is running, look every 2 min.",
        baseline="baseline cron 0 1 * * * in Europe/Berlin",
        body='{"state": "running", "rows_done": 1843201, "rows_total": 2400000, "eta": "2026-10-05T07:14:00Z"}',
        siblings=[
            SiblingLine("transform", "Cleans what was extracted; takes 10 min.", None, 0, "auto"),
            SiblingLine("load", "Loads into the warehouse; after transform.", "success", 0, "auto"),
        ],
    ),
    "price_feed": _endpoint(
        name="EUR/USD",
        description="Markets close on Friday 22:00 UTC and open on Sunday 22:00 UTC; no changes between.",
        limits_ms=(30_000, 2_400_000),
        body='{"pair":"EURUSD","bid":1.08412,"ask":1.08415,"at":"2026-10-05T06:59:58.412Z","venue":"XOFF"}',
        health=[
            HealthLine(1, 60, 60, 31.0, 55.0),
            HealthLine(4, 240, 240, 32.0, 58.0),
            HealthLine(24, 1440, 1440, 31.0, 57.0),
        ],
    ),
    "rate_limited": _endpoint(
        trigger="failures rose",
        name="search API",
        description="A partner's API, 100 calls an hour for all our callers together. Back off when it says 429.",
        failure_count=4,
        runs=runs(*[("failed", 429, 41.0, "http_error")] * 4, OK),
        health=[
            HealthLine(1, 12, 8, 44.0, 410.0),
            HealthLine(4, 48, 44, 380.0, 420.0),
            HealthLine(24, 288, 281, 381.0, 425.0),
        ],
        body='{"error": "rate limit exceeded", "limit": 100, "remaining": 0, "reset_in_seconds": 1740}',
    ),
    "cron_report": _endpoint(
        name="weekly report",
        description="",
        method="POST",
        baseline="baseline cron 0 6 * * 1 in America/New_York",
        limits_ms=(10_000, 86_400_000),
        next_source="baseline-cron",
        health=[HealthLine(1, 0, 0, None, None), HealthLine(4, 0, 0, None, None), HealthLine(24, 1, 0, None, None)],
        runs=runs(("failed", None, None, "timeout"), OK, every=7 * 24 * 60, source="baseline-cron"),
        failure_count=1,
        body=None,
    ),
    "two_hundred_keys": _endpoint(
        trigger="shape changed",
        name="metrics",
        description="Connection pools of the database fleet. What matters is whether any pool comes near 10,000. " * 8,
        body=_many_keys(),
        actions=[
            ActionLine(
                minutes_ago(60 * n), "propose_interval", {"interval_ms": 120_000, "ttl_minutes": 60}, "model, expired"
            )
            for n in range(1, 6)
        ],
        siblings=[
            SiblingLine(f"region {n}", "The same figures of another region, with its own pools.", "success", 0, "auto")
            for n in range(12)
        ],
    ),
    "html_page": _endpoint(name="orders page", description="Is the page there, and quick?", body=_page()),
    "not_english": _endpoint(
        name="очередь заказов",
        description="Проверяйте каждые 30 секунд, пока в очереди больше ста заказов; ночью достаточно раз в час. " * 3,
        body=json.dumps(
            {"状態": "混雑", "待ち行列": 412, "メッセージ": "現在、注文が集中しております。" * 40}, ensure_ascii=False
        ),
        siblings=[SiblingLine("再起動", "キューを再起動します。", "success", 0, "auto")],
    ),
    "one_shot": _endpoint(
        trigger="pause ends",
        name="send the launch mail",
        description="Once, when the release is out. If 'release gate' says no, wait until it says yes.",
        method="POST",
        baseline="once at 2026-10-05 09:00:00 UTC (in 2 h)",
        next_run_at=NOW + timedelta(hours=2),
        next_source="once",
        in_force=["paused until 2026-10-05 07:08:00 UTC (in 8 min) by model"],
        health=[HealthLine(hours, 0, 0, None, None) for hours in (1, 4, 24)],
        runs=[],
        body=None,
        siblings=[
            SiblingLine("release gate", "Answers yes or no.", "success", 0, "auto"),
            SiblingLine("smoke test", "Must have passed within the hour.", "failed", 2, "shadow"),
        ],
    ),
}
