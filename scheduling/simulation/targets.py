"""What calls meet in a simulation: a target answers each with an outcome and how long it takes. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random
from typing import Protocol

from scheduling.exchange.criteria import SuccessCriteria
from scheduling.exchange.outcome import Blame, Call, ErrorKind, Outcome, Timings
from scheduling.simulation.scenario import EndpointSpec


class Target(Protocol):
    """Answers the calls of one endpoint, in the order of time."""

    def answer(self, now: datetime) -> tuple[Outcome, timedelta]:
        """The outcome of a call that starts at `now`, and how long it takes."""


class ModelledTarget:
    """Answers as the endpoint's `OutcomeModel` says, drawn from a stream of its own: others do not change it."""

    def __init__(self, spec: EndpointSpec, seed: int) -> None:
        self._model = spec.outcome
        self._random = dice_of(spec, seed)
        self._calls = 0
        call = call_of(spec)
        self._ok = outcome_of(call, ok=True, status_code=200)
        retry_after = spec.outcome.retry_after
        self._failed = outcome_of(
            call,
            ok=False,
            status_code=spec.outcome.status_code,
            wait_headers=() if retry_after is None else (("retry-after", retry_after),),
        )
        low, high = spec.outcome.duration_ms
        self._fixed_duration = timedelta(milliseconds=low) if low == high else None

    def answer(self, now: datetime) -> tuple[Outcome, timedelta]:
        """The outcome of the next call, and how long it takes; the time does not matter."""
        outcome = self._ok if self._next_is_ok() else self._failed
        if self._fixed_duration is not None:
            return outcome, self._fixed_duration
        low, high = self._model.duration_ms
        return outcome, timedelta(milliseconds=low + int(self._random.random() * (high - low + 1)))

    def _next_is_ok(self) -> bool:
        if self._model.pattern:
            self._calls += 1
            return self._model.pattern[(self._calls - 1) % len(self._model.pattern)]
        return self._model.fail_probability == 0 or self._random.random() >= self._model.fail_probability


def dice_of(spec: EndpointSpec, seed: int) -> Random:
    """An endpoint's own dice, which fall the same way each time."""
    return Random(f"{seed}/{spec.name}")  # noqa: S311  not for secrets


def call_of(spec: EndpointSpec) -> Call:
    """The call that the outcomes of an endpoint belong to; nothing of it is looked at."""
    return Call(
        run_id=spec.id,
        endpoint_id=spec.id,
        fence=0,
        method="GET",
        url="",
        headers=(),
        body=None,
        timeout_ms=0,
        max_response_bytes=0,
        success=SuccessCriteria(),
        owner_id=spec.id,
    )


def outcome_of(
    call: Call,
    *,
    ok: bool,
    status_code: int | None,
    wait_headers: Iterable[tuple[str, str]] = (),
    body: str = "",
    truncated: bool = False,
    error_kind: ErrorKind | None = None,
) -> Outcome:
    """What a call brings back, as far as settling and planners look at it.

    Without an `error_kind` a failed call without a status timed out, and one that failed although its status is fine
    broke an assertion of its owner.
    """
    kind = None
    if not ok:
        fine = status_code is not None and 200 <= status_code < 300
        usual = ErrorKind.ASSERTION_FAILED if fine else ErrorKind.HTTP_ERROR if status_code else ErrorKind.TIMEOUT
        kind = error_kind or usual
    return Outcome(
        call=call,
        ok=ok,
        error_kind=kind,
        error_message=None if ok else "The scenario lets this call fail.",
        blame=None if ok else Blame.REMOTE,
        status_code=status_code,
        timings=Timings(),
        started_ns=0,
        finished_ns=0,
        body=body,
        truncated=truncated,
        wait_headers=tuple(wait_headers),
    )
