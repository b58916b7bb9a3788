"""Routes that steer an endpoint: hints, pauses, run now. Each takes effect at once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from jobs import authoring, selectors, services
from jobs.api.base import ApiView, described, show
from jobs.api.inputs import IntervalHintInput, OneShotHintInput, PauseInput
from jobs.api.outputs import EndpointOutput
from jobs.errors import Fault, InvalidInputError, Unreadable
from jobs.models import Author

MINUTE_MS = 60_000


class IntervalHintView(ApiView):
    """The interval hint."""

    @described("setIntervalHint", takes=IntervalHintInput, gives=EndpointOutput)
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Run every intervalMs for ttlMinutes, inside the endpoint's bounds."""
        selectors.find_endpoint(self.owner, endpoint_id)
        values = self.read(IntervalHintInput)
        endpoint = services.set_interval_hint(
            endpoint_id=endpoint_id,
            interval_ms=values["intervalMs"],
            ttl_ms=values["ttlMinutes"] * MINUTE_MS,
            reason=values["reason"],
            author=Author.USER,
        )
        return show(EndpointOutput, endpoint)


class OneShotHintView(ApiView):
    """The one-shot hint."""

    @described("setOneShotHint", takes=OneShotHintInput, gives=EndpointOutput)
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Run once at a time, if nothing runs sooner; a time in the past means now."""
        selectors.find_endpoint(self.owner, endpoint_id)
        values = self.read(OneShotHintInput, further=_oneshot_faults)
        with _time_to_live_in_minutes():
            endpoint = services.set_oneshot_hint(
                endpoint_id=endpoint_id,
                next_run_at=values.get("nextRunAt"),
                next_run_in_ms=values.get("nextRunInMs"),
                ttl_ms=values["ttlMinutes"] * MINUTE_MS,
                reason=values["reason"],
                author=Author.USER,
            )
        return show(EndpointOutput, endpoint)


class HintsView(ApiView):
    """Both hints."""

    @described("clearHints", gives=EndpointOutput)
    def delete(self, request: Request, endpoint_id: UUID) -> Response:
        """Drop the hints: back to the baseline now."""
        selectors.find_endpoint(self.owner, endpoint_id)
        return show(EndpointOutput, services.clear_hints(endpoint_id=endpoint_id, author=Author.USER))


class PauseEndpointView(ApiView):
    """The pause with an end."""

    @described("pauseEndpoint", takes=PauseInput, gives=EndpointOutput)
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Pause until a time; null resumes, also from a pause without end, which is the endpoint's status."""
        selectors.find_endpoint(self.owner, endpoint_id)
        values = self.read(PauseInput, further=_pause_faults)
        if values["pausedUntil"] is None:
            return show(EndpointOutput, authoring.resume_endpoint(endpoint_id=endpoint_id))
        endpoint = services.pause(
            endpoint_id=endpoint_id,
            until=values["pausedUntil"],
            reason=values["reason"],
            author=Author.USER,
        )
        return show(EndpointOutput, endpoint)


class RunNowView(ApiView):
    """Run now."""

    @described("runNow", gives=EndpointOutput, code=202)
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Ask the scheduler for one run at once."""
        selectors.find_endpoint(self.owner, endpoint_id)
        self.read_nothing()
        return show(EndpointOutput, services.run_now(endpoint_id=endpoint_id, by=self.owner.pk), 202)


class ResetFailuresView(ApiView):
    """The streak of failures."""

    @described("resetFailures", gives=EndpointOutput)
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Clear the streak and start the interval's grid anew."""
        selectors.find_endpoint(self.owner, endpoint_id)
        self.read_nothing()
        return show(EndpointOutput, services.reset_failures(endpoint_id=endpoint_id))


def _oneshot_faults(values: Mapping[str, Any]) -> list[Fault]:
    at, in_ms, ttl_minutes = values.get("nextRunAt"), values.get("nextRunInMs"), values["ttlMinutes"]
    if (at is None) == (in_ms is None):
        return [Fault("nextRunAt", "required", "Give either nextRunAt or nextRunInMs, not both.")]
    if any(isinstance(value, Unreadable) for value in (at, in_ms, ttl_minutes)):
        return []
    now = selectors.current_time()
    at = at if at is not None else now + timedelta(milliseconds=in_ms or 0)
    faults = services.oneshot_faults(at, now + timedelta(minutes=ttl_minutes))
    return [replace(fault, field="ttlMinutes") for fault in faults]


def _pause_faults(values: Mapping[str, Any]) -> list[Fault]:
    until = values["pausedUntil"]
    if until is None or isinstance(until, Unreadable):
        return []
    return [replace(fault, field="pausedUntil") for fault in services.pause_faults(until, selectors.current_time())]


@contextmanager
def _time_to_live_in_minutes() -> Iterator[None]:
    """Names the API's field where the service finds fault with its time to live."""
    try:
        yield
    except InvalidInputError as error:
        faults = (replace(fault, field="ttl_minutes") if fault.field == "ttl_ms" else fault for fault in error.faults)
        raise InvalidInputError(*faults) from None
