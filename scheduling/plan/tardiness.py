"""What becomes of baseline slots that passed while nobody could claim them. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduling.cron.cadence import Cadence
from scheduling.plan.interval import Interval

TICK = timedelta(microseconds=1)
# No cron expression has two slots closer together.
SHORTEST_CRON_GAP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Tardy:
    """One row for a gap. A run serves `latest_at`, the latest slot; a `missed` row starts at the first slot of the gap.

    `folded` counts the slots that the row stands for beside its own.
    """

    first_at: datetime
    latest_at: datetime
    folded: int
    missed: bool

    @property
    def scheduled_for(self) -> datetime:
        """The slot of the row."""
        return self.first_at if self.missed else self.latest_at

    @property
    def words(self) -> str:
        """What the decision's sentence adds."""
        if self.missed:
            return "Written off: it came due while no worker was free, and its grace has passed."
        slots = "1 earlier slot was" if self.folded == 1 else f"{self.folded} earlier slots were"
        return f"{slots} folded into this run: no worker was free at the time."


def judge_tardiness(
    *,
    slot_at: datetime,
    now: datetime,
    interval: Interval | None,
    cadence: Cadence | None,
    ends_at: datetime | None,
    grace_ms: int | None,
) -> Tardy | None:
    """Looks at a slot that is claimed at `now`; None when the claim is for this slot and in time.

    Where the run was due later than its slot, by jitter or a pause, `now` is that much earlier than the claim.
    The grace counts from the latest slot that has come: within it that slot runs, beyond it the whole gap is missed.
    """
    end = now if ends_at is None else min(now, ends_at - TICK)
    latest, folded = slot_at, 0
    if interval is not None:
        if end >= interval.later(slot_at, interval.step):
            latest, folded = interval.latest_at_or_before(end), interval.count_between(slot_at, end)
    elif cadence is not None and end >= slot_at + SHORTEST_CRON_GAP:
        latest = cadence.latest_at_or_before(end, not_before=slot_at) or slot_at
        folded = cadence.count_between(slot_at, latest)
    missed = grace_ms is not None and now - latest > timedelta(milliseconds=grace_ms)
    if not folded and not missed:
        return None
    return Tardy(first_at=slot_at, latest_at=latest, folded=folded, missed=missed)
