"""Every address of the site."""

import sys

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt

from cronicorn.admin import site
from cronicorn.health import health
from cronicorn.postgres.sqlstate import drop_connection, unavailable_reason
from jobs.api.refusals import not_found, plain_response

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/health", health),
    path("api/synthetic/", include("synthetic.urls")),
    path("api/", include("jobs.api.urls")),
    path("api/", include("planner.api.urls")),
    re_path(r"^api(?:/[\s\S]*)?\Z", csrf_exempt(not_found)),
    path("accounts/", include("allauth.urls")),
    path("", site.urls),
]


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answers requests that Django itself refuses, such as those for a foreign host name."""
    if request.path_info.startswith("/api"):
        return plain_response(400, "malformed", "The request cannot be read.")
    return defaults.bad_request(request, exception)


def handler500(request: HttpRequest) -> HttpResponse:
    """Answers what went wrong in us, and 503 where the database cannot serve the request for now."""
    reason = unavailable_reason(sys.exc_info()[1])
    if reason is not None:
        drop_connection()
        if request.path_info.startswith("/api"):
            return plain_response(503, "database_unavailable", reason)
        return HttpResponse(render_to_string("503.html", {"reason": reason}), status=503)
    if request.path_info.startswith("/api"):
        return plain_response(500, "internal_error", "Something went wrong; it has been logged.")
    return defaults.server_error(request)
