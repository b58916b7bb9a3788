"""The self-test targets: four routes that need no login and touch no database.

They behave on purpose as endpoints of users do: `health` and `echo` well, `slow` and `flaky` badly.
"""

import json
import math
import secrets
import threading
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from cronicorn.runtime.clock import machine_now

ECHO_MAX_BYTES = 16_384
SLOW_SECONDS = 5.0
SLOW_AT_ONCE = 4
FLAKY_FAILURE_PERCENT = 30

_slow_places = threading.BoundedSemaphore(SLOW_AT_ONCE)
_never = threading.Event()


def fault(status: HTTPStatus, code: str, message: str, **headers: str) -> JsonResponse:
    """An answer in the error shape of the API."""
    errors = [{"code": code, "field": None, "message": message}]
    answer = JsonResponse({"errors": errors}, status=status, headers=headers)
    answer._has_been_logged = True  # type: ignore[attr-defined]  # a fault on purpose is no line in Django's log
    return answer


@method_decorator([csrf_exempt, never_cache], name="dispatch")
class SyntheticView(View):
    """A route that answers JSON, also to a wrong method."""

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answers 405 with the methods that are allowed."""
        allowed = ", ".join(name.upper() for name in self.http_method_names if hasattr(self, name))
        return fault(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"Use {allowed}.", Allow=allowed)


class HealthView(SyntheticView):
    """Always well."""

    def get(self, request: HttpRequest) -> JsonResponse:
        """Answers 200 with the time of this machine."""
        timestamp = machine_now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return JsonResponse({"status": "ok", "timestamp": timestamp})


class EchoView(SyntheticView):
    """Gives back what it is sent."""

    def post(self, request: HttpRequest) -> JsonResponse:
        """Answers the JSON document of the body as `received`; 400 when it is none, 413 above ECHO_MAX_BYTES."""
        try:
            body = request.body
        except RequestDataTooBig:
            body = None
        if body is None or len(body) > ECHO_MAX_BYTES:
            message = f"At most {ECHO_MAX_BYTES} bytes are echoed."
            return fault(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", message)
        try:
            document = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
        except (ValueError, RecursionError):
            return fault(HTTPStatus.BAD_REQUEST, "invalid_json", "The body is not a JSON document.")
        return JsonResponse({"received": document})


class SlowView(SyntheticView):
    """Takes its time. The places are counted per process, so that the self-test never occupies every thread."""

    def get(self, request: HttpRequest) -> JsonResponse:
        """Answers 200 after SLOW_SECONDS; 429 at once while SLOW_AT_ONCE others wait."""
        if not _slow_places.acquire(blocking=False):
            message = f"At most {SLOW_AT_ONCE} slow answers are prepared at once."
            return fault(HTTPStatus.TOO_MANY_REQUESTS, "too_many_at_once", message, **{"Retry-After": "5"})
        try:
            _never.wait(SLOW_SECONDS)
        finally:
            _slow_places.release()
        return JsonResponse({"status": "ok", "waitedMs": round(SLOW_SECONDS * 1000)})


class FlakyView(SyntheticView):
    """Fails by chance."""

    def get(self, request: HttpRequest) -> JsonResponse:
        """Answers 500 in FLAKY_FAILURE_PERCENT of the calls, 200 in the others."""
        if secrets.randbelow(100) < FLAKY_FAILURE_PERCENT:
            return fault(HTTPStatus.INTERNAL_SERVER_ERROR, "flaky", "This call failed by chance, as it should.")
        return JsonResponse({"status": "ok"})


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("JSON has no infinities")
    return number
