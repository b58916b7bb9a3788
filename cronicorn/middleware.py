"""What holds for every request: absolute addresses begin with SITE_URL, and an error without a body gets one."""

from collections.abc import Callable
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from cronicorn.error_pages import error_response


class SiteMiddleware:
    """Makes `request.build_absolute_uri` begin with SITE_URL, whatever Host the request names.

    Links in mail, the return addresses of sign-in providers and redirects come from it. A Host that is allowed is still
    not always ours to link to: a wildcard in ALLOWED_HOSTS, or a foreign port, would lead a reset link elsewhere.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answers the request."""
        # The cached property that all absolute addresses are built from.
        request._current_scheme_host = settings.ENV.public_url  # type: ignore[attr-defined]
        return _with_body(request, self._get_response(request))


def _with_body(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """The response; an error that would show an empty page, as Django's 405 does, with one of ours."""
    if response.status_code < HTTPStatus.BAD_REQUEST or not isinstance(response, HttpResponse) or response.content:
        return response
    page = error_response(request, response.status_code)
    page.cookies = response.cookies
    for name, value in response.items():
        if name not in ("Content-Type", "Content-Length"):
            page[name] = value
    return page
