"""Answers that no view gives: 400, 403, 404, 405, 413, 500 and 503, as a page or in the error shape of the API.

They need neither the database nor a session, since these may be what failed.
"""

import logging
import sys
from http import HTTPStatus

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.http import Http404, HttpRequest, HttpResponse
from django.template import loader

from cronicorn.postgres.sqlstate import drop_connection, unavailable_reason
from jobs.api.refusals import plain_response

logger = logging.getLogger(__name__)

_CODES = {
    400: "malformed",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    500: "internal_error",
}
_MESSAGES = {
    400: "The request cannot be read.",
    403: "You may not do this.",
    404: "This page does not exist, or it is not yours.",
    405: "This address does not take this method.",
    413: "The request is larger than what is accepted here.",
    500: "Something went wrong; it has been logged.",
}
_PLAIN = "<!DOCTYPE html><title>{title} | Cronicorn</title><h1>{title}</h1><p>{message}</p>"


def error_response(
    request: HttpRequest, status: int, message: str | None = None, *, code: str | None = None
) -> HttpResponse:
    """The answer in the form that the client reads: JSON below /api and where JSON is preferred, else a page."""
    message = message or _MESSAGES.get(status, HTTPStatus(status).phrase)
    if is_below_api(request) or request.get_preferred_type(["text/html", "application/json"]) == "application/json":
        return plain_response(status, code or _CODES.get(status, "error"), message)
    title = HTTPStatus(status).phrase
    try:
        page: str = loader.render_to_string("error.html", {"title": title, "message": message})
    except Exception:
        # What failed may be what the page needs, such as static files that were not collected.
        logger.exception("error page")
        page = _PLAIN.format(title=title, message=message)
    return HttpResponse(page, status=status)


def is_below_api(request: HttpRequest) -> bool:
    """Whether the address belongs to the API."""
    return request.path_info == "/api" or request.path_info.startswith("/api/")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answers what Django itself refuses, such as a foreign host name or a form that is too large."""
    if isinstance(exception, RequestDataTooBig):
        return error_response(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if isinstance(exception, TooManyFieldsSent | TooManyFilesSent):
        return error_response(request, HTTPStatus.BAD_REQUEST, "The request has too many fields.", code="too_many")
    return error_response(request, HTTPStatus.BAD_REQUEST)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answers what the person may not do."""
    return error_response(request, HTTPStatus.FORBIDDEN)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answers a form without a valid CSRF token: mostly an old page, or a browser that refuses cookies."""
    message = "The form has expired, or your browser refuses cookies. Load the page again and repeat what you did."
    if is_below_api(request):
        message = "Send the CSRF token of the page in X-CSRFToken."
    return error_response(request, HTTPStatus.FORBIDDEN, message, code="csrf_failed")


def page_not_found(request: HttpRequest, exception: Http404) -> HttpResponse:
    """Answers an unknown address, and an object that is not the person's."""
    message = "There is nothing at this address." if is_below_api(request) else None
    return error_response(request, HTTPStatus.NOT_FOUND, message)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answers a fault of our own, and 503 where the database cannot serve the request for now."""
    reason = unavailable_reason(sys.exc_info()[1])
    if reason is not None:
        drop_connection()
        message = f"{reason} Nothing was changed by this request; try again in a moment."
        return error_response(request, HTTPStatus.SERVICE_UNAVAILABLE, message, code="database_unavailable")
    return error_response(request, HTTPStatus.INTERNAL_SERVER_ERROR)
