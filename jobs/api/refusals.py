"""The one error shape of the API: `{"errors": [{"code", "field", "message"}]}`.

Imports no views: rest_framework.views itself imports the parser that uses this module, through the settings.
"""

import re
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework.exceptions import APIException
from rest_framework.settings import api_settings

from jobs.errors import Fault

MAX_ERRORS = 100
_SNAKE = re.compile(r"_([a-z0-9])")
_FIELD_PATH = re.compile(r"(endpoints\[\d+\]\.)?([a-z0-9_]+)(.*)", re.DOTALL)


class RefusedError(APIException):
    """An answer with faults whose fields are already as in the API."""

    def __init__(self, status: int, *faults: Fault) -> None:
        super().__init__("refused")
        self.status_code = status
        self.faults = faults


def error_body(*faults: Fault) -> dict[str, Any]:
    """The shape itself."""
    return {
        "errors": [
            {"code": fault.code, "field": fault.field or None, "message": fault.message}
            for fault in faults[:MAX_ERRORS]
        ]
    }


def plain_response(status: int, code: str, message: str) -> JsonResponse:
    """An answer from outside the API's views."""
    return JsonResponse(error_body(Fault(None, code, message)), status=status)


def not_found(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
    """Answers every unknown address below /api, whatever the method."""
    return plain_response(404, "not_found", "There is nothing at this address.")


def camel_path(field: str | None) -> str | None:
    """A field of the models as the API names it; what lies below it is the user's own JSON and stays as it is."""
    found = _FIELD_PATH.fullmatch(field or "")
    if found is None:
        return field
    return (found[1] or "") + _SNAKE.sub(lambda part: part[1].upper(), found[2]) + found[3]


def faults_of(detail: Any, path: str = "") -> Iterator[Fault]:
    """The faults of a serializer's nested errors, fields as paths like `endpoints[0].name`."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            if key == api_settings.NON_FIELD_ERRORS_KEY:
                yield from faults_of(value, path)
            elif isinstance(key, int):
                yield from faults_of(value, f"{path}[{key}]")
            else:
                yield from faults_of(value, f"{path}.{key}" if path else key)
    elif isinstance(detail, list):
        for number, value in enumerate(detail):
            yield from faults_of(value, f"{path}[{number}]" if isinstance(value, dict | list) else path)
    else:
        yield Fault(path or None, detail.code, str(detail), as_sent=True)
