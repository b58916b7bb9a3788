"""How long an endpoint could have been served, and was not: time without faults, calls in hand and pauses. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from tests.chaos.facts import LEASE, LONGEST_CALL, POLL, Change, ChangeKind, RunFacts, Window


def free_between(began_at: datetime, ended_at: datetime, windows: Iterable[Window]) -> timedelta:
    """How much of a span lies in none of the windows; zero for a span that ends before it begins."""
    free, reached = timedelta(0), began_at
    for window in sorted(windows, key=lambda window: window.began_at):
        if window.began_at >= ended_at:
            break
        free += max(window.began_at - reached, timedelta(0))
        reached = max(reached, window.ended_at)
    return free + max(ended_at - reached, timedelta(0))


def in_hand(run: RunFacts) -> Window:
    """From the claim to the result; after a loss, no longer than a lease and a poll may take."""
    latest = max(run.claimed_at, run.due_at) + LONGEST_CALL + LEASE + POLL
    return Window(run.claimed_at, min(run.finished_at or latest, latest))


def spans(
    changes: Sequence[Change], kind: ChangeKind, enders: Sequence[ChangeKind]
) -> Iterator[tuple[Change, Change | None]]:
    """Each change of a kind with the one that ended it, if any. The changes of one endpoint, in their order."""
    for number, change in enumerate(changes):
        if change.kind == kind:
            yield change, next((later for later in changes[number + 1 :] if later.kind in enders), None)


def closed(changes: Sequence[Change], ended_at: datetime) -> list[Window]:
    """The spans in which a person may have kept the endpoint from running: never shorter than they were."""
    found = [
        Window(pause.before, min(pause.until or ended_at, end.after if end is not None else ended_at))
        for pause, end in spans(changes, "pause", ("pause", "resume"))
    ]
    return found + [
        Window(stop.before, end.after if end is not None else ended_at)
        for stop, end in spans(changes, "stop", ("start",))
    ]
