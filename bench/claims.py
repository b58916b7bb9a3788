"""What a claim costs among ten thousand, a hundred thousand and a million endpoints."""

from __future__ import annotations

import time
from datetime import timedelta
from statistics import median

from django.db import connection, transaction

from bench import rows
from bench.figures import Figure
from bench.limits import LEASE, claim_statement
from bench.place import empty
from scheduling.ledger.claims import claim_due

SIZES = (10_000, 100_000, 1_000_000)
DUE = 5_000
LEASED = 5_000
LIMIT = 100
# Claims are kept, so that twice as many of them must find enough that is due.
MOST_REPEATS = 20
HORIZON = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def measure(url: str, seconds: float, *, sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    """Claims 100 of the endpoints that are due, again and again; the same number is due at every size."""
    figures: list[Figure] = []
    flat: float | None = None
    repeats = min(max(int(seconds), 5), MOST_REPEATS)
    for size in sizes:
        _fill(size)
        free_ms, free_pages = _cost(repeats, LIMIT)
        flat = flat or free_ms
        name = f"claim of {LIMIT} among {size:,}"
        smallest = f"among {sizes[0]:,}"
        round_trip = _round_trip_ms(repeats)
        figures += [
            Figure(name, "time", free_ms, "ms", smallest, flat),
            Figure(name, "pages", free_pages, "pages"),
        ]
        _lease(LEASED)
        leased_ms, leased_pages = _cost(repeats, LIMIT)
        figures += [
            Figure(name, f"time, {LEASED:,} leased", leased_ms, "ms", "without leases", free_ms),
            Figure(name, f"pages, {LEASED:,} leased", leased_pages, "pages", "without leases", free_pages),
        ]
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            # Those of the next hour as well, or they would fall due during the measurement.
            cursor.execute(
                "UPDATE job_endpoints SET next_run_at = now() + interval '1 day'"
                " WHERE next_run_at < now() + interval '1 hour'"
            )
            cursor.execute("RESET statement_timeout")
        rows.analyze()
        empty_ms, empty_pages = _cost(repeats, 0)
        figures += [
            Figure(name, "time, nothing due", empty_ms, "ms", "SELECT 1", round_trip),
            Figure(name, "pages, nothing due", empty_pages, "pages"),
        ]
    return figures


def _fill(size: int) -> None:
    """The first DUE endpoints are due, the others in the hours to come."""
    empty()
    first = rows.clock() - HOUR / 2
    rows.fill(size, port=9, interval=HOUR * 24, first_due_at=first, step=HOUR / 2 / DUE)
    rows.analyze()


def _cost(repeats: int, expected: int) -> tuple[float, float]:
    """Milliseconds of a claim, commit included, and pages that its statement touches; medians, the first left out."""
    times, pages = [], []
    for number in range(repeats + 1):
        statement = claim_statement(limit=LIMIT, worker=f"bench{number}", horizon=HORIZON)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement.replace("%", "%%"), [])
            plan = cursor.fetchone()[0][0]["Plan"]
            transaction.set_rollback(True)
        begin = time.perf_counter()
        claims = claim_due(worker=f"bench{number}", limit=LIMIT, lease=LEASE, horizon=HORIZON)
        spent = time.perf_counter() - begin
        assert len(claims) == expected, f"{len(claims)} claimed, {expected} were due"
        if number:
            times.append(spent * 1000)
            pages.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    return median(times), median(pages)


def _lease(count: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE job_endpoints SET lease_owner = 'other', lease_until = now() + interval '1 hour', fence = fence + 1
            WHERE id IN (SELECT id FROM job_endpoints WHERE lease_owner IS NULL ORDER BY next_run_at DESC LIMIT %s)
            """,
            [count],
        )
        # Rows that are due and taken stand in front of those that are due and free.
        cursor.execute("UPDATE job_endpoints SET next_run_at = now() - interval '1 hour' WHERE lease_owner = 'other'")
    rows.analyze()


def _round_trip_ms(repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
        times.append((time.perf_counter() - begin) * 1000)
    return median(times)
