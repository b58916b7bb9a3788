"""Slots that passed while nobody could claim: one run on the latest, or one missed row."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from jobs.models import Endpoint, Run
from scheduling.cron.cadence import parse_cadence
from scheduling.ledger.claims import claim_due
from scheduling.plan.interval import Interval
from scheduling.plan.tardiness import Tardy, judge_tardiness
from scheduling.worker.worker import Worker
from tests.support.factories import make_endpoint
from tests.support.http_target import HttpTarget, Reply

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MakeDue = Callable[..., Endpoint]


def judge(late: timedelta, *, minutes: int = 5, cron: str | None = None, **fields: object) -> Tardy | None:
    values: dict[str, object] = {
        "slot_at": NOON,
        "now": NOON + late,
        "interval": Interval(timedelta(minutes=minutes), NOON - timedelta(hours=1)) if cron is None else None,
        "cadence": parse_cadence(cron) if cron is not None else None,
        "ends_at": None,
        "grace_ms": None,
        **fields,
    }
    return judge_tardiness(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("late", "fields", "latest", "folded", "missed"),
    [
        (timedelta(minutes=5), {}, 5, 1, False),
        (timedelta(minutes=17), {}, 15, 3, False),
        (timedelta(hours=1), {"cron": "*/10 * * * *"}, 60, 6, False),
        (timedelta(minutes=17), {"ends_at": NOON + timedelta(minutes=10)}, 5, 1, False),
        (timedelta(minutes=16), {"grace_ms": 120_000}, 15, 3, False),
        (timedelta(minutes=18), {"grace_ms": 120_000}, 15, 3, True),
        (timedelta(minutes=3), {"grace_ms": 120_000}, 0, 0, True),
        (timedelta(minutes=3), {"cron": "0 12 * * *", "grace_ms": 120_000}, 0, 0, True),
        (timedelta(minutes=3), {"interval": None, "grace_ms": 0}, 0, 0, True),
    ],
)
def test_gap_becomes_one_row(
    late: timedelta, fields: dict[str, object], latest: int, folded: int, missed: bool
) -> None:
    judged = judge(late, **fields)  # type: ignore[arg-type]
    assert judged is not None
    assert (judged.latest_at, judged.folded, judged.missed) == (NOON + timedelta(minutes=latest), folded, missed)
    assert judged.scheduled_for == (judged.first_at if missed else judged.latest_at)
    assert judged.words


@pytest.mark.parametrize(
    ("late", "fields"),
    [
        (timedelta(0), {}),
        (timedelta(minutes=5) - timedelta(microseconds=1), {}),
        (timedelta(seconds=59), {"cron": "* * * * *"}),
        (timedelta(hours=2), {"cron": "0 12 * * *"}),
        (timedelta(minutes=2), {"grace_ms": 120_000}),
        (timedelta(days=2), {"interval": None}),
    ],
)
def test_claim_in_time_is_for_its_own_slot(late: timedelta, fields: dict[str, object]) -> None:
    assert judge(late, **fields) is None  # type: ignore[arg-type]


def test_slots_on_the_clock_of_a_zone_are_folded_after_a_day_of_23_hours() -> None:
    nine = datetime(2026, 3, 28, 8, tzinfo=UTC)
    grid = Interval.of(86_400_000, nine, nine, "Europe/Berlin")
    judged = judge(timedelta(hours=23), slot_at=nine, now=nine + timedelta(hours=23), interval=grid)
    assert judged is not None
    assert (judged.latest_at, judged.folded) == (datetime(2026, 3, 29, 7, tzinfo=UTC), 1)
    assert judge(timedelta(0), slot_at=nine, now=nine + timedelta(hours=22, minutes=59), interval=grid) is None


@pytest.mark.django_db(transaction=True)
def test_slots_of_an_outage_become_one_run_that_says_so(make_due: MakeDue, worker: Worker, target: HttpTarget) -> None:
    endpoint = make_due(
        target.route("/ok", Reply(200)), baseline_interval_ms=60_000, late=timedelta(minutes=61, seconds=3)
    )
    slot = endpoint.next_slot_at
    assert slot is not None
    assert worker.run_once() == 1
    run = Run.objects.get()
    latest = slot + timedelta(minutes=61)
    assert (run.status, run.scheduled_for, run.due_at) == ("success", latest, slot)
    assert (run.coalesced_slots, run.coalesced_until) == (61, latest)
    assert "61 earlier slots were folded" in run.decision["sentence"]
    assert target.requests[0].header("Cronicorn-Scheduled-For") == latest.isoformat().replace("+00:00", "Z")
    endpoint.refresh_from_db()
    assert (endpoint.last_slot_at, endpoint.next_slot_at) == (latest, latest + timedelta(minutes=1))


@pytest.mark.django_db(transaction=True)
def test_gap_beyond_the_grace_is_one_missed_row_and_no_failure(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    endpoint = make_due(
        target.route("/ok", Reply(200)),
        baseline_interval_ms=60_000,
        misfire_grace_ms=1_000,
        late=timedelta(minutes=61, seconds=3),
    )
    other = make_due(target.route("/ok", Reply(200)))
    slot = endpoint.next_slot_at
    assert slot is not None
    worker.run_once()
    run = Run.objects.get(endpoint=endpoint)
    assert (run.status, run.scheduled_for, run.coalesced_slots) == ("missed", slot, 61)
    assert run.started_at is None
    assert Run.objects.get(endpoint=other).status == "success"
    endpoint.refresh_from_db()
    assert (endpoint.lease_owner, endpoint.failure_count) == (None, 0)
    assert endpoint.next_slot_at == slot + timedelta(minutes=62)


@pytest.mark.django_db(transaction=True)
def test_run_now_that_waited_is_never_missed(make_due: MakeDue) -> None:
    endpoint = make_endpoint(misfire_grace_ms=0)
    Endpoint.objects.filter(pk=endpoint.pk).update(next_source="manual", next_run_at=endpoint.created_at)
    (claimed,) = claim_due(worker="w1", limit=1, lease=timedelta(seconds=60))
    assert claimed.source == "manual"
