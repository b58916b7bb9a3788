"""What the governor says: a frozen decision with every candidate and its verdict. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from scheduling.plan.wording import instant_words


class Source(StrEnum):
    """What made a run due."""

    BASELINE_INTERVAL = "baseline-interval"
    BASELINE_CRON = "baseline-cron"
    RUN_ONCE = "run-once"
    AI_INTERVAL = "ai-interval"
    AI_ONESHOT = "ai-oneshot"
    CLAMPED_MIN = "clamped-min"
    CLAMPED_MAX = "clamped-max"
    PAUSED = "paused"
    SERVER_ASKED = "server-asked"
    RETRY = "retry"
    MANUAL = "manual"


# A run at the end of a pause, or of a wait that the server asked for, uses up a one-shot hint that was held back.
HOLDING_SOURCES = frozenset({Source.PAUSED, Source.SERVER_ASKED})


class Verdict(StrEnum):
    """What became of a candidate."""

    CHOSEN = "chosen"
    LATER = "later"
    OVERRIDDEN = "overridden"
    EXPIRED = "expired"
    DROPPED = "dropped"
    BLOCKED_BY_PAUSE = "blocked by pause"
    PUT_OFF = "put off by the server"
    OUTSIDE_WINDOW = "outside the window"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One time that could have been next. `at` is None where the candidate names no time; `note` says why in words."""

    source: Source
    at: datetime | None
    verdict: Verdict
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        return {"source": str(self.source), "at": _text(self.at), "verdict": str(self.verdict), "note": self.note}


@dataclass(frozen=True, slots=True)
class Decision:
    """When an endpoint runs next and why.

    `run_at` is when a worker starts the call, `slot_at` the planned time that the call serves; both are None when
    nothing is due, and then `sentence` says why. `attempt` counts the calls of one slot from 1. `uncalled` is the count
    of slots that passed before, as `scheduling.plan.uncalled` stores it.
    """

    run_at: datetime | None
    slot_at: datetime | None
    source: Source | None
    sentence: str
    attempt: int = 1
    candidates: tuple[Candidate, ...] = ()
    inputs: dict[str, Any] = field(default_factory=dict)
    drop_retry: bool = False
    uncalled: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The stored form: what the endpoint keeps as next_decision and the run as decision."""
        run_at = _text(self.run_at)
        stored = {
            "run_at": run_at,
            "slot_at": run_at if self.slot_at is self.run_at else _text(self.slot_at),
            "source": str(self.source) if self.source else None,
            "attempt": self.attempt,
            "sentence": self.sentence,
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "inputs": self.inputs,
        }
        return stored if self.uncalled is None else {**stored, "uncalled": self.uncalled}


def as_of(decision: Mapping[str, Any], now: datetime, *, claimed: bool) -> dict[str, Any]:
    """A stored decision as it is to be shown at `now`: its sentence stays true when its time has come.

    `claimed` tells that a worker has taken the run.
    """
    run_at = decision.get("run_at")
    due_at = datetime.fromisoformat(run_at) if run_at is not None else None
    if due_at is None or due_at > now:
        return dict(decision)
    state = "taken by a worker" if claimed else "no worker has taken it yet"
    planned = decision.get("sentence", "")
    return {**decision, "sentence": f"Due since {instant_words(due_at, now)}, {state}. When it was planned: {planned}"}


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant is not None else None
