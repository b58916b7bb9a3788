"""The dispatcher that speaks HTTP through httpx, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast
from uuid import UUID

import httpx2

from scheduling.dispatch.failures import CANCELED, CRASHED, Failure, Phase
from scheduling.dispatch.faults import DestinationRefusedError, explain
from scheduling.dispatch.lookups import GetAddrInfo, Lookups
from scheduling.dispatch.recorder import Recorder
from scheduling.dispatch.request import request_headers, request_method
from scheduling.dispatch.resolver import DnsHealth, Resolver, is_literal
from scheduling.dispatch.wire import JudgedTransport
from scheduling.egress.policy import EgressPolicy
from scheduling.exchange.outcome import Call, ErrorKind, Outcome

SPARE_LOOKUPS = 256
CLOSE_TIMEOUT_S = 5.0

logger = logging.getLogger(__name__)


class HttpxDispatcher:
    """Makes up to `concurrency` calls at a time; further ones wait their turn and their deadline waits with them.

    The transport is driven directly and no httpx client is involved: there are no cookies, no redirects, no
    environment proxies and no shared connections to switch off. A given `transport` replaces the network, for
    simulations; URLs are judged all the same. `ca_file` names certificate authorities (PEM) trusted beside those of
    the system; verification cannot be turned off.
    """

    def __init__(
        self,
        egress: EgressPolicy,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        concurrency: int,
        ca_file: str | None = None,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
    ) -> None:
        self._egress = egress
        self._health = DnsHealth()
        self._lookups = Lookups(concurrency + SPARE_LOOKUPS, getaddrinfo)
        resolver = Resolver(self._lookups)
        self._transport = transport or JudgedTransport(egress, resolver, self._health, _tls_context(ca_file))
        self._turns = asyncio.Semaphore(concurrency)
        self._tasks: dict[UUID, asyncio.Task[Outcome]] = {}
        self._ready = threading.Condition()
        self._under_way: set[UUID] = set()
        self._outcomes: list[Outcome] = []
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dispatcher", daemon=True)
        self._thread.start()

    def start(self, call: Call) -> None:
        """Begin the call and return at once; raise ValueError for a run that is under way, RuntimeError once closed."""
        with self._ready:
            if self._closed:
                raise RuntimeError("The dispatcher is closed.")
            if call.run_id in self._under_way:
                raise ValueError(f"Run {call.run_id} is under way.")
            self._under_way.add(call.run_id)
            self._loop.call_soon_threadsafe(self._spawn, call)

    def completed(self, timeout: float) -> list[Outcome]:
        """Return the outcomes that are ready, waiting up to `timeout` seconds for the first; empty when none came."""
        with self._ready:
            self._ready.wait_for(lambda: self._outcomes, timeout)
            outcomes, self._outcomes = self._outcomes, []
            self._under_way.difference_update(outcome.call.run_id for outcome in outcomes)
            return outcomes

    def cancel(self, run_id: UUID) -> None:
        """Stop the call of `run_id`, which ends as `canceled`; without effect on one that has ended or is unknown."""
        with self._ready:
            if not self._closed:
                self._loop.call_soon_threadsafe(self._cancel, run_id)

    def in_flight(self) -> int:
        """Return how many calls were started and not yet handed out by `completed`."""
        with self._ready:
            return len(self._under_way)

    def close(self) -> None:
        """Cancel what is under way and free threads and sockets; outcomes can still be fetched. Safe to repeat."""
        with self._ready:
            if self._closed:
                return
            self._closed = True
        self._lookups.close()
        try:
            asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(CLOSE_TIMEOUT_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _spawn(self, call: Call) -> None:
        recorder = Recorder(call)
        task = self._loop.create_task(self._run(recorder))
        self._tasks[call.run_id] = task
        task.add_done_callback(lambda done: self._hand_in(recorder, done))

    def _cancel(self, run_id: UUID) -> None:
        task = self._tasks.get(run_id)
        if task is not None:
            task.cancel()

    def _hand_in(self, recorder: Recorder, task: asyncio.Task[Outcome]) -> None:
        """Queue the outcome of a task that ended in any way, also one canceled before its first step."""
        call = recorder.call
        del self._tasks[call.run_id]
        if task.cancelled():
            outcome = recorder.finish(CANCELED)
        elif (error := task.exception()) is not None:
            logger.error("call_crashed", extra={"run_id": str(call.run_id), "error": type(error).__name__})
            outcome = Outcome.unsent(call, CRASHED.kind, CRASHED.message, CRASHED.blame, time.monotonic_ns())
        else:
            outcome = task.result()
        with self._ready:
            self._outcomes.append(outcome)
            self._ready.notify_all()

    async def _run(self, recorder: Recorder) -> Outcome:
        async with self._turns:
            recorder.started_ns = time.monotonic_ns()
            recorder.deadline = self._loop.time() + recorder.call.timeout_ms / 1000
            try:
                async with asyncio.timeout_at(recorder.deadline):
                    await self._exchange(recorder)
            except Exception as error:  # noqa: BLE001  whatever a call raises is its own outcome
                return recorder.finish(self._failure(error, recorder))
            return recorder.finish(None)

    async def _exchange(self, recorder: Recorder) -> None:
        call = recorder.call
        if not self._egress.judge_url(call.url, synthetic=call.synthetic).allowed:
            raise DestinationRefusedError
        recorder.synthetic_target = call.synthetic and self._egress.is_synthetic_target(call.url)
        request = _request(recorder)
        recorder.host = request.url.host
        response = await self._transport.handle_async_request(request)
        try:
            recorder.receive(response.status_code, response.headers.items())
            async with aclosing(_chunks(response)) as chunks:
                async for chunk in chunks:
                    if not recorder.keep(chunk):
                        break
        finally:
            await response.aclose()

    def _failure(self, error: Exception, recorder: Recorder) -> Failure:
        if isinstance(error, TimeoutError) and recorder.phase is Phase.RESOLVE and not is_literal(recorder.host):
            self._health.record(recorder.host, False, time.monotonic_ns())
        failure = explain(error, recorder, self._health.blame())
        if failure.kind is ErrorKind.INTERNAL_ERROR:
            # The text of the exception may quote a header; its type does not.
            context = {"run_id": str(recorder.call.run_id), "error": type(error).__name__}
            logger.error("call_crashed", extra=context)
        return failure

    async def _shut_down(self) -> None:
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others)
        await self._transport.aclose()


def _chunks(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    return cast("AsyncGenerator[bytes, None]", aiter(cast("httpx2.AsyncByteStream", response.stream)))


def _request(recorder: Recorder) -> httpx2.Request:
    call = recorder.call
    try:
        url = httpx2.URL(call.url)
    except httpx2.InvalidURL:
        raise DestinationRefusedError from None
    return httpx2.Request(
        request_method(call), url, headers=request_headers(call), content=call.body, extensions={"recorder": recorder}
    )


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    context = httpx2.create_ssl_context(trust_env=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context
