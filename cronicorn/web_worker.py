"""The worker of gunicorn. Requests that gunicorn refuses before Django sees them get the error shape of the API.

gunicorn has no setting for the body of these answers: it writes HTML through `gunicorn.util.write_error`.
"""

import json
from typing import Any

from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

_ANSWERS = {
    400: ("malformed", "The request cannot be read."),
    403: ("permission_denied", "The request is refused."),
    414: ("too_long", "The address is too long."),
    417: ("expectation_failed", "Leave out the Expect header, or send 100-continue."),
    431: ("headers_too_large", "The headers are too many or too large."),
    500: ("internal_error", "Something went wrong; it has been logged."),
    501: ("not_implemented", "This transfer coding is not supported."),
}


class Worker(ThreadWorker):  # type: ignore[misc]
    """Threads that answer in parallel."""

    def init_process(self) -> None:
        """Puts our answer in place of gunicorn's, then serves."""
        util.write_error = write_error
        super().init_process()


def write_error(client: Any, status: int, reason: str, message: str) -> None:
    """Writes the whole answer to a request that could not be parsed; what gunicorn says of it is in the log."""
    code, text = _ANSWERS.get(status, _ANSWERS[400])
    body = json.dumps({"errors": [{"code": code, "field": None, "message": text}]})
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    util.write_nonblock(client, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1"))
