"""The pace of a baseline."""

from datetime import UTC, datetime

import pytest

from planner.proposals.pace import usual_gap_ms

FRIDAY_EVENING = datetime(2030, 1, 4, 17, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    ("interval_ms", "cron", "gap_ms"),
    [
        (90_000, None, 90_000),
        (None, "*/5 9-17 * * 1-5", 300_000),
        (None, "0 9,10 * * *", 3_600_000),
        (None, "0 0 1 1 *", 365 * 86_400_000),
        (None, "not a cron", None),
        (None, None, None),
    ],
)
def test_gap_of_a_baseline_is_its_shortest_one(interval_ms: int | None, cron: str | None, gap_ms: int | None) -> None:
    assert usual_gap_ms(interval_ms, cron, "UTC", FRIDAY_EVENING) == gap_ms
