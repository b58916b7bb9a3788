"""An OpenAI-compatible chat completions service on the wire; it answers as scripted and remembers what it was asked."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.http_target import Answer, HttpTarget, Received, Reply, drip, in_turn, reset

PATH = "/v1/chat/completions"
_ids = itertools.count(1)


def call(tool: str, arguments: dict[str, Any] | str) -> dict[str, Any]:
    """One tool call as the service sends it; text arguments go out as they are."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": f"call_{next(_ids)}", "type": "function", "function": {"name": tool, "arguments": text}}


def submit(**fields: Any) -> dict[str, Any]:
    """The call that ends an analysis."""
    return call("submit_analysis", {"reasoning": "All is well.", "confidence": 0.9, **fields})


def completion(
    *calls: dict[str, Any],
    text: str | None = None,
    finish_reason: str | None = None,
    usage: dict[str, Any] | None = None,
    refusal: str | None = None,
    **reply: Any,
) -> Reply:
    """A faithful chat completion with these tool calls."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": refusal}
    if calls:
        message["tool_calls"] = list(calls)
    document = {
        "id": f"chatcmpl-{next(_ids)}",
        "object": "chat.completion",
        "created": 1_770_000_000,
        "model": "scripted-1",
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": finish_reason or ("tool_calls" if calls else "stop"),
            }
        ],
        "usage": usage or {"prompt_tokens": 900, "completion_tokens": 60, "total_tokens": 960},
    }
    return Reply(body=json.dumps(document).encode(), **reply)


def failure(status: int, **headers: str) -> Reply:
    """The error shape of the service."""
    error = {"error": {"message": "Scripted.", "type": "scripted", "param": None, "code": None}}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(error).encode(), names)


def huge(size: int = 50_000_000) -> Reply:
    """A completion that would be fine, but for `size` blanks at its end."""
    reply = completion(submit())
    return Reply(body=reply.body + b" " * size)


NOT_JSON = Reply(body=b"<html>Bad gateway</html>", headers={"Content-Type": "text/html"})
BROKEN_JSON = Reply(body=b'{"choices": [')
WRONG_SHAPE = Reply(body=b'{"choices": "none", "usage": 7}')
SHORT = Reply(body=b'{"id": "chatcmpl', content_length=4_000)
RESET = reset()
DRIPPING_HEADERS = drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000)
DRIPPING_BODY = drip(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b" " * 10_000)


class ModelServer:
    """A running service; `script` sets its answers, given in turn, the last one again and again."""

    def __init__(self, target: HttpTarget) -> None:
        self._target = target
        self.base_url = target.url("/v1")
        self.script(completion(submit()))

    def script(self, *answers: Answer) -> None:
        """Answers requests in this order."""
        self._target.route(PATH, in_turn(*answers))

    def decide(self, choose: Callable[[dict[str, Any]], Answer]) -> None:
        """Answers each request by its own body."""
        self._target.route(PATH, lambda request, wire: choose(json.loads(request.body))(request, wire))

    @property
    def received(self) -> list[Received]:
        """The requests as they arrived."""
        return self._target.requests

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The bodies of all requests so far."""
        return [json.loads(request.body) for request in self._target.requests]

    def wait_for(self, count: int) -> None:
        """Returns once `count` requests have arrived."""
        self._target.wait_for(count)


def held(gate: threading.Event, *calls: dict[str, Any]) -> Reply:
    """A completion that is sent when the gate opens."""
    return completion(*calls, hold=gate)


@pytest.fixture
def model_server(http_target: HttpTarget) -> ModelServer:
    """A running service for one test."""
    return ModelServer(http_target)
