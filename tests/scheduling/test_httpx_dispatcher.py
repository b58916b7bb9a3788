"""What only the httpx dispatcher has: stand-ins for the network, and errors in the shape of exceptions."""

from __future__ import annotations

import errno
from typing import Any

import httpcore2
import httpx2
import pytest

from scheduling.dispatch import HttpxDispatcher
from scheduling.dispatch.failures import Phase
from scheduling.dispatch.faults import explain
from scheduling.dispatch.recorder import Recorder
from scheduling.egress.policy import EgressPolicy
from scheduling.exchange.outcome import Blame, ErrorKind
from tests.support.calls import LOOPBACK, a_call, failure, run
from tests.support.http_target import HttpTarget


def test_given_transport_replaces_the_network_but_not_the_judge() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"path": request.url.path})

    def refuse(_request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    def crash(_request: httpx2.Request) -> httpx2.Response:
        raise RuntimeError("bug")

    wanted: list[tuple[Any, str, Any]] = [
        (answer, "http://simulated.example.com/a", (None, None)),
        (answer, "http://10.0.0.1/a", (ErrorKind.DESTINATION_NOT_ALLOWED, Blame.POLICY)),
        (answer, "http://127.0.0.1:8000/api/synthetic/health", (ErrorKind.DESTINATION_NOT_ALLOWED, Blame.POLICY)),
        (refuse, "http://simulated.example.com/a", (ErrorKind.CONNECT_FAILED, Blame.REMOTE)),
        (crash, "http://simulated.example.com/a", (ErrorKind.INTERNAL_ERROR, Blame.LOCAL)),
    ]
    egress = EgressPolicy.from_settings("", "http://127.0.0.1:8000")
    for handler, url, expected in wanted:
        dispatcher = HttpxDispatcher(egress, concurrency=1, transport=httpx2.MockTransport(handler))
        try:
            assert failure(run(dispatcher, a_call(url))) == expected
        finally:
            dispatcher.close()


def test_literal_that_httpx_cannot_read_is_refused(http_target: HttpTarget) -> None:
    dispatcher = HttpxDispatcher(LOOPBACK, concurrency=1)
    try:
        outcome = run(dispatcher, a_call(http_target.url("/", "0177.0.0.1")))
    finally:
        dispatcher.close()
    assert failure(outcome) == (ErrorKind.DESTINATION_NOT_ALLOWED, Blame.POLICY)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENETUNREACH, errno.EADDRNOTAVAIL])
def test_trouble_of_our_own_host_is_not_blamed_on_the_remote(number: int) -> None:
    recorder = Recorder(a_call("http://example.com/"))
    recorder.enter(Phase.CONNECT)
    error = httpcore2.ConnectError("All connection attempts failed")
    error.__cause__ = OSError(number, "no")
    found = explain(error, recorder, Blame.REMOTE)
    assert (found.kind, found.blame) == (ErrorKind.CONNECT_FAILED, Blame.LOCAL)
