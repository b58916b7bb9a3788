"""The seam between the worker and whatever speaks HTTP."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from scheduling.exchange.outcome import Call, Outcome


class Dispatcher(Protocol):
    """Turns every `Call` into exactly one `Outcome`, whatever happens. All methods are thread-safe."""

    def start(self, call: Call) -> None:
        """Begin the call and return at once; raise ValueError for a run that is under way, RuntimeError once closed."""

    def completed(self, timeout: float) -> list[Outcome]:
        """Return the outcomes that are ready, waiting up to `timeout` seconds for the first; empty when none came."""

    def cancel(self, run_id: UUID) -> None:
        """Stop the call of `run_id`, which ends as `canceled`; without effect on one that has ended or is unknown."""

    def in_flight(self) -> int:
        """Return how many calls were started and not yet handed out by `completed`."""

    def close(self) -> None:
        """Cancel what is under way and free threads and sockets; outcomes can still be fetched. Safe to repeat."""
