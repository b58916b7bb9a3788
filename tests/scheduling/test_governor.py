"""Every row of the truth table in docs/governor.md, and what the governor says about it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduling.cron.cadence import parse_cadence
from scheduling.plan.decision import Source, Verdict, as_of
from scheduling.plan.facts import AskedWait, EndpointFacts, IntervalHint, OneShotHint, Overdue, Retry
from scheduling.plan.governor import plan_next_run
from tests.support.schedules import DAY, HOUR, MINUTE, NOON, SECOND, endpoint, from_noon

TICK = timedelta(microseconds=1)
ONE_TICK_S = 1e-6
IN_TWO_HOURS = from_noon(hours=2)


def interval(interval_ms: int, **facts: Any) -> EndpointFacts:
    return endpoint(interval_ms=interval_ms, **facts)


def cron(expression: str, **facts: Any) -> EndpointFacts:
    return endpoint(cadence=parse_cadence(expression), **facts)


def once(at: datetime, **facts: Any) -> EndpointFacts:
    return endpoint(run_once_at=at, **facts)


def hint(interval_ms: int, expires_at: datetime | None = IN_TWO_HOURS, **more: Any) -> IntervalHint:
    return IntervalHint(interval_ms, expires_at, **more)


def failing(interval_ms: int, *, minutes: float, **facts: Any) -> EndpointFacts:
    """An interval whose runs have failed for so long up to the last slot."""
    last_slot_at = facts.setdefault("last_slot_at", NOON)
    facts.setdefault("failure_count", 5)
    return interval(interval_ms, failing_since=last_slot_at - timedelta(minutes=minutes), **facts)


def asked(facts: EndpointFacts, **wait: float) -> EndpointFacts:
    """The same after an answer at noon that asked to wait so long."""
    return replace(facts, server_wait=AskedWait(NOON, from_noon(**wait), "it answered 429 with Retry-After"))


def oneshot(expires_at: datetime | None = IN_TWO_HOURS, **offset: float) -> OneShotHint:
    return OneShotHint(from_noon(**offset), expires_at)


def retry(**offset: float) -> Retry:
    return Retry(from_noon(**offset), slot_at=NOON, attempt=2, limit=3)


BASE = interval(5 * MINUTE)

TRUTH_TABLE: dict[str, tuple[EndpointFacts, float | None, Source | None]] = {
    "interval 5m": (BASE, 300, Source.BASELINE_INTERVAL),
    "interval 5m, last slot 7 min ago: the next slot of the grid": (
        interval(
            5 * MINUTE,
            anchor_at=from_noon(minutes=-7),
            last_slot_at=from_noon(minutes=-7),
            last_started_at=from_noon(minutes=-7),
        ),
        180,
        Source.BASELINE_INTERVAL,
    ),
    "interval 5m, a hinted run 1 min ago off the grid, hint cleared: the grid, unmoved": (
        interval(5 * MINUTE, last_slot_at=from_noon(minutes=-1), last_started_at=from_noon(minutes=-1)),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "interval 5m, a hinted run 1 s after a slot of the grid: the slot after that": (
        interval(5 * MINUTE, last_slot_at=from_noon(seconds=1), last_started_at=from_noon(seconds=1)),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "interval 10m, max 5m, failing for 1 h, recovery within 2 h: back-off never makes it faster": (
        failing(10 * MINUTE, minutes=60, max_interval_ms=5 * MINUTE, recovery_check_ms=2 * HOUR),
        600,
        Source.BASELINE_INTERVAL,
    ),
    "first run of a new endpoint: one interval after its creation": (
        interval(5 * MINUTE, created_at=NOON, anchor_at=NOON, last_slot_at=None, last_started_at=None),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "cron */5, now on the boundary": (cron("*/5 * * * *"), 300, Source.BASELINE_CRON),
    "cron 0 9 * * *": (cron("0 9 * * *"), 75_600, Source.BASELINE_CRON),
    "interval 1m, 100 failures, no recovery check: never slower than the baseline": (
        failing(MINUTE, minutes=99, failure_count=100),
        60,
        Source.BASELINE_INTERVAL,
    ),
    "interval 1m, first failure, recovery within 1 h": (
        failing(MINUTE, minutes=0, recovery_check_ms=HOUR),
        60,
        Source.BASELINE_INTERVAL,
    ),
    "interval 1m, failing for 1 min": (
        failing(MINUTE, minutes=1, recovery_check_ms=HOUR),
        120,
        Source.BASELINE_INTERVAL,
    ),
    "interval 1m, failing for just under 3 min": (
        failing(MINUTE, minutes=2.99, recovery_check_ms=HOUR),
        120,
        Source.BASELINE_INTERVAL,
    ),
    "interval 1m, failing for 3 min": (
        failing(MINUTE, minutes=3, recovery_check_ms=HOUR),
        240,
        Source.BASELINE_INTERVAL,
    ),
    "interval 1m, failing for 31 min": (
        failing(MINUTE, minutes=31, recovery_check_ms=HOUR),
        1_920,
        Source.BASELINE_INTERVAL,
    ),
    "interval 1m, failing for a day: the bound on recovery": (
        failing(MINUTE, minutes=1_440, recovery_check_ms=HOUR),
        3_600,
        Source.BASELINE_INTERVAL,
    ),
    "interval 1m, failing for 31 min, 500 calls of a hint: the calls do not count": (
        failing(MINUTE, minutes=31, recovery_check_ms=HOUR, failure_count=500),
        1_920,
        Source.BASELINE_INTERVAL,
    ),
    "interval 1m, failing for 31 min, recovery within 7 min 30 s: the slot before that": (
        failing(MINUTE, minutes=31, recovery_check_ms=450 * SECOND),
        420,
        Source.BASELINE_INTERVAL,
    ),
    "interval 5m, failing for 15 min, last slot a hinted one 2 min ago: still within 20 min of it": (
        failing(5 * MINUTE, minutes=17, recovery_check_ms=HOUR, last_slot_at=from_noon(minutes=-2)),
        900,
        Source.BASELINE_INTERVAL,
    ),
    "interval 1m, recovery check shorter than the interval: the interval": (
        failing(MINUTE, minutes=31, recovery_check_ms=SECOND),
        60,
        Source.BASELINE_INTERVAL,
    ),
    "interval 1m, failing for 31 min, recovery within 1 h, max 5m": (
        failing(MINUTE, minutes=31, recovery_check_ms=HOUR, max_interval_ms=5 * MINUTE),
        300,
        Source.CLAMPED_MAX,
    ),
    "interval 1m, 2 failures by a worker that did not note since when": (
        interval(MINUTE, failure_count=2, recovery_check_ms=HOUR),
        60,
        Source.BASELINE_INTERVAL,
    ),
    "interval 1m, healthy again, the old streak still noted by an old worker": (
        interval(MINUTE, failing_since=from_noon(hours=-5), recovery_check_ms=HOUR),
        60,
        Source.BASELINE_INTERVAL,
    ),
    "base 5m, the server asked for 12 min": (asked(BASE, minutes=12), 720, Source.SERVER_ASKED),
    "base 5m, the server asked for 5 min": (asked(BASE, minutes=5), 300, Source.BASELINE_INTERVAL),
    "base 5m, the server asked for 2 min": (asked(BASE, minutes=2), 300, Source.BASELINE_INTERVAL),
    "base 5m, what the server asked for is over": (asked(BASE, minutes=-1), 300, Source.BASELINE_INTERVAL),
    "hint 30s, the server asked for 2 min": (
        asked(replace(BASE, interval_hint=hint(30 * SECOND)), minutes=2),
        120,
        Source.SERVER_ASKED,
    ),
    "a person's hint 30s, the server asked for 2 min": (
        asked(replace(BASE, interval_hint=hint(30 * SECOND, by_person=True)), minutes=2),
        120,
        Source.SERVER_ASKED,
    ),
    "hint 30s that ends in 1 min, the server asked for 2 min: its call comes late": (
        asked(replace(BASE, interval_hint=hint(30 * SECOND, from_noon(minutes=1))), minutes=2),
        120,
        Source.SERVER_ASKED,
    ),
    "one-shot +1m, the server asked for 2 min": (
        asked(replace(BASE, oneshot_hint=oneshot(minutes=1)), minutes=2),
        120,
        Source.SERVER_ASKED,
    ),
    "one-shot +3m, the server asked for 2 min": (
        asked(replace(BASE, oneshot_hint=oneshot(minutes=3)), minutes=2),
        180,
        Source.AI_ONESHOT,
    ),
    "hourly cron, the server asked for 1 h and 1 s: late, and not left out": (
        asked(cron("0 * * * *"), seconds=3_601),
        3_601,
        Source.SERVER_ASKED,
    ),
    "daily cron, the server asked for 10 min": (asked(cron("0 9 * * *"), minutes=10), 75_600, Source.BASELINE_CRON),
    "run once in 1 min, the server asked for 10 min": (
        asked(once(from_noon(minutes=1), last_slot_at=None), minutes=10),
        600,
        Source.SERVER_ASKED,
    ),
    "ends in 6 min, the server asked for 10 min: the slot was inside the window": (
        asked(replace(BASE, ends_at=from_noon(minutes=6)), minutes=10),
        600,
        Source.SERVER_ASKED,
    ),
    "paused for 10 min, the server asked for 15 min": (
        asked(replace(BASE, paused_until=from_noon(minutes=10)), minutes=15),
        900,
        Source.SERVER_ASKED,
    ),
    "paused for 15 min, the server asked for 10 min": (
        asked(replace(BASE, paused_until=from_noon(minutes=15)), minutes=10),
        900,
        Source.PAUSED,
    ),
    "retry in 2 s, daily cron, the server asked for 10 min": (
        asked(cron("0 9 * * *", retry=retry(seconds=2)), minutes=10),
        600,
        Source.RETRY,
    ),
    "retry in 2 s, interval 5m, the server asked for 10 min: the slot that waits comes first": (
        asked(replace(BASE, retry=retry(seconds=2)), minutes=10),
        600,
        Source.SERVER_ASKED,
    ),
    "run now, and the server asked for 10 min": (
        asked(replace(BASE, manual_run_at=NOON), minutes=10),
        ONE_TICK_S,
        Source.MANUAL,
    ),
    "cron */5, 5 failures": (cron("*/5 * * * *", failure_count=5), 300, Source.BASELINE_CRON),
    "base 5m, hint 30s": (replace(BASE, interval_hint=hint(30 * SECOND)), 30, Source.AI_INTERVAL),
    "base 5m, hint 30m": (replace(BASE, interval_hint=hint(30 * MINUTE)), 1_800, Source.AI_INTERVAL),
    "base 5m, hint 30m, expiring in 10m": (
        replace(BASE, interval_hint=hint(30 * MINUTE, from_noon(minutes=10))),
        600,
        Source.BASELINE_INTERVAL,
    ),
    "base 5m, hint 30m, expiring in 12m: the first slot from then": (
        replace(BASE, interval_hint=hint(30 * MINUTE, from_noon(minutes=12))),
        900,
        Source.BASELINE_INTERVAL,
    ),
    "hint 2s by the planner, min null": (replace(BASE, interval_hint=hint(2 * SECOND)), 10, Source.CLAMPED_MIN),
    "hint 2s by a person, min null": (
        replace(BASE, interval_hint=hint(2 * SECOND, by_person=True)),
        2,
        Source.AI_INTERVAL,
    ),
    "hint 1ms by a person, min null: 1 s": (
        replace(BASE, interval_hint=hint(1, by_person=True)),
        1,
        Source.CLAMPED_MIN,
    ),
    "hint 30h, max null: 24 h": (
        replace(BASE, interval_hint=hint(30 * HOUR, from_noon(hours=48))),
        86_400,
        Source.CLAMPED_MAX,
    ),
    "hint 30s, the last start long ago: now": (
        interval(
            5 * MINUTE,
            last_slot_at=from_noon(minutes=-3),
            last_started_at=from_noon(minutes=-3),
            interval_hint=hint(30 * SECOND),
        ),
        0,
        Source.AI_INTERVAL,
    ),
    "hint 30s before the first start: counted from the creation": (
        interval(
            5 * MINUTE,
            created_at=from_noon(seconds=-10),
            anchor_at=from_noon(seconds=-10),
            last_slot_at=None,
            last_started_at=None,
            interval_hint=hint(30 * SECOND),
        ),
        20,
        Source.AI_INTERVAL,
    ),
    "hourly cron, hint 30s": (cron("0 * * * *", interval_hint=hint(30 * SECOND)), 30, Source.AI_INTERVAL),
    "hint expired 1 ms ago": (
        replace(BASE, interval_hint=hint(30 * SECOND, from_noon(milliseconds=-1))),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "hint expires exactly now": (replace(BASE, interval_hint=hint(30 * SECOND, NOON)), 300, Source.BASELINE_INTERVAL),
    "hint has no expiry": (replace(BASE, interval_hint=hint(30 * SECOND, None)), 300, Source.BASELINE_INTERVAL),
    "cron, hint expired": (cron("*/5 * * * *", interval_hint=hint(30 * SECOND, NOON)), 300, Source.BASELINE_CRON),
    "base 5m, 5 failures, planner's hint 2m, min 1m": (
        replace(BASE, failure_count=5, min_interval_ms=MINUTE, interval_hint=hint(2 * MINUTE)),
        120,
        Source.AI_INTERVAL,
    ),
    "base 5m, 5 failures, planner's hint 2m, min null": (
        replace(BASE, failure_count=5, interval_hint=hint(2 * MINUTE)),
        300,
        Source.CLAMPED_MIN,
    ),
    "base 5m, 2 failures, planner's hint 2m, min null: not cautious yet": (
        replace(BASE, failure_count=2, interval_hint=hint(2 * MINUTE)),
        120,
        Source.AI_INTERVAL,
    ),
    "base 5m, 5 failures, a person's hint 2m, min null": (
        replace(BASE, failure_count=5, interval_hint=hint(2 * MINUTE, by_person=True)),
        120,
        Source.AI_INTERVAL,
    ),
    "cron, 3 failures, planner's hint 20s, min null": (
        cron("*/5 * * * *", failure_count=3, interval_hint=hint(20 * SECOND)),
        60,
        Source.CLAMPED_MIN,
    ),
    "interval 2s, 3 failures, planner's hint 2s: the floor is for speeding up only": (
        interval(2 * SECOND, failure_count=3, interval_hint=hint(2 * SECOND)),
        2,
        Source.AI_INTERVAL,
    ),
    "interval 5s, planner's hint 7s: slower than the baseline, so not moved to the floor": (
        interval(5 * SECOND, interval_hint=hint(7 * SECOND)),
        7,
        Source.AI_INTERVAL,
    ),
    "interval 5s, planner's hint 5s": (interval(5 * SECOND, interval_hint=hint(5 * SECOND)), 5, Source.AI_INTERVAL),
    "interval 5s, planner's hint 2s: not slower than the baseline": (
        interval(5 * SECOND, interval_hint=hint(2 * SECOND)),
        5,
        Source.CLAMPED_MIN,
    ),
    "hint 2s, max 5s: the maximum outranks the floor": (
        interval(5 * SECOND, max_interval_ms=5 * SECOND, interval_hint=hint(2 * SECOND)),
        5,
        Source.CLAMPED_MIN,
    ),
    "hint 5s, min 30s": (
        replace(BASE, min_interval_ms=30 * SECOND, interval_hint=hint(5 * SECOND)),
        30,
        Source.CLAMPED_MIN,
    ),
    "hint 2h, max 30m": (
        replace(BASE, max_interval_ms=30 * MINUTE, interval_hint=hint(2 * HOUR, from_noon(hours=4))),
        1_800,
        Source.CLAMPED_MAX,
    ),
    "base 5m, one-shot +2m": (replace(BASE, oneshot_hint=oneshot(minutes=2)), 120, Source.AI_ONESHOT),
    "base 5m, one-shot +10m": (replace(BASE, oneshot_hint=oneshot(minutes=10)), 300, Source.BASELINE_INTERVAL),
    "one-shot -5m, fresh: a slot after the last": (
        replace(BASE, oneshot_hint=oneshot(minutes=-5)),
        ONE_TICK_S,
        Source.AI_ONESHOT,
    ),
    "one-shot -5m, fresh, last slot 1 min ago: now": (
        replace(BASE, last_slot_at=from_noon(minutes=-1), oneshot_hint=oneshot(minutes=-5)),
        0,
        Source.AI_ONESHOT,
    ),
    "one-shot -5m, expired": (
        replace(BASE, oneshot_hint=oneshot(expires_at=NOON, minutes=-5)),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "one-shot without an expiry": (
        replace(BASE, oneshot_hint=oneshot(expires_at=None, minutes=2)),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "one-shot after its own expiry": (
        replace(BASE, oneshot_hint=oneshot(expires_at=from_noon(minutes=1), minutes=2)),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "one-shot +1m, min 2m: not sooner than that after the last start": (
        replace(BASE, min_interval_ms=2 * MINUTE, oneshot_hint=oneshot(minutes=1)),
        120,
        Source.AI_ONESHOT,
    ),
    "one-shot +1m, min 2m, never started": (
        replace(
            BASE, min_interval_ms=2 * MINUTE, last_slot_at=None, last_started_at=None, oneshot_hint=oneshot(minutes=1)
        ),
        60,
        Source.AI_ONESHOT,
    ),
    "one-shot +10m, baseline backed off to 32m": (
        failing(MINUTE, minutes=31, recovery_check_ms=HOUR, oneshot_hint=oneshot(minutes=10)),
        600,
        Source.AI_ONESHOT,
    ),
    "one-shot +3m and hint 2m": (
        replace(BASE, interval_hint=hint(2 * MINUTE), oneshot_hint=oneshot(minutes=3)),
        120,
        Source.AI_INTERVAL,
    ),
    "one-shot +1m and hint 2m": (
        replace(BASE, interval_hint=hint(2 * MINUTE), oneshot_hint=oneshot(minutes=1)),
        60,
        Source.AI_ONESHOT,
    ),
    "one-shot at the very slot of the baseline: its run consumes it": (
        replace(BASE, oneshot_hint=oneshot(minutes=5)),
        300,
        Source.AI_ONESHOT,
    ),
    "daily cron, max 1h, no hint": (cron("0 9 * * *", max_interval_ms=HOUR), 75_600, Source.BASELINE_CRON),
    "minutely cron, min 90s, no hint": (
        cron("* * * * *", min_interval_ms=90 * SECOND),
        60,
        Source.BASELINE_CRON,
    ),
    "paused +10m": (replace(BASE, paused_until=from_noon(minutes=10)), 600, Source.PAUSED),
    "paused +10m, hint 30s": (
        replace(BASE, paused_until=from_noon(minutes=10), interval_hint=hint(30 * SECOND)),
        600,
        Source.PAUSED,
    ),
    "paused +10m, hint 30m": (
        replace(BASE, paused_until=from_noon(minutes=10), interval_hint=hint(30 * MINUTE)),
        600,
        Source.PAUSED,
    ),
    "paused +10m, one-shot +2m": (
        replace(BASE, paused_until=from_noon(minutes=10), oneshot_hint=oneshot(minutes=2)),
        600,
        Source.PAUSED,
    ),
    "paused +10m, cron */30": (cron("*/30 * * * *", paused_until=from_noon(minutes=10)), 1_800, Source.PAUSED),
    "paused +30m, cron */30: the slot at the very end of the pause": (
        cron("*/30 * * * *", paused_until=from_noon(minutes=30)),
        1_800,
        Source.PAUSED,
    ),
    "paused +10m, hourly cron, hint 30s: what the hint asks for as seen from the end of the pause": (
        cron("0 * * * *", paused_until=from_noon(minutes=10), interval_hint=hint(30 * SECOND)),
        600,
        Source.PAUSED,
    ),
    "paused +10m, cron */30, run now pressed meanwhile": (
        cron(
            "*/30 * * * *",
            paused_until=from_noon(minutes=10),
            last_slot_at=from_noon(minutes=-30),
            manual_run_at=NOON,
        ),
        0,
        Source.MANUAL,
    ),
    "paused +10m and starts_at +1h: the first slot from the start": (
        replace(BASE, paused_until=from_noon(minutes=10), starts_at=from_noon(minutes=62)),
        65 * 60,
        Source.PAUSED,
    ),
    "paused +10m, run_once_at +5m: at the end of the pause": (
        once(from_noon(minutes=5), paused_until=from_noon(minutes=10)),
        600,
        Source.PAUSED,
    ),
    "paused +10m, run_once_at +1h: as planned": (
        once(from_noon(hours=1), paused_until=from_noon(minutes=10)),
        3_600,
        Source.PAUSED,
    ),
    "paused beyond ends_at": (
        replace(BASE, paused_until=from_noon(hours=1), ends_at=from_noon(minutes=30)),
        None,
        None,
    ),
    "failed, retry 1 of 3 after 2 s, next slot in 5m": (replace(BASE, retry=retry(seconds=2)), 2, Source.RETRY),
    "failed, retry 1 of 3 after 2 s, next slot in 1 s": (
        interval(SECOND, retry=retry(seconds=2)),
        1,
        Source.BASELINE_INTERVAL,
    ),
    "failed, retry at the very time of the next slot": (
        replace(BASE, retry=retry(minutes=5)),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "failed, retry in 2 s, one-shot in 1 s": (
        replace(BASE, retry=retry(seconds=2), oneshot_hint=oneshot(seconds=1)),
        1,
        Source.AI_ONESHOT,
    ),
    "failed, retry after 2 s, paused +10m": (
        replace(BASE, retry=retry(seconds=2), paused_until=from_noon(minutes=10)),
        600,
        Source.PAUSED,
    ),
    "failed, retry after 2 s, paused +10m, daily cron: the retry waits for the end of the pause": (
        cron("0 9 * * *", retry=retry(seconds=2), paused_until=from_noon(minutes=10)),
        600,
        Source.RETRY,
    ),
    "failed run-once, retry after 2 s": (once(NOON, retry=retry(seconds=2)), 2, Source.RETRY),
    "run_once_at +1h": (once(from_noon(hours=1)), 3_600, Source.RUN_ONCE),
    "run_once_at, after it ran": (once(NOON), None, None),
    "run_once_at, after it ran, with both hints": (
        once(NOON, interval_hint=hint(30 * SECOND), oneshot_hint=oneshot(minutes=2)),
        None,
        None,
    ),
    "run_once_at, after it ran, run now": (
        once(from_noon(minutes=-5), manual_run_at=from_noon(seconds=1)),
        1,
        "manual",
    ),
    "run_once_at 5 min ago, not run yet: due since then": (
        once(from_noon(minutes=-5), last_slot_at=None),
        -300,
        Source.RUN_ONCE,
    ),
    "run_once_at +1h, interval hint 30s: once stays once": (
        once(from_noon(hours=1), interval_hint=hint(30 * SECOND)),
        3_600,
        Source.RUN_ONCE,
    ),
    "run_once_at +1h, one-shot +2m": (once(from_noon(hours=1), oneshot_hint=oneshot(minutes=2)), 120, "ai-oneshot"),
    "run_once_at +1h, starts_at +2h": (once(from_noon(hours=1), starts_at=from_noon(hours=2)), 7_200, Source.RUN_ONCE),
    "ends_at before the next slot": (replace(BASE, ends_at=from_noon(minutes=4)), None, None),
    "ends_at at the next slot": (replace(BASE, ends_at=from_noon(minutes=5)), None, None),
    "ends_at just after the next slot": (replace(BASE, ends_at=from_noon(minutes=5) + TICK), 300, "baseline-interval"),
    "ends_at before the hinted time": (
        replace(BASE, ends_at=from_noon(minutes=20), interval_hint=hint(30 * MINUTE)),
        None,
        None,
    ),
    "ends_at before the next slot, hint 30s": (
        replace(BASE, ends_at=from_noon(minutes=4), interval_hint=hint(30 * SECOND)),
        30,
        Source.AI_INTERVAL,
    ),
    "ends_at before the next slot, one-shot +2m": (
        replace(BASE, ends_at=from_noon(minutes=4), oneshot_hint=oneshot(minutes=2)),
        120,
        Source.AI_ONESHOT,
    ),
    "ends_at before the one-shot, baseline inside": (
        replace(BASE, jitter=timedelta(minutes=3), ends_at=from_noon(minutes=6), oneshot_hint=oneshot(minutes=7)),
        480,
        Source.BASELINE_INTERVAL,
    ),
    "ends_at past, run now": (
        replace(BASE, ends_at=from_noon(hours=-1), manual_run_at=from_noon(seconds=1)),
        1,
        "manual",
    ),
    "retry of a slot that the window no longer covers": (
        replace(BASE, starts_at=from_noon(minutes=1), retry=retry(seconds=2)),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "starts_at +1d, interval": (replace(BASE, starts_at=from_noon(days=1)), DAY / 1_000, Source.BASELINE_INTERVAL),
    "starts_at +1d, cron": (cron("*/5 * * * *", starts_at=from_noon(days=1)), DAY / 1_000, Source.BASELINE_CRON),
    "starts_at +1d and 1 min: the first slot of the grid from then": (
        replace(BASE, starts_at=from_noon(days=1, minutes=1)),
        DAY / 1_000 + 300,
        Source.BASELINE_INTERVAL,
    ),
    "starts_at +1d, hint 30s: from then": (
        replace(BASE, starts_at=from_noon(days=1), interval_hint=hint(30 * SECOND, from_noon(days=2))),
        DAY / 1_000,
        Source.AI_INTERVAL,
    ),
    "starts_at +1d, one-shot +2m: from then": (
        replace(BASE, starts_at=from_noon(days=1), oneshot_hint=oneshot(from_noon(days=2), minutes=2)),
        DAY / 1_000,
        Source.AI_ONESHOT,
    ),
    "starts_at in the past, before the anchor": (
        interval(
            5 * MINUTE,
            anchor_at=from_noon(minutes=-1),
            starts_at=from_noon(hours=-3),
            jitter=timedelta(minutes=10),
            last_slot_at=None,
        ),
        4 * 60 + 600,
        Source.BASELINE_INTERVAL,
    ),
    "paused until exactly now": (replace(BASE, paused_until=NOON), 300, Source.BASELINE_INTERVAL),
    "paused until a time in the past": (
        replace(BASE, paused_until=from_noon(minutes=-1)),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "run now": (replace(BASE, last_slot_at=from_noon(minutes=-5), manual_run_at=NOON), 0, Source.MANUAL),
    "run now in the very moment of the last slot": (replace(BASE, manual_run_at=NOON), ONE_TICK_S, Source.MANUAL),
    "run now at the very time of the next slot: one call serves both": (
        replace(BASE, manual_run_at=from_noon(minutes=5)),
        300,
        Source.MANUAL,
    ),
    "run now, a retry comes before it": (
        replace(BASE, retry=retry(seconds=1), manual_run_at=from_noon(seconds=2)),
        1,
        Source.RETRY,
    ),
    "run now, the slot of a lost worker is repeated first": (
        replace(
            BASE,
            last_slot_at=from_noon(minutes=-5),
            retry=replace(retry(seconds=-1), after_loss=True),
            manual_run_at=from_noon(seconds=-9),
        ),
        -1,
        Source.RETRY,
    ),
    "run now in a pause that holds the slot of a lost worker back": (
        replace(
            BASE,
            last_slot_at=from_noon(minutes=-5),
            retry=replace(retry(seconds=-1), after_loss=True),
            manual_run_at=from_noon(seconds=-9),
            paused_until=from_noon(minutes=9),
        ),
        -9,
        Source.MANUAL,
    ),
    "run now, a retry is still to come": (
        replace(BASE, last_slot_at=from_noon(minutes=-5), retry=retry(seconds=1), manual_run_at=from_noon(seconds=-9)),
        -9,
        Source.MANUAL,
    ),
    "jitter 20s": (replace(BASE, jitter=timedelta(seconds=20)), 320, Source.BASELINE_INTERVAL),
    "jitter 20s, 10 s after a slot that has not started yet": (
        interval(
            5 * MINUTE,
            anchor_at=from_noon(seconds=-10),
            created_at=from_noon(days=-2),
            last_slot_at=None,
            starts_at=from_noon(seconds=-10),
            jitter=timedelta(seconds=20),
        ),
        10,
        Source.BASELINE_INTERVAL,
    ),
    "jitter 10m, cron */5, created 1 min ago: no slot before the creation": (
        cron(
            "*/5 * * * *",
            created_at=from_noon(minutes=-1),
            last_slot_at=None,
            jitter=timedelta(minutes=10),
        ),
        600,
        Source.BASELINE_CRON,
    ),
    "overdue for 3 s, waiting for a worker": (
        replace(
            BASE,
            last_slot_at=from_noon(minutes=-5),
            overdue=Overdue(from_noon(seconds=-3), Source.BASELINE_INTERVAL, from_noon(seconds=-3)),
        ),
        -3,
        Source.BASELINE_INTERVAL,
    ),
    "overdue, then a hint and a one-shot come": (
        replace(
            BASE,
            last_slot_at=from_noon(minutes=-5),
            interval_hint=hint(30 * MINUTE),
            oneshot_hint=oneshot(minutes=-1),
            overdue=Overdue(from_noon(seconds=-3), Source.BASELINE_INTERVAL, from_noon(seconds=-3)),
        ),
        -3,
        Source.BASELINE_INTERVAL,
    ),
    "overdue run-once": (
        once(
            from_noon(minutes=-5),
            last_slot_at=None,
            overdue=Overdue(from_noon(minutes=-5), Source.RUN_ONCE, from_noon(minutes=-5)),
        ),
        -300,
        Source.RUN_ONCE,
    ),
    "overdue with nothing else to come": (
        replace(
            BASE,
            last_slot_at=from_noon(minutes=-5),
            ends_at=from_noon(seconds=-1),
            overdue=Overdue(from_noon(seconds=-3), Source.BASELINE_INTERVAL, from_noon(seconds=-3)),
        ),
        -3,
        Source.BASELINE_INTERVAL,
    ),
    "overdue, but served meanwhile": (
        replace(BASE, overdue=Overdue(NOON, Source.BASELINE_INTERVAL, NOON)),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "overdue, but outside the window since an edit": (
        replace(
            BASE,
            last_slot_at=from_noon(minutes=-5),
            starts_at=from_noon(minutes=1),
            overdue=Overdue(from_noon(seconds=-3), Source.BASELINE_INTERVAL, from_noon(seconds=-3)),
        ),
        300,
        Source.BASELINE_INTERVAL,
    ),
    "overdue, then paused +10m": (
        replace(
            BASE,
            last_slot_at=from_noon(minutes=-5),
            paused_until=from_noon(minutes=10),
            overdue=Overdue(from_noon(seconds=-3), Source.BASELINE_INTERVAL, from_noon(seconds=-3)),
        ),
        600,
        Source.PAUSED,
    ),
    "overdue retry: kept by its own columns, and before a run-once slot of the same moment": (
        once(
            NOON,
            last_slot_at=from_noon(minutes=-1),
            retry=replace(retry(seconds=0), slot_at=from_noon(minutes=-1)),
            overdue=Overdue(from_noon(minutes=-1), Source.RETRY, NOON),
        ),
        0,
        Source.RETRY,
    ),
    "overdue run-now: kept by its own column": (
        replace(
            BASE,
            last_slot_at=from_noon(minutes=-5),
            manual_run_at=from_noon(seconds=-3),
            overdue=Overdue(from_noon(seconds=-3), Source.MANUAL, from_noon(seconds=-3)),
        ),
        -3,
        Source.MANUAL,
    ),
    "endpoint paused by a person": (replace(BASE, blocked="the endpoint is paused"), None, None),
    "job archived, run now": (replace(BASE, blocked="its job is archived", manual_run_at=NOON), None, None),
    "cron at the end of the calendar": (
        cron("*/5 * * * *", last_slot_at=datetime(9998, 12, 31, 23, 59, tzinfo=UTC)),
        None,
        None,
    ),
    "cron, paused to the end of the calendar": (
        cron("*/5 * * * *", paused_until=datetime(9998, 12, 31, 23, 59, tzinfo=UTC)),
        None,
        None,
    ),
}


@pytest.mark.parametrize(("facts", "seconds", "source"), TRUTH_TABLE.values(), ids=TRUTH_TABLE.keys())
def test_truth_table(facts: EndpointFacts, seconds: float | None, source: str | None) -> None:
    decision = plan_next_run(facts, NOON)
    offset = None if decision.run_at is None else (decision.run_at - NOON).total_seconds()
    assert (offset, decision.source) == (seconds, source), decision.sentence


SENTENCES: dict[str, tuple[EndpointFacts, str]] = {
    "the planner's hint, with its reason": (
        replace(BASE, interval_hint=hint(30 * SECOND, from_noon(minutes=40), reason="queue_depth is 412.")),
        "Every 30 s until 12:40 UTC, set by the planner because queue_depth is 412; baseline would be 12:05 UTC.",
    ),
    "a person's hint, clamped": (
        replace(BASE, min_interval_ms=MINUTE, interval_hint=hint(30 * SECOND, by_person=True)),
        "Every 1 min (clamped from 30 s) until 14:00 UTC, set by a person; baseline would be 12:05 UTC.",
    ),
    "a hint without a baseline in the window": (
        replace(BASE, ends_at=from_noon(minutes=4), interval_hint=hint(30 * SECOND)),
        "Every 30 s until 14:00 UTC, set by the planner.",
    ),
    "a hint that ends first": (
        replace(BASE, interval_hint=hint(30 * MINUTE, from_noon(minutes=12))),
        "Every 5 min by the baseline; the next slot is 12:15 UTC."
        " The hint of 30 min, set by the planner, ends at 12:12 UTC, before its next call.",
    ),
    "back-off": (
        failing(MINUTE, minutes=3, failure_count=1, recovery_check_ms=HOUR),
        "Backed off to every 4 min, failing since 11:57 UTC (1 failure); the next slot is 12:04 UTC.",
    ),
    "back-off, limited": (
        failing(MINUTE, minutes=31, max_interval_ms=5 * MINUTE, recovery_check_ms=HOUR),
        "Backed off to every 5 min, failing since 11:29 UTC (5 failures in a row), limited by the maximum interval;"
        " the next slot is 12:05 UTC.",
    ),
    "what the server asked for": (
        asked(BASE, minutes=12),
        "The server asked to wait until 12:12 UTC because it answered 429 with Retry-After; it runs then.",
    ),
    "a cron on another day": (
        cron("0 9 * * *"),
        "By the cron expression 0 9 * * * in UTC; the next slot is 2026-03-03 09:00 UTC.",
    ),
    "jitter": (
        replace(BASE, jitter=timedelta(seconds=20)),
        "Every 5 min by the baseline; the next slot is 12:05 UTC, started 20 s later by its jitter.",
    ),
    "once": (once(from_noon(hours=1)), "Once, at 13:00 UTC."),
    "once, after a pause": (
        once(from_noon(minutes=-9), last_slot_at=None, paused_until=from_noon(minutes=-1)),
        "Once, at 11:51 UTC, held back by the pause.",
    ),
    "a one-shot": (
        replace(BASE, oneshot_hint=OneShotHint(from_noon(minutes=2), IN_TWO_HOURS, "a deploy ends\nthen!")),
        "Once at 12:02 UTC, set by the planner because a deploy ends then; otherwise it would be 12:05 UTC.",
    ),
    "a one-shot on the slot of the baseline": (
        replace(BASE, oneshot_hint=oneshot(minutes=5)),
        "Once at 12:05 UTC, set by the planner.",
    ),
    "a retry": (
        replace(BASE, retry=retry(seconds=2)),
        "Retry 1 of 3 at 12:00:02 UTC for the slot of 12:00 UTC.",
    ),
    "a repeat of a call that was cut off, beyond the retries of the owner": (
        replace(BASE, retry=Retry(from_noon(seconds=1), slot_at=NOON, attempt=2, limit=0)),
        "Attempt 2 at 12:00:01 UTC for the slot of 12:00 UTC.",
    ),
    "a repeat after the loss of a worker": (
        replace(BASE, retry=Retry(from_noon(seconds=1), slot_at=NOON, attempt=2, limit=3, after_loss=True)),
        "Attempt 2 at 12:00:01 UTC for the slot of 12:00 UTC, because the worker of the last attempt was lost.",
    ),
    "a dropped retry": (
        interval(SECOND, retry=retry(seconds=2)),
        "Every 1 s by the baseline; the next slot is 12:00:01 UTC. The retry was dropped: this slot comes first.",
    ),
    "a pause": (
        replace(BASE, paused_until=from_noon(minutes=10), pause_reason="the target asked to wait."),
        "Paused until 12:10 UTC because the target asked to wait; it runs then.",
    ),
    "a pause that ends between slots": (
        cron("*/30 * * * *", paused_until=from_noon(minutes=10)),
        "Paused until 12:10 UTC; the next run is 12:30 UTC.",
    ),
    "run now": (
        replace(BASE, last_slot_at=None, manual_run_at=NOON),
        "Run now, asked for at 12:00 UTC.",
    ),
    "overdue": (
        replace(
            BASE,
            last_slot_at=None,
            overdue=Overdue(from_noon(minutes=-1), Source.AI_INTERVAL, from_noon(minutes=-1)),
        ),
        "Due since 11:59 UTC (ai-interval), not started by 12:00 UTC.",
    ),
    "not schedulable": (replace(BASE, blocked="its job is archived"), "Nothing is due: its job is archived."),
    "done": (once(NOON, ends_at=from_noon(hours=1)), "Nothing is due: the one run of this endpoint is done."),
    "ended": (
        replace(BASE, ends_at=from_noon(hours=-1)),
        "Nothing is due: the schedule ended at 11:00 UTC.",
    ),
    "about to end": (
        replace(BASE, ends_at=from_noon(minutes=4)),
        "Nothing is due: no slot is left before the schedule ends at 12:04 UTC.",
    ),
    "at the end of the calendar": (
        cron("*/5 * * * *", last_slot_at=datetime(9998, 12, 31, 23, 59, tzinfo=UTC)),
        "Nothing is due: the cron expression has no further slot.",
    ),
}


@pytest.mark.parametrize(("facts", "sentence"), SENTENCES.values(), ids=SENTENCES.keys())
def test_sentence(facts: EndpointFacts, sentence: str) -> None:
    assert plan_next_run(facts, NOON).sentence == sentence


def verdicts(facts: EndpointFacts) -> list[tuple[str, float | None, str, str]]:
    """Source, seconds from noon, verdict and note of every candidate."""
    return [
        (c.source.value, None if c.at is None else (c.at - NOON).total_seconds(), c.verdict.value, c.note)
        for c in plan_next_run(facts, NOON).candidates
    ]


CANDIDATES: dict[str, tuple[EndpointFacts, list[tuple[str, float | None, str, str]]]] = {
    "a baseline alone": (BASE, [("baseline-interval", 300, "chosen", "")]),
    "a clamped hint over the baseline": (
        replace(BASE, min_interval_ms=30 * SECOND, interval_hint=hint(5 * SECOND)),
        [("clamped-min", 30, "chosen", "clamped from 5 s"), ("baseline-interval", 300, "overridden", "")],
    ),
    "two expired hints": (
        replace(BASE, interval_hint=hint(5 * SECOND, NOON), oneshot_hint=oneshot(NOON, minutes=2)),
        [
            ("baseline-interval", 300, "chosen", ""),
            ("ai-interval", None, "expired", "set by the planner"),
            ("ai-oneshot", 120, "expired", ""),
        ],
    ),
    "hints that end before their time": (
        replace(
            BASE,
            interval_hint=hint(30 * MINUTE, from_noon(minutes=10)),
            oneshot_hint=oneshot(from_noon(minutes=1), minutes=2),
        ),
        [
            ("baseline-interval", 600, "chosen", ""),
            ("ai-interval", 1_800, "expired", "the hint ends before this time"),
            ("ai-oneshot", 120, "expired", "the hint ends before this time"),
        ],
    ),
    "an interval hint on a run-once endpoint": (
        once(from_noon(hours=1), interval_hint=hint(30 * SECOND)),
        [("run-once", 3_600, "chosen", ""), ("ai-interval", None, "overridden", "the endpoint runs once")],
    ),
    "a one-shot in the past": (
        replace(BASE, last_slot_at=from_noon(minutes=-5), oneshot_hint=oneshot(minutes=-5)),
        [("ai-oneshot", 0, "chosen", "moved from 11:55 UTC"), ("baseline-interval", 300, "later", "")],
    ),
    "a later one-shot": (
        replace(BASE, oneshot_hint=oneshot(minutes=10)),
        [("baseline-interval", 300, "chosen", ""), ("ai-oneshot", 600, "later", "")],
    ),
    "a retry before the next slot": (
        replace(BASE, retry=retry(seconds=2)),
        [("retry", 2, "chosen", ""), ("baseline-interval", 300, "later", "")],
    ),
    "a retry after the next slot": (
        interval(SECOND, retry=retry(seconds=2)),
        [("baseline-interval", 1, "chosen", ""), ("retry", 2, "dropped", "the next slot comes first")],
    ),
    "a retry due now before a one-shot due now": (
        replace(BASE, last_slot_at=from_noon(minutes=-1), retry=retry(seconds=0), oneshot_hint=oneshot(seconds=-5)),
        [
            ("retry", 0, "chosen", ""),
            ("baseline-interval", 300, "later", ""),
            ("ai-oneshot", 0, "later", "moved from 11:59:55 UTC"),
        ],
    ),
    "a retry due now before a run-once that came due meanwhile": (
        once(from_noon(seconds=-1), last_slot_at=from_noon(minutes=-1), retry=retry(seconds=0)),
        [("retry", 0, "chosen", ""), ("run-once", -1, "later", "")],
    ),
    "a retry due now before a hinted interval due now": (
        replace(
            BASE,
            last_slot_at=from_noon(minutes=-1),
            last_started_at=from_noon(minutes=-1),
            retry=Retry(NOON, from_noon(minutes=-1), 2, 3, after_loss=True),
            interval_hint=hint(30 * SECOND),
        ),
        [
            ("retry", 0, "chosen", ""),
            ("baseline-interval", 300, "overridden", ""),
            ("ai-interval", 0, "later", ""),
        ],
    ),
    "a retry held back by a pause": (
        cron("0 9 * * *", retry=retry(seconds=2), paused_until=from_noon(minutes=10)),
        [
            ("retry", 600, "chosen", "held back by the pause"),
            ("baseline-cron", 75_600, "blocked by pause", ""),
            ("paused", 75_600, "later", ""),
        ],
    ),
    "a pause over a hint": (
        replace(BASE, paused_until=from_noon(minutes=10), interval_hint=hint(30 * SECOND)),
        [
            ("paused", 600, "chosen", ""),
            ("baseline-interval", 300, "overridden", ""),
            ("ai-interval", 30, "blocked by pause", ""),
        ],
    ),
    "run now over a pause": (
        replace(BASE, last_slot_at=None, paused_until=from_noon(minutes=10), manual_run_at=NOON),
        [("manual", 0, "chosen", ""), ("baseline-interval", 300, "blocked by pause", ""), ("paused", 600, "later", "")],
    ),
    "run now behind a slot that is due": (
        once(from_noon(minutes=-1), last_slot_at=None, manual_run_at=NOON),
        [("run-once", -60, "chosen", ""), ("manual", 0, "later", "")],
    ),
    "all outside the window": (
        replace(
            BASE,
            ends_at=from_noon(minutes=4),
            retry=Retry(from_noon(seconds=2), from_noon(minutes=4), attempt=2, limit=3),
            oneshot_hint=oneshot(minutes=10),
        ),
        [
            ("baseline-interval", 300, "outside the window", ""),
            ("ai-oneshot", 600, "outside the window", ""),
            ("retry", 2, "outside the window", ""),
        ],
    ),
    "an overdue slot before the next": (
        replace(
            BASE,
            last_slot_at=from_noon(minutes=-5),
            overdue=Overdue(from_noon(seconds=-9), Source.BASELINE_INTERVAL, from_noon(seconds=-3)),
        ),
        [("baseline-interval", -3, "chosen", ""), ("baseline-interval", 300, "later", "")],
    ),
    "an overdue slot that is the next": (
        once(
            from_noon(minutes=-5),
            last_slot_at=None,
            overdue=Overdue(from_noon(minutes=-5), Source.RUN_ONCE, from_noon(minutes=-5)),
        ),
        [("run-once", -300, "chosen", "")],
    ),
    "not schedulable": (replace(BASE, blocked="the endpoint is paused"), []),
}


@pytest.mark.parametrize(("facts", "expected"), CANDIDATES.values(), ids=CANDIDATES.keys())
def test_candidates_and_their_verdicts(
    facts: EndpointFacts, expected: list[tuple[str, float | None, str, str]]
) -> None:
    assert verdicts(facts) == expected


def test_jitter_moves_the_start_and_not_the_slot() -> None:
    decision = plan_next_run(replace(BASE, jitter=timedelta(seconds=20)), NOON)
    assert (decision.slot_at, decision.run_at) == (from_noon(minutes=5), from_noon(minutes=5, seconds=20))


def test_pause_holds_the_start_of_a_run_once_back_and_not_its_slot() -> None:
    paused = once(from_noon(minutes=5), paused_until=from_noon(minutes=10), ends_at=from_noon(minutes=8))
    decision = plan_next_run(paused, NOON)
    assert (decision.slot_at, decision.run_at) == (from_noon(minutes=5), from_noon(minutes=10))


@pytest.mark.parametrize(("seconds", "slot_at"), [(-10, from_noon(seconds=-10)), (10, NOON)])
def test_run_now_serves_the_slot_of_a_run_once_that_a_pause_holds_back(seconds: int, slot_at: datetime) -> None:
    """And no slot that is still to come."""
    paused = once(from_noon(seconds=seconds), last_slot_at=None, paused_until=from_noon(seconds=20), manual_run_at=NOON)
    decision = plan_next_run(paused, NOON)
    assert (decision.source, decision.slot_at, decision.run_at) == (Source.MANUAL, slot_at, NOON)


def test_retry_repeats_its_slot_with_a_higher_attempt() -> None:
    decision = plan_next_run(replace(BASE, retry=retry(seconds=2)), NOON)
    assert (decision.slot_at, decision.attempt, decision.drop_retry) == (NOON, 2, False)


@pytest.mark.parametrize(
    "facts",
    [
        interval(SECOND, retry=retry(seconds=2)),
        replace(BASE, retry=retry(seconds=2), starts_at=from_noon(hours=1)),
        replace(BASE, retry=retry(seconds=2), paused_until=from_noon(minutes=1)),
        replace(BASE, retry=Retry(from_noon(seconds=2), from_noon(minutes=1), 2, 3), ends_at=from_noon(minutes=1)),
    ],
    ids=["next slot first", "window edited", "interval paused", "nothing left"],
)
def test_dropped_retry_is_told_to_the_caller(facts: EndpointFacts) -> None:
    decision = plan_next_run(facts, NOON)
    assert decision.drop_retry
    assert decision.attempt == 1


def test_retry_survives_a_run_now_that_comes_first() -> None:
    decision = plan_next_run(
        replace(BASE, last_slot_at=from_noon(minutes=-1), retry=retry(minutes=1), manual_run_at=NOON), NOON
    )
    assert (decision.source, decision.drop_retry) == (Source.MANUAL, False)


def test_overdue_slot_keeps_the_time_at_which_it_was_due() -> None:
    """Lateness counts from there, also where the slot was jittered."""
    due = Overdue(from_noon(seconds=-9), Source.BASELINE_INTERVAL, from_noon(seconds=-3))
    decision = plan_next_run(
        replace(BASE, jitter=timedelta(seconds=6), last_slot_at=from_noon(minutes=-5), overdue=due), NOON
    )
    assert (decision.slot_at, decision.run_at) == (due.slot_at, due.run_at)


def test_stored_form_of_nothing_due() -> None:
    stored = plan_next_run(once(NOON, last_started_at=None), NOON).to_json()
    assert (stored["run_at"], stored["slot_at"], stored["source"], stored["candidates"]) == (None, None, None, [])


def test_inputs_name_everything_that_is_set() -> None:
    facts = cron(
        "*/5 * * * *",
        jitter=timedelta(seconds=20),
        failure_count=2,
        failing_since=from_noon(minutes=-5),
        recovery_check_ms=HOUR,
        server_wait=AskedWait(from_noon(minutes=-2), from_noon(minutes=-1)),
        max_interval_ms=HOUR,
        interval_hint=hint(MINUTE, None, by_person=True),
        oneshot_hint=oneshot(None, minutes=1),
        retry=retry(seconds=2),
        overdue=Overdue(from_noon(seconds=-3), Source.BASELINE_CRON, from_noon(seconds=-3)),
        starts_at=from_noon(days=-1),
        ends_at=from_noon(days=1),
        paused_until=from_noon(minutes=-1),
        manual_run_at=NOON,
    )
    assert plan_next_run(facts, NOON).inputs == {
        "now": "2026-03-02T12:00:00+00:00",
        "cron": "*/5 * * * *",
        "timezone": "UTC",
        "jitter_ms": 20_000,
        "failure_count": 2,
        "failing_since": "2026-03-02T11:55:00+00:00",
        "hint_interval_ms": 60_000,
        "hint_interval_expires_at": None,
        "hint_interval_by": "person",
        "hint_interval_author": "a person",
        "hint_next_run_at": "2026-03-02T12:01:00+00:00",
        "hint_next_run_expires_at": None,
        "hint_next_run_author": "the planner",
        "retry_at": "2026-03-02T12:00:02+00:00",
        "retry_slot_at": "2026-03-02T12:00:00+00:00",
        "overdue_slot_at": "2026-03-02T11:59:57+00:00",
        "max_interval_ms": 3_600_000,
        "recovery_check_ms": 3_600_000,
        "server_wait_since": "2026-03-02T11:58:00+00:00",
        "server_wait_until": "2026-03-02T11:59:00+00:00",
        "starts_at": "2026-03-01T12:00:00+00:00",
        "ends_at": "2026-03-03T12:00:00+00:00",
        "last_slot_at": "2026-03-02T12:00:00+00:00",
        "last_started_at": "2026-03-02T12:00:00+00:00",
        "paused_until": "2026-03-02T11:59:00+00:00",
        "manual_run_at": "2026-03-02T12:00:00+00:00",
    }


def test_endpoint_without_a_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a baseline"):
        plan_next_run(endpoint(), NOON)


def test_verdicts_and_sources_are_the_stored_words() -> None:
    """Runs keep these words for ever: a change of one needs a migration."""
    assert {source.value for source in Source} == {
        "baseline-interval",
        "baseline-cron",
        "run-once",
        "ai-interval",
        "ai-oneshot",
        "clamped-min",
        "clamped-max",
        "paused",
        "server-asked",
        "retry",
        "manual",
    }
    assert {verdict.value for verdict in Verdict} == {
        "chosen",
        "later",
        "overridden",
        "expired",
        "dropped",
        "blocked by pause",
        "put off by the server",
        "outside the window",
    }


def test_documented_example_is_what_the_governor_says() -> None:
    text = (Path(__file__).parents[2] / "docs" / "governor.md").read_text()
    documented = json.loads(text.split("```json")[1].split("```")[0])
    facts = replace(
        BASE,
        min_interval_ms=30 * SECOND,
        interval_hint=hint(5 * SECOND, from_noon(minutes=40), reason="queue_depth is 412"),
    )
    assert plan_next_run(facts, NOON).to_json() == documented


def test_documentation_names_every_source_and_verdict() -> None:
    text = (Path(__file__).parents[2] / "docs" / "governor.md").read_text()
    assert [verdict for verdict in Verdict if f"`{verdict}`" not in text] == []
    assert [source for source in Source if f"`{source}`" not in text] == []


# --- an interval that the owner anchored ---

DAILY_AT_NINE = {  # in Berlin, where 29 March 2026 has 23 hours
    "interval_ms": DAY,
    "timezone": "Europe/Berlin",
    "created_at": datetime(2026, 3, 1, tzinfo=UTC),
    "anchor_at": datetime(2026, 3, 2, 8, tzinfo=UTC),
    "starts_at": datetime(2026, 3, 2, 8, tzinfo=UTC),
}


@pytest.mark.parametrize(
    ("changes", "now", "expected"),
    [
        ({}, datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 2, 8, tzinfo=UTC)),
        ({}, datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 7, tzinfo=UTC)),
        ({"timezone": "UTC"}, datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 8, tzinfo=UTC)),
        # backed off to two days, over the change of the clock
        (
            {
                "failure_count": 2,
                "failing_since": datetime(2026, 3, 27, 8, tzinfo=UTC),
                "recovery_check_ms": 2 * DAY,
                "last_slot_at": datetime(2026, 3, 28, 8, tzinfo=UTC),
            },
            datetime(2026, 3, 28, 12, tzinfo=UTC),
            datetime(2026, 3, 30, 7, tzinfo=UTC),
        ),
    ],
)
def test_whole_days_from_a_start_keep_their_time_of_day(
    changes: dict[str, Any], now: datetime, expected: datetime
) -> None:
    decision = plan_next_run(EndpointFacts(**{**DAILY_AT_NINE, **changes}), now)
    assert decision.slot_at == expected
    assert ("on the clock of Europe/Berlin" in decision.sentence) is ("timezone" not in changes)
    assert ("timezone" in decision.inputs) is ("timezone" not in changes)


@pytest.mark.parametrize(
    ("facts", "slot_at"),
    [
        (asked(BASE, minutes=12), from_noon(minutes=10)),
        (asked(cron("*/5 * * * *"), minutes=12), from_noon(minutes=10)),
        (asked(replace(BASE, ends_at=from_noon(minutes=10)), minutes=12), from_noon(minutes=5)),
        (asked(replace(BASE, interval_hint=hint(30 * SECOND)), minutes=12), from_noon(seconds=30)),
        (asked(replace(BASE, jitter=timedelta(seconds=20)), minutes=12), from_noon(minutes=10)),
        (asked(once(from_noon(minutes=1), last_slot_at=None), minutes=10), from_noon(minutes=1)),
    ],
)
def test_a_run_that_waits_for_the_server_serves_the_last_slot_of_its_baseline_or_its_own(
    facts: EndpointFacts, slot_at: datetime
) -> None:
    decision = plan_next_run(facts, NOON)
    assert (decision.slot_at, decision.source) == (slot_at, Source.SERVER_ASKED)
    held = next(each for each in decision.candidates if each.verdict is Verdict.PUT_OFF)
    assert held.at is not None
    assert held.at < facts.server_wait.until  # type: ignore[union-attr]


def test_backed_off_baseline_says_so_in_its_note() -> None:
    decision = plan_next_run(failing(MINUTE, minutes=3, recovery_check_ms=HOUR), NOON)
    assert decision.candidates[0].note == "backed off to every 4 min"


def test_retry_that_waits_for_the_server_says_so() -> None:
    decision = plan_next_run(asked(cron("0 9 * * *", retry=retry(seconds=2)), minutes=10), NOON)
    assert decision.candidates[0].note == "put off because it answered 429 with Retry-After"


@pytest.mark.parametrize(
    ("late", "claimed", "sentence"),
    [
        (-60, False, "Every 5 min by the baseline; the next slot is 12:05 UTC."),
        (-60, True, "Every 5 min by the baseline; the next slot is 12:05 UTC."),
        (
            0,
            False,
            "Due since 12:05 UTC, no worker has taken it yet."
            " When it was planned: Every 5 min by the baseline; the next slot is 12:05 UTC.",
        ),
        (
            90,
            True,
            "Due since 12:05 UTC, taken by a worker."
            " When it was planned: Every 5 min by the baseline; the next slot is 12:05 UTC.",
        ),
        (
            86_400,
            False,
            "Due since 2026-03-02 12:05 UTC, no worker has taken it yet."
            " When it was planned: Every 5 min by the baseline; the next slot is 12:05 UTC.",
        ),
    ],
)
def test_a_stored_decision_is_shown_as_what_is_true_by_now(late: float, claimed: bool, sentence: str) -> None:
    stored = plan_next_run(BASE, NOON).to_json()
    shown = as_of(stored, from_noon(minutes=5, seconds=late), claimed=claimed)
    assert shown == {**stored, "sentence": sentence}


def test_where_nothing_is_due_the_stored_sentence_stands() -> None:
    stored = plan_next_run(replace(BASE, blocked="the endpoint is paused"), NOON).to_json()
    assert as_of(stored, NOON, claimed=False) == stored
    assert as_of({}, NOON, claimed=False) == {}


FAILING = failing(5 * MINUTE, minutes=15, recovery_check_ms=HOUR, failure_count=2)
BACKED_OFF = from_noon(minutes=20)


@pytest.mark.parametrize(
    ("author", "at"),
    [
        ("the model", BACKED_OFF),
        ("the model, as the description asks", from_noon(minutes=1)),
        ('the rule "busy"', from_noon(minutes=1)),
        ("a heuristic", from_noon(minutes=1)),
    ],
)
@pytest.mark.parametrize("kind", ["interval", "one-shot", "both"])
def test_what_the_model_set_gives_way_to_the_back_off_and_what_others_set_does_not(
    author: str, at: datetime, kind: str
) -> None:
    pace = hint(MINUTE, author=author) if kind != "one-shot" else None
    once = replace(oneshot(minutes=1), author=author) if kind != "interval" else None
    decision = plan_next_run(replace(FAILING, interval_hint=pace, oneshot_hint=once), NOON)
    assert decision.run_at == at
    if author == "the model" and kind == "interval":
        assert decision.sentence.endswith(
            "The hint of 1 min, set by the model, waits until the endpoint answers again."
        )


def test_the_hint_of_the_model_counts_again_once_the_endpoint_answers() -> None:
    decision = plan_next_run(interval(5 * MINUTE, interval_hint=hint(MINUTE, author="the model")), NOON)
    assert decision.run_at == from_noon(minutes=1)


def test_a_faster_rule_is_not_held_back_by_a_one_shot_of_the_model() -> None:
    facts = replace(
        FAILING,
        interval_hint=hint(2 * MINUTE, author='the rule "busy"'),
        oneshot_hint=replace(oneshot(minutes=1), author="the model"),
    )
    assert plan_next_run(facts, NOON).run_at == from_noon(minutes=2)


@pytest.mark.parametrize(("author", "minutes"), [("the model", 20), ("a person", 7), ('the rule "rest"', 7)])
def test_the_end_of_a_pause_of_the_model_is_not_sooner_than_the_back_off(author: str, minutes: int) -> None:
    facts = replace(FAILING, paused_until=from_noon(minutes=7), pause_author=author)
    assert plan_next_run(facts, NOON).run_at == from_noon(minutes=minutes)


@pytest.mark.parametrize(("hinted", "minutes"), [(1, 5), (10, 10)])
def test_slower_hint_of_the_model_counts_without_a_back_off_and_a_faster_one_does_not(
    hinted: int, minutes: int
) -> None:
    facts = failing(5 * MINUTE, minutes=5, failure_count=2, interval_hint=hint(hinted * MINUTE, author="the model"))
    assert plan_next_run(facts, NOON).run_at == from_noon(minutes=minutes)


@pytest.mark.parametrize(("author", "minutes"), [("the model", 10), ("a person", 7)])
def test_end_of_a_pause_of_the_model_waits_for_the_grid_while_the_endpoint_fails(author: str, minutes: int) -> None:
    facts = failing(5 * MINUTE, minutes=5, failure_count=2, paused_until=from_noon(minutes=7), pause_author=author)
    assert plan_next_run(facts, NOON).run_at == from_noon(minutes=minutes)
    assert plan_next_run(facts, from_noon(minutes=6)).run_at == from_noon(minutes=minutes)


def test_cron_has_no_back_off_that_the_model_could_lower() -> None:
    facts = replace(cron("0 * * * *"), failure_count=2, interval_hint=hint(MINUTE, author="the model"))
    assert plan_next_run(facts, NOON).run_at == from_noon(minutes=1)


@pytest.mark.parametrize(("floor", "hinted", "seconds"), [(120, 90, 90), (120, 30, 60), (10, 30, 30)])
def test_a_floor_above_the_gap_of_a_cron_expression_does_not_slow_it_down(
    floor: int, hinted: int, seconds: int
) -> None:
    facts = replace(cron("* * * * *"), hint_floor_ms=floor * SECOND, interval_hint=hint(hinted * SECOND))
    assert plan_next_run(facts, NOON).run_at == from_noon(seconds=seconds)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            replace(BASE, interval_hint=hint(MINUTE, author='the rule "busy"', reason="depth is 412, above 100")),
            'Every 1 min until 14:00 UTC, set by the rule "busy" because depth is 412, above 100;'
            " baseline would be 12:05 UTC.",
        ),
        (
            replace(BASE, oneshot_hint=replace(oneshot(minutes=2), author='the rule "down" of endpoint "health"')),
            'Once at 12:02 UTC, set by the rule "down" of endpoint "health"; otherwise it would be 12:05 UTC.',
        ),
        (
            replace(BASE, paused_until=from_noon(minutes=10), pause_author="a heuristic", pause_reason="it is busy"),
            "Paused until 12:10 UTC by a heuristic because it is busy; it runs then.",
        ),
    ],
)
def test_sentences_name_who_set_what_is_in_force(facts: EndpointFacts, sentence: str) -> None:
    assert plan_next_run(facts, NOON).sentence == sentence
