"""At which times of the day an endpoint's body changes, and until when it may be looked at less often. Pure.

The record holds, for each half hour of the day (UTC), the day on which a change was last seen in it. It allows a slower
pace only where it has proved itself: for `CALM` no change came at a time that it did not foresee. A body that changes
at any time of the day therefore keeps its baseline, and so does one that is not known for long enough.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

SLOT = timedelta(minutes=30)
SLOTS = 48
# A change is foreseen up to an hour before and after the half hours in which one was seen: a daily feed moves by an
# hour against UTC when the clocks change.
MARGIN = 2
REMEMBERED_DAYS = 28
CALM = timedelta(days=14)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ChangeTimes:
    """`since` is when the record began, or the last change that it did not foresee; `digest` and `at` are those of the
    last run with a body; `days` maps half hours of the day to ordinals of dates.
    """

    since: datetime
    digest: str
    at: datetime
    days: Mapping[int, int] = field(default_factory=dict)

    def foresees(self, slot: int) -> bool:
        """Whether a change may come in this half hour of a day."""
        return any((slot + offset) % SLOTS in self.days for offset in range(-MARGIN, MARGIN + 1))

    def quiet_until(self, now: datetime) -> datetime | None:
        """Until when no change is foreseen, at most a day ahead; None where one is, or the record is too short."""
        if now - self.since < CALM:
            return None
        begin, slot = _slot(now)
        for ahead in range(SLOTS):
            if self.foresees(slot + ahead):
                return begin + ahead * SLOT if ahead else None
        return now + _DAY

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        days = {str(slot): day for slot, day in self.days.items()}
        return {"since": self.since.isoformat(), "digest": self.digest, "at": self.at.isoformat(), "days": days}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ChangeTimes":
        """What `to_json` made."""
        since, at = datetime.fromisoformat(stored["since"]), datetime.fromisoformat(stored["at"])
        return cls(since, stored["digest"], at, {int(slot): day for slot, day in stored["days"].items()})


def observed(times: ChangeTimes | None, digest: str | None, at: datetime) -> ChangeTimes | None:
    """The record after a run that ended at `at`; `digest` None is a run that failed or had no body.

    A change came somewhere between the two runs, so it is noted for all half hours between them.
    """
    if digest is None or (times is not None and at <= times.at):
        return times
    if times is None:
        return ChangeTimes(at, digest, at)
    if digest == times.digest:
        return replace(times, at=at)
    today = at.toordinal()
    known = {slot: day for slot, day in times.days.items() if day > today - REMEMBERED_DAYS}
    begin, slot = _slot(times.at)
    slots = [(slot + ahead) % SLOTS for ahead in range(min((at - begin) // SLOT + 1, SLOTS))]
    before = replace(times, days=known)
    since = times.since if any(before.foresees(each) for each in slots) else at
    return ChangeTimes(since, digest, at, known | dict.fromkeys(slots, today))


def _slot(instant: datetime) -> tuple[datetime, int]:
    """When the half hour of this instant began, and its number in the day."""
    midnight = instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    number = (instant - midnight) // SLOT
    return midnight + number * SLOT, number
