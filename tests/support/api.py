"""A client of the REST API that sends JSON with a key."""

import json
from typing import Any

from django.test import Client

from accounts.models import Scope, User
from tests.support.factories import make_api_key

ErrorTriple = tuple[str, str | None]


class Api:
    """Calls the API as one person; `send` gives the status and the parsed body, None where there is none."""

    def __init__(self, owner: User | None, scopes: tuple[str, ...] = (Scope.READ, Scope.WRITE)) -> None:
        self.key = make_api_key(owner, scopes)[1] if owner is not None else None
        headers = {"x-api-key": self.key} if self.key is not None else {}
        self.client = Client(headers=headers, raise_request_exception=False)

    def send(self, method: str, path: str, value: Any = None, **options: Any) -> tuple[int, Any]:
        """One request; `value` is sent as JSON, bytes as they are."""
        data = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
        response = self.client.generic(method, path, data, content_type="application/json", **options)
        return response.status_code, json.loads(response.content) if response.content else None

    def get(self, path: str) -> Any:
        """The body of a 200."""
        status, body = self.send("GET", path)
        assert status == 200, body
        return body

    def post(self, path: str, value: Any = None, expect: int = 200) -> Any:
        """The body of an expected answer."""
        status, body = self.send("POST", path, value)
        assert status == expect, body
        return body

    def patch(self, path: str, value: Any) -> Any:
        """The body of a 200."""
        status, body = self.send("PATCH", path, value)
        assert status == 200, body
        return body


def faults(body: Any) -> list[ErrorTriple]:
    """Code and field of every error; checks the shape."""
    assert all(set(error) == {"code", "field", "message"} and error["message"] for error in body["errors"])
    assert body["errors"]
    return [(error["code"], error["field"]) for error in body["errors"]]
