"""Routes that steer an endpoint: hints, pauses, run now. Each takes effect at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from jobs import selectors, services
from jobs.api.base import ApiView, described, show
from jobs.api.inputs import IntervalHintInput, OneShotHintInput, PauseInput
from jobs.api.outputs import EndpointOutput
from jobs.errors import InvalidInputError
from jobs.models import Author
from jobs.texts import clean_paragraph

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
            reason=_reason(values["reason"]),
            author=Author.USER,
        )
        return show(EndpointOutput, endpoint)


class OneShotHintView(ApiView):
    """The one-shot hint."""

    @described("setOneShotHint", takes=OneShotHintInput, gives=EndpointOutput)
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Run once at a time, if nothing runs sooner; a time in the past means now."""
        selectors.find_endpoint(self.owner, endpoint_id)
        values = self.read(OneShotHintInput)
        with _time_to_live_in_minutes():
            endpoint = services.set_oneshot_hint(
                endpoint_id=endpoint_id,
                next_run_at=values.get("nextRunAt"),
                next_run_in_ms=values.get("nextRunInMs"),
                ttl_ms=values["ttlMinutes"] * MINUTE_MS,
                reason=_reason(values["reason"]),
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
        """Pause until a time; null resumes. A pause without end is the endpoint's status."""
        selectors.find_endpoint(self.owner, endpoint_id)
        values = self.read(PauseInput)
        if values["pausedUntil"] is None:
            return show(EndpointOutput, services.resume(endpoint_id=endpoint_id, author=Author.USER))
        endpoint = services.pause(
            endpoint_id=endpoint_id,
            until=values["pausedUntil"],
            reason=_reason(values["reason"]),
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


def _reason(text: str) -> str:
    return clean_paragraph("reason", text, limit=services.REASON_LIMIT)


@contextmanager
def _time_to_live_in_minutes() -> Iterator[None]:
    """Names the API's field where the service finds fault with its time to live."""
    try:
        yield
    except InvalidInputError as error:
        faults = (replace(fault, field="ttl_minutes") if fault.field == "ttl_ms" else fault for fault in error.faults)
        raise InvalidInputError(*faults) from None
