"""The calls that one worker has in hand, shared by its threads."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from scheduling.exchange.outcome import Outcome
from scheduling.ledger.claims import Claim


@dataclass(slots=True)
class InHand:
    """A claim under way. `secured_at` is when its lease was last known to be held, in seconds of `boot_seconds`.

    `given_up` tells that the lease is known to be lost, or may have run out; `ended` that the call is over, so that
    only its result is still to be settled.
    """

    claim: Claim
    secured_at: float
    secrets: tuple[str, ...] = ()
    given_up: bool = False
    ended: bool = False


class Book:
    """What is claimed and not yet settled, by run; and outcomes of calls that were never made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[UUID, InHand] = {}
        self._unsent: list[Outcome] = []
        self._claims_begun = self._claims_ended = 0

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Encloses a claim, from before its statement until all that it returned is in the book, or given back."""
        with self._lock:
            self._claims_begun += 1
        try:
            yield
        finally:
            with self._lock:
                self._claims_ended += 1

    @property
    def claims_begun(self) -> int:
        """How many claims have begun so far."""
        with self._lock:
            return self._claims_begun

    @property
    def claims_ended(self) -> int:
        """How many claims are over. They come one after the other."""
        with self._lock:
            return self._claims_ended

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def add(self, run_id: UUID, entry: InHand) -> None:
        """Notes a claim, before its call starts."""
        with self._lock:
            self._entries[run_id] = entry

    def get(self, run_id: UUID) -> InHand | None:
        """The claim of a run; None when it is no longer in hand."""
        with self._lock:
            return self._entries.get(run_id)

    def remove(self, run_ids: Iterable[UUID]) -> None:
        """Forgets settled calls, which frees their slots."""
        with self._lock:
            for run_id in run_ids:
                self._entries.pop(run_id, None)

    def entries(self) -> dict[UUID, InHand]:
        """Everything in hand at this moment, by run."""
        with self._lock:
            return dict(self._entries)

    def counts(self) -> tuple[Counter[UUID], Counter[str]]:
        """How many calls each owner and each host has in hand."""
        with self._lock:
            claims = [entry.claim for entry in self._entries.values()]
        return Counter(claim.owner_id for claim in claims), Counter(claim.host for claim in claims)

    def hand_in(self, outcome: Outcome) -> None:
        """Leaves the outcome of a call that was never made, for the settler."""
        with self._lock:
            self._unsent.append(outcome)

    def take_unsent(self) -> list[Outcome]:
        """Hands those outcomes over, once."""
        with self._lock:
            outcomes, self._unsent = self._unsent, []
            return outcomes
