"""Faults of sign-in providers become pages: one that is not set up, is down, or answers what allauth cannot read."""

import logging
from collections.abc import Callable
from http import HTTPStatus

from allauth.socialaccount.models import SocialApp
from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from requests import RequestException

from cronicorn.logging import Event, log_event

logger = logging.getLogger(__name__)

# What reading an answer of any shape can raise; a database that is away is not among them.
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    DataError,
    RequestException,
)


class ProviderMiddleware:
    """Answers what the views of sign-in providers raise.

    allauth turns the refusals that it expects into a page of its own. An answer that is no JSON object, lacks a field
    or holds a value of another type raises whatever reading it raises.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answers the request."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """A page for a fault of a provider; None leaves the exception to others."""
        match = request.resolver_match
        if match is None or not match.func.__module__.startswith("allauth.socialaccount.providers."):
            return None
        if isinstance(exception, SocialApp.DoesNotExist):
            raise Http404 from exception
        if not isinstance(exception, _UNREADABLE):
            return None
        reason = f"{type(exception).__name__}: {exception}"[:500]
        log_event(logger, Event.SIGN_IN_FAILED, logging.WARNING, provider=match.route, reason=reason)
        return render(request, "socialaccount/authentication_error.html", status=HTTPStatus.BAD_GATEWAY)
