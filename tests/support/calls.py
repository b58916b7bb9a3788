"""Calls for dispatchers to make, and ways to fetch what came of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from scheduling.dispatch import Dispatcher
from scheduling.egress.policy import EgressPolicy
from scheduling.exchange.outcome import Blame, Call, ErrorKind, Outcome, parse_success_criteria

LOOPBACK = EgressPolicy.from_settings("127.0.0.0/8,[::1]/128")
OWNER = uuid4()


def a_call(url: str, **changes: Any) -> Call:
    values: dict[str, Any] = {
        "run_id": uuid4(),
        "endpoint_id": uuid4(),
        "fence": 1,
        "method": "GET",
        "url": url,
        "headers": (),
        "body": None,
        "timeout_ms": 5_000,
        "max_response_bytes": 102_400,
        "success": parse_success_criteria(changes.pop("criteria", None)),
        "owner_id": OWNER,
    }
    return Call(**(values | changes))


def run(dispatcher: Dispatcher, call: Call) -> Outcome:
    dispatcher.start(call)
    (outcome,) = collect(dispatcher, 1)
    return outcome


def collect(dispatcher: Dispatcher, count: int) -> list[Outcome]:
    """Fetch `count` outcomes, in the order in which they came."""
    outcomes: list[Outcome] = []
    until = time.monotonic() + 20
    while len(outcomes) < count and time.monotonic() < until:
        outcomes += dispatcher.completed(1.0)
    assert len(outcomes) == count
    return outcomes


def failure(outcome: Outcome) -> tuple[ErrorKind | None, Blame | None]:
    assert outcome.ok is (outcome.error_kind is None) is (outcome.blame is None) is (outcome.error_message is None)
    return outcome.error_kind, outcome.blame


def a_resolver(answers: dict[str, Any]) -> Callable[..., list[Any]]:
    """Answer like getaddrinfo; a list of lists is answered one after the other, the last one again and again."""

    def getaddrinfo(host: str, _port: object, **_options: object) -> list[Any]:
        answer = answers.get(host)
        if answer is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if callable(answer):
            answer()
        chosen = answer if not isinstance(answer[0], list) else answer.pop(0) if len(answer) > 1 else answer[0]
        return [(socket.AF_INET6 if ":" in ip else socket.AF_INET, 1, 6, "", (ip, 0)) for ip in chosen]

    return getaddrinfo
