"""Real schedulers on a PostgreSQL of their own keep the promise under random faults; long form: `scripts/chaos`."""

import subprocess
import sys

import pytest

from tests.chaos.arena import PROJECT_DIR

pytestmark = pytest.mark.processes


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--seconds", "30", "--schedulers", "3"), id="every kind of fault"),
        pytest.param(
            ("--seconds", "8", "--schedulers", "2", "--faults", "terminate", "--pause", "0.1"),
            id="connections cut ten times a second",
        ),
        pytest.param(
            ("--seconds", "11", "--schedulers", "2", "--faults", "outage", "--outage", "10", "--pause", "2"),
            id="database away for ten seconds",
        ),
    ],
)
def test_promise_is_kept(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *arguments], cwd=PROJECT_DIR, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "violations                          0" in done.stdout
