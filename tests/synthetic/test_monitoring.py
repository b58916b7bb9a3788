"""The table of the synthetic jobs, the verdict on it and the health of workers, on real rows."""

import platform
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from jobs import pulse as pulse_module
from jobs.heartbeats import beat, farewell, worker_name
from jobs.models import Endpoint, RunStatus, WorkerKind
from jobs.pulse import Pulse
from synthetic.monitoring import CORE, FAULTS, faults_of, job_healths, table
from tests.support.factories import make_endpoint, make_job, make_operator, make_run

pytestmark = pytest.mark.django_db


def ago(minutes: float) -> datetime:
    return datetime.now(UTC) - timedelta(minutes=minutes)


@pytest.fixture
def core() -> Endpoint:
    """An endpoint of the core job, beside a job of faults that ran."""
    operator = make_operator()
    faults = make_endpoint(make_job(operator, name=FAULTS, is_synthetic=True))
    make_run(faults, status=RunStatus.FAILED, duration_ms=5000.0)
    return make_endpoint(make_job(operator, name=CORE, is_synthetic=True))


def runs(endpoint: Endpoint, good: int, bad: int, **fields: object) -> None:
    for number in range(good + bad):
        status = RunStatus.SUCCESS if number < good else RunStatus.FAILED
        make_run(endpoint, status=status, due_at=ago(10 + number), **fields)


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("synthetic_health", *arguments, stdout=out)
    return out.getvalue()


def test_figures_count_the_last_hour_only(core: Endpoint) -> None:
    runs(core, good=3, bad=1, duration_ms=40.0)
    make_run(core, due_at=ago(61), duration_ms=9000.0)
    make_run(core, due_at=ago(5), status=RunStatus.RUNNING)

    figures = {health.job: health for health in job_healths()}[CORE]

    assert (figures.total, figures.successful, figures.success_percent) == (4, 3, 75)
    assert figures.average_ms == 40
    assert figures.last_run is not None
    assert abs((figures.last_run - ago(10)).total_seconds()) < 5
    assert not figures.ran_recently


def test_people_s_jobs_are_not_in_the_table(core: Endpoint) -> None:
    make_run(make_endpoint(make_job(name="Shop")))

    assert {health.job for health in job_healths()} == {CORE, FAULTS}


@pytest.mark.parametrize(("good", "bad", "well"), [(9, 1, True), (8, 1, False), (10, 0, True), (0, 3, False)])
def test_core_must_succeed_nine_times_of_ten(core: Endpoint, good: int, bad: int, well: bool) -> None:
    runs(core, good, bad, started_at=ago(1))
    beat(worker="scheduler-1", kind=WorkerKind.SCHEDULER, facts={})

    assert (faults_of(job_healths()) == []) is well
    if well:
        assert CORE in said()
    else:
        with pytest.raises(CommandError, match="at least 90 % is normal"):
            said()


def test_service_that_stopped_a_moment_ago_is_a_fault_although_the_hour_looks_well(core: Endpoint) -> None:
    runs(core, good=20, bad=0)

    assert faults_of(job_healths()) == [f"No run of {CORE} started in the last 5 minutes."]
    with pytest.raises(CommandError, match="No scheduler lives"):
        said()


def test_a_job_without_runs_is_a_fault(core: Endpoint) -> None:
    assert faults_of(job_healths()) == [f"{CORE} has no runs in the last hour."]


def test_jobs_that_are_missing_are_a_fault() -> None:
    assert len(faults_of(job_healths())) == 2
    assert "seed_synthetic" in faults_of([])[0]


def test_table_has_a_line_for_each_job(core: Endpoint) -> None:
    lines = table(job_healths()).splitlines()

    assert [line.split("  ")[0] for line in lines] == ["job", CORE, FAULTS]
    assert lines[2].split()[2:6] == ["1", "0", "0.0", "5000.0"]


def test_recent_asks_for_a_run_of_the_last_five_minutes(core: Endpoint) -> None:
    make_run(core, due_at=ago(6))
    with pytest.raises(CommandError, match="last 5 minutes"):
        said("--recent")

    make_run(core, due_at=ago(1), status=RunStatus.FAILED)

    assert "ran in the last 5 minutes" in said("--recent")


def test_worker_is_healthy_while_it_beats_on_this_host() -> None:
    with pytest.raises(CommandError, match="No scheduler"):
        call_command("worker_health", "scheduler")
    worker = worker_name(WorkerKind.SCHEDULER)
    beat(worker=worker, kind=WorkerKind.SCHEDULER, facts={})

    call_command("worker_health", "scheduler", stdout=StringIO())
    with pytest.raises(CommandError, match="No planner"):
        call_command("worker_health", "planner")

    with connection.cursor() as cursor:
        cursor.execute("UPDATE worker_heartbeats SET seen_at = seen_at - interval '61 seconds'")
    with pytest.raises(CommandError, match=r"6[12] s old"):
        call_command("worker_health", "scheduler")


def test_worker_whose_work_does_not_go_on_is_live_but_not_ready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pulse_module, "_SHARED_MEMORY", tmp_path)
    worker = worker_name(WorkerKind.SCHEDULER)
    with pytest.raises(CommandError, match="sign of life"):
        call_command("worker_health", "scheduler", "--live")
    pulse = Pulse(worker)
    pulse.beat("No result could be saved for 40 s.")

    call_command("worker_health", "scheduler", "--live", stdout=StringIO())
    for ready in ((), ("--ready",)):
        with pytest.raises(CommandError, match="No result could be saved"):
            call_command("worker_health", "scheduler", *ready)
    pulse.beat(None)
    call_command("worker_health", "scheduler", "--ready", stdout=StringIO())
    pulse.end()
    with pytest.raises(CommandError, match="sign of life"):
        call_command("worker_health", "scheduler", "--live")


def test_folder_of_somebody_else_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pulse_module, "_SHARED_MEMORY", tmp_path)
    Pulse("scheduler-1").end()
    (folder,) = tmp_path.iterdir()
    folder.chmod(0o777)
    Pulse("scheduler-1").beat(None)

    assert list(folder.iterdir()) == []
    assert "pulse_unwritten" in caplog.text


def test_heartbeat_tells_of_a_problem_where_there_is_no_file() -> None:
    worker = worker_name(WorkerKind.SCHEDULER)
    beat(worker=worker, kind=WorkerKind.SCHEDULER, facts={"problem": "No endpoint could be claimed for 30 s."})
    with pytest.raises(CommandError, match="could be claimed"):
        call_command("worker_health", "scheduler")


def test_worker_that_stopped_or_runs_on_another_host_is_not_healthy_here() -> None:
    worker = worker_name(WorkerKind.PLANNER)
    beat(worker=worker, kind=WorkerKind.PLANNER, facts={})
    farewell(worker=worker)
    beat(worker=f"planner-{platform.node()[:34]}-other-1-abcdef", kind=WorkerKind.PLANNER, facts={})
    beat(worker="planner-elsewhere-1-abcdef", kind=WorkerKind.PLANNER, facts={})

    with pytest.raises(CommandError, match="No planner"):
        call_command("worker_health", "planner")
