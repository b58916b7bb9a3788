"""Turns exceptions of every kind into the one error shape."""

import logging
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import Error
from django.http import UnreadablePostError
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from rest_framework.exceptions import NotFound, ParseError, ValidationError

from accounts.authentication import REFUSAL
from cronicorn.logging import Event, log_event
from cronicorn.postgres.sqlstate import drop_connection, unavailable_reason
from jobs.api.refusals import RefusedError, camel_path, error_body, faults_of
from jobs.authoring import OperatorsOnlyError
from jobs.errors import ConflictError, Fault, InvalidInputError

logger = logging.getLogger(__name__)

_PLAIN_CODES = {"authentication_failed": "not_authenticated", "error": "internal_error", "parse_error": "malformed"}


class Handler(ExceptionHandler):
    """Turns what services, models and Django raise into API errors."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        """The API error of a known exception; others pass through and become a 500."""
        match exc:
            case InvalidInputError():
                faults = (
                    fault if fault.as_sent else Fault(camel_path(fault.field), fault.code, fault.message)
                    for fault in exc.faults
                )
                return RefusedError(403 if isinstance(exc, OperatorsOnlyError) else 400, *faults)
            case ConflictError():
                return RefusedError(409, Fault(None, exc.code, str(exc)))
            case Error() if (reason := unavailable_reason(exc)) is not None:
                log_event(logger, Event.DATABASE_AWAY, logging.WARNING, what="api", error=str(exc).strip())
                drop_connection()
                return RefusedError(503, Fault(None, "database_unavailable", reason))
            case ObjectDoesNotExist():
                return NotFound()
            case UnreadablePostError():
                return ParseError("The request cannot be read.", code="malformed")
        return super().convert_known_exceptions(exc)


class Formatter(ExceptionFormatter):
    """Writes the shape."""

    def run(self) -> dict[str, Any]:
        """The body of the answer."""
        if isinstance(self.exc, RefusedError):
            return error_body(*self.exc.faults)
        if isinstance(self.exc, ValidationError):
            return error_body(*faults_of(self.exc.detail))
        code = str(getattr(self.exc.detail, "code", self.exc.default_code))
        message = REFUSAL if self.exc.status_code == 401 else str(self.exc.detail)
        return error_body(Fault(None, _PLAIN_CODES.get(code, code), message))
