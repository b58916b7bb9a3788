"""The OpenAPI document at /api/schema, and a page that shows it at /api/docs: plain HTML, nothing from elsewhere."""

from functools import lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from jobs.api.parameters import read_parameters

_METHODS = ("get", "post", "patch", "delete")


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes both headers that carry a key."""

    target_class = "accounts.authentication.ApiKeyAuthentication"
    name = ["apiKey", "bearer"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        """The two schemes, in the order of their names."""
        return [{"type": "apiKey", "in": "header", "name": "x-api-key"}, {"type": "http", "scheme": "bearer"}]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        """Either of the two."""
        return [{"apiKey": []}, {"bearer": []}]


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes the session of the console."""

    target_class = "accounts.authentication.BrowserSessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """The cookie."""
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


class SchemaView(APIView):
    """The OpenAPI document; no login."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        """OpenAPI 3.1 as JSON."""
        read_parameters(request.query_params, None)
        return Response(openapi_document())


@lru_cache(maxsize=1)
def openapi_document() -> dict[str, Any]:
    """The document; the routes do not change while the process lives."""
    document: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return document


def docs(request: HttpRequest) -> HttpResponse:
    """A page with every operation; no login."""
    operations = [
        {"method": method.upper(), "path": path, **item[method]}
        for path, item in openapi_document()["paths"].items()
        for method in _METHODS
        if method in item
    ]
    return render(request, "api_docs.html", {"operations": operations})
