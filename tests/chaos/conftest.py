"""The scheduler's fixtures, and a proxy in front of the test's database."""

from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Proxy
from tests.scheduling.conftest import make_due, now, target, worker
from tests.support.processes import start_scheduler

__all__ = ["make_due", "now", "start_scheduler", "target", "worker"]


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Passes everything on until it is told otherwise."""
    with Proxy() as passing:
        yield passing
