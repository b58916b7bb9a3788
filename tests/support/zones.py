"""Zone rules of a test's own: a made-up zone whose clock other rules set otherwise."""

import zoneinfo
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import tzdata

from cronicorn.runtime.zonedata import use_packaged_rules
from scheduling.cron import zones
from scheduling.cron.cadence import parse_cadence

TOWN = "Test/Town"

ApplyRules = Callable[[str, int | None], None]


def fixed_offset_file(hours: int) -> bytes:
    """A zone file of a clock that is always so many hours ahead of UTC."""
    return files("tzdata").joinpath("zoneinfo", "Etc", f"GMT-{hours}" if hours else "GMT").read_bytes()


def forget_rules() -> None:
    """Forgets what was read by the rules so far, as a new process would have."""
    zoneinfo.ZoneInfo.clear_cache()
    for cached in (zones._zones, zones._segments, parse_cadence):
        cached.cache_clear()


@pytest.fixture
def apply_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApplyRules]:
    """Makes this process one of another release of the rules, in which Test/Town is so many hours ahead, or is gone."""

    def apply(version: str, hours: int | None) -> None:
        folder = tmp_path / version
        (folder / "Test").mkdir(parents=True, exist_ok=True)
        if hours is not None:
            (folder / TOWN).write_bytes(fixed_offset_file(hours))
        monkeypatch.setattr(tzdata, "IANA_VERSION", version)
        zoneinfo.reset_tzpath(to=[folder])
        forget_rules()

    yield apply
    use_packaged_rules()
    forget_rules()
