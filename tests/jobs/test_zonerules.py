"""One source of zone rules for every process, and plans that follow a new release of them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tzdata
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client

from jobs import zonerules
from jobs.authoring import edit_endpoint
from jobs.models import Endpoint, ZoneRules
from jobs.replan import replan
from jobs.zonerules import Search, search_batch
from tests.support.factories import make_endpoint, make_job, make_operator, make_run, make_user
from tests.support.processes import Command
from tests.support.zones import TOWN, ApplyRules, apply_rules, fixed_offset_file

__all__ = ["apply_rules"]

pytestmark = pytest.mark.django_db(transaction=True)

PROJECT = Path(__file__).parents[2]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime.now(UTC).replace(second=0, microsecond=0)


def daily(first_at: datetime, hours: int) -> dict[str, Any]:
    """A cron expression that has a slot at an instant, by rules in which the town is so many hours ahead."""
    wall = first_at + hours * HOUR
    return {"baseline_cron": f"{wall.minute} {wall.hour} * * *", "timezone": TOWN}


def anchored(first_at: datetime, hours: int) -> dict[str, Any]:
    """The same as an interval."""
    start = first_at - 5 * DAY
    return {"baseline_interval_ms": 86_400_000, "timezone": TOWN, "starts_at": start, "anchor_at": start}


KINDS = pytest.mark.parametrize("kind", [daily, anchored])
Kind = Callable[[datetime, int], dict[str, Any]]


def planned(kind: Kind, slot_at: datetime, hours: int, *, served: bool = False) -> Endpoint:
    """An endpoint with a slot at an instant, planned; or, where it was served, with its run and the next plan."""
    endpoint = make_endpoint(created_at=NOW - 10 * DAY, last_slot_at=slot_at - DAY, **kind(slot_at, hours))
    if served:
        decision = endpoint.next_decision
        source = "baseline-cron" if endpoint.baseline_cron else "baseline-interval"
        make_run(endpoint, scheduled_for=slot_at, due_at=slot_at, source=source, decision=decision)
        endpoint.last_slot_at = slot_at
        endpoint.save()
        replan([endpoint.pk])
        endpoint.refresh_from_db()
    return endpoint


def search_to_the_end() -> ZoneRules:
    while search_batch() is Search.UNDER_WAY:
        pass
    return ZoneRules.objects.get()


def fresh(endpoint: Endpoint) -> Endpoint:
    return Endpoint.objects.get(pk=endpoint.pk)


@KINDS
def test_slot_to_come_keeps_its_time_of_day(kind: Kind, apply_rules: ApplyRules) -> None:
    apply_rules("2030a", 1)
    endpoint = planned(kind, NOW + 6 * HOUR, 1)
    assert endpoint.next_run_at == NOW + 6 * HOUR
    # The anchor of an interval is an instant: where the town's clock differs at it too, the grid does not move.
    moved = NOW + 5 * HOUR if kind is daily else NOW + 6 * HOUR
    apply_rules("2030b", 2)
    state = search_to_the_end()
    assert fresh(endpoint).next_run_at == moved
    assert (state.version, state.replanned, state.moved) == ("2030b", 1, int(kind is daily))


def test_day_that_was_served_by_the_old_rules_is_not_served_again(apply_rules: ApplyRules) -> None:
    apply_rules("2030a", 1)
    endpoint = planned(daily, NOW - HOUR / 2, 1, served=True)
    apply_rules("2030b", 0)
    search_to_the_end()
    # The same time of day is half an hour away by the new rules.
    assert fresh(endpoint).next_run_at == NOW + HOUR / 2 + DAY
    assert edit_endpoint(endpoint_id=endpoint.pk, changes={"name": "X"}).next_run_at == NOW + HOUR / 2 + DAY


def test_day_whose_slot_has_passed_by_the_new_rules_is_served_at_once(apply_rules: ApplyRules) -> None:
    apply_rules("2030a", 1)
    endpoint = planned(daily, NOW + HOUR / 2, 1)
    apply_rules("2030b", 2)
    search_to_the_end()
    late = fresh(endpoint)
    assert (late.next_run_at, late.next_slot_at) == (NOW - HOUR / 2, NOW - HOUR / 2)
    Endpoint.objects.update(last_slot_at=late.next_slot_at, next_run_at=None, next_slot_at=None, next_source=None)
    assert edit_endpoint(endpoint_id=endpoint.pk, changes={"name": "X"}).next_run_at == NOW - HOUR / 2 + DAY


def test_overdue_slot_that_is_still_to_come_by_the_new_rules_waits_for_it(apply_rules: ApplyRules) -> None:
    apply_rules("2030a", 1)
    endpoint = planned(daily, NOW - HOUR / 2, 1)
    Endpoint.objects.update(next_run_at=NOW - HOUR / 2, next_slot_at=NOW - HOUR / 2)
    apply_rules("2030b", 0)
    search_to_the_end()
    assert fresh(endpoint).next_run_at == NOW + HOUR / 2


def test_run_under_way_counts_as_the_day_that_it_serves(apply_rules: ApplyRules) -> None:
    apply_rules("2030a", 1)
    endpoint = planned(daily, NOW - HOUR / 2, 1, served=True)
    Endpoint.objects.update(lease_owner="scheduler-x", lease_until=NOW + HOUR)
    apply_rules("2030b", 0)
    search_to_the_end()
    assert fresh(endpoint).last_slot_at == NOW + HOUR / 2


def test_run_that_a_person_asked_for_stands_for_no_slot(apply_rules: ApplyRules) -> None:
    apply_rules("2030a", 1)
    endpoint = planned(daily, NOW - HOUR / 2, 1, served=True)
    endpoint.runs.update(source="manual")
    apply_rules("2030b", 0)
    search_to_the_end()
    assert fresh(endpoint).next_run_at == NOW + HOUR / 2


def test_zone_that_is_gone_stops_its_own_endpoint_alone_and_comes_back(
    apply_rules: ApplyRules, caplog: pytest.LogCaptureFixture
) -> None:
    apply_rules("2030a", 1)
    lost, other = planned(daily, NOW + 6 * HOUR, 1), make_endpoint(baseline_cron="0 9 * * *", timezone="Europe/Berlin")
    elapsed = make_endpoint(timezone=TOWN)
    apply_rules("2030b", None)
    state = search_to_the_end()
    assert (state.replanned, state.unreadable) == (2, 1)
    assert "is not an IANA time zone" in str(fresh(lost).next_decision)
    assert fresh(other).next_run_at == other.next_run_at
    assert fresh(elapsed).next_run_at == elapsed.next_run_at
    apply_rules("2030c", 1)
    search_to_the_end()
    assert fresh(lost).next_run_at == NOW + 6 * HOUR


def test_schedules_without_a_zone_are_left_alone(apply_rules: ApplyRules) -> None:
    apply_rules("2030a", 1)
    plain = [make_endpoint(baseline_cron="0 9 * * *"), make_endpoint(), make_endpoint(timezone=TOWN)]
    before = [fresh(endpoint).next_decision for endpoint in plain]
    apply_rules("2030b", 2)
    assert search_to_the_end().replanned == 0
    assert [fresh(endpoint).next_decision for endpoint in plain] == before


def test_newest_rules_win_and_what_older_processes_plan_meanwhile_is_found_later(apply_rules: ApplyRules) -> None:
    apply_rules("2030a", 1)
    endpoint = planned(daily, NOW + 6 * HOUR, 1)
    apply_rules("2030b", 2)
    search_to_the_end()
    apply_rules("2030a", 1)
    assert search_batch() is Search.DONE
    assert fresh(endpoint).next_run_at == NOW + 5 * HOUR
    assert edit_endpoint(endpoint_id=endpoint.pk, changes={"name": "X"}).next_run_at == NOW + 6 * HOUR
    apply_rules("2030b", 2)
    assert search_batch() is Search.DONE
    ZoneRules.objects.update(swept_at=NOW - 2 * HOUR)
    search_to_the_end()
    assert fresh(endpoint).next_run_at == NOW + 5 * HOUR


def test_several_processes_at_once_make_each_plan_anew_once(
    apply_rules: ApplyRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zonerules, "WINDOW", 2)
    apply_rules("2030a", 1)
    job = make_job()
    for _ in range(9):
        make_endpoint(job, **daily(NOW + 6 * HOUR, 1))
    apply_rules("2030b", 2)
    together = threading.Barrier(3)

    def process(_: int) -> None:
        together.wait(10)
        while search_batch() is not Search.DONE:
            pass
        connections.close_all()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(process, range(3)))
    assert ZoneRules.objects.get().replanned == 9
    assert set(Endpoint.objects.values_list("next_run_at", flat=True)) == {NOW + 5 * HOUR}


# --- one source, told everywhere ---


@pytest.mark.parametrize(
    "entry",
    [
        "import cronicorn.wsgi",
        "import cronicorn.web_server",
        "import django; django.setup()",
        "from scheduling.cron.cadence import parse_cadence",
        "import tests.settings",
    ],
)
def test_rules_are_those_of_the_locked_package_whatever_the_host_has(entry: str, tmp_path: Path) -> None:
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Berlin").write_bytes(fixed_offset_file(9))
    code = f"{entry}\nfrom scheduling.cron.zones import check_timezone\nfrom datetime import datetime\n"
    code += "print(datetime(2026, 1, 1, tzinfo=check_timezone('Europe/Berlin')).utcoffset())"
    environment = {**os.environ, "PYTHONTZPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines()[-1] == "1:00:00"


def test_health_and_the_operators_dashboard_tell_the_rules() -> None:
    version = tzdata.IANA_VERSION
    assert Client().get("/api/health").json()["zoneRules"] == {"version": version, "plansBy": None}
    search_to_the_end()
    assert Client().get("/api/health").json()["zoneRules"] == {"version": version, "plansBy": version}
    for person, told in ((make_operator(), True), (make_user(), False)):
        client = Client()
        client.force_login(person)
        assert (f"tzdata {version}" in client.get("/").content.decode()) is told


def planned_by_old_rules() -> Endpoint:
    endpoint = make_endpoint(baseline_cron="0 9 * * *", timezone="Europe/Berlin")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE job_endpoints SET next_run_at = next_run_at + interval '1 hour',"
            " next_decision = jsonb_set(next_decision, '{inputs,tzdata}', '\"2020a\"')"
        )
    return endpoint


def test_prepare_makes_plans_anew() -> None:
    endpoint = planned_by_old_rules()
    call_command("prepare")
    assert fresh(endpoint).next_run_at == endpoint.next_run_at


def test_scheduler_makes_plans_anew_when_it_starts() -> None:
    endpoint = planned_by_old_rules()
    with Command("run_scheduler") as worker:
        line = worker.wait_for_line("zone_rules_applied")
    assert (json.loads(line)["replanned"], json.loads(line)["moved"]) == (1, 1)
    assert fresh(endpoint).next_run_at == endpoint.next_run_at
