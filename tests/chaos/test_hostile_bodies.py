"""Answers made to break a reader end their own runs, and cost a real scheduler neither memory nor other runs."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.models import Endpoint, Run, RunResponse, RunStatus
from tests.support.http_target import HttpTarget, Reply, drip, endless, endless_header, gzip_bomb
from tests.support.processes import Command, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]
HOUR = 3_600_000
# An idle scheduler takes about 90 MB; none of these answers may add much to it.
LIMIT_MB = 200


def peak_megabytes(pid: int) -> float:
    """The most memory that a process ever had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found.group(1)) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_hostile_answers_end_their_own_runs_and_memory_stays_flat(
    start_scheduler: Callable[..., Command], make_due: Callable[..., Endpoint], target: HttpTarget
) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    asks_into_it = {"success_criteria": {"assertions": [{"path": "$.a", "op": "==", "value": 1}]}}
    answers = {
        "deep": (Reply(200, body=deep), asks_into_it),
        "large": (Reply(200, body=b"x" * 10_000_000), {}),
        "bomb": (gzip_bomb(200_000_000), {}),
        "endless": (endless(), {"timeout_ms": 2_000}),
        "header": (endless_header(), {}),
        "drip": (drip(interval_s=1.0), {"timeout_ms": 2_000}),
        "nul": (Reply(200, body=b"a\x00\xff\xed\xa0\x80"), {}),
    }
    # The bomb and the large bodies are made here, so what the target needs is not the scheduler's.
    for name, (answer, fields) in answers.items():
        for _ in range(3):
            make_due(
                target.route(f"/{name}", answer),
                baseline_interval_ms=HOUR,
                **{"max_response_bytes": 1_048_576, **fields},
            )
    plain = [make_due(target.route("/plain", Reply(200, body=b"fine")), baseline_interval_ms=HOUR) for _ in range(5)]
    scheduler = start_scheduler()
    total = 3 * len(answers) + len(plain)
    eventually(lambda: Run.objects.exclude(status=RunStatus.RUNNING).count() >= total, 40)
    assert Run.objects.filter(endpoint__in=plain, status=RunStatus.SUCCESS).count() == len(plain)
    for name in ("drip", "deep", "header"):
        assert not Run.objects.filter(endpoint__url=target.url(f"/{name}"), status=RunStatus.SUCCESS).exists(), name
    drips = Run.objects.filter(endpoint__url=target.url("/drip"))
    assert all(run.duration_ms is not None and run.duration_ms < 5_000 for run in drips)
    assert all(len(response.body) <= 1_048_576 + 100 for response in RunResponse.objects.all())
    assert not Run.objects.filter(error_kind="internal_error").exists()
    assert peak_megabytes(scheduler.pid) < LIMIT_MB
