"""The HTTP connection of one call, which dials only addresses that the egress policy has judged.

The name is resolved here, each address is judged, and the judged literal itself is connected: a second answer of the
resolver is never asked for, so that rebinding cannot pass. TLS and `Host` keep the name.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import cast

import httpcore2
import httpx2

from scheduling.dispatch.failures import Phase
from scheduling.dispatch.faults import DestinationRefusedError
from scheduling.dispatch.recorder import Recorder
from scheduling.dispatch.resolver import DnsHealth, NameNotResolvedError, Resolver, in_turns, is_literal
from scheduling.egress.policy import EgressPolicy


class _JudgedBackend(httpcore2.AsyncNetworkBackend):
    """Connects for one call; `stream` is the socket once it is open."""

    def __init__(self, egress: EgressPolicy, resolver: Resolver, health: DnsHealth, recorder: Recorder) -> None:
        self._egress = egress
        self._resolver = resolver
        self._health = health
        self._recorder = recorder
        self._tcp = httpcore2.AnyIOBackend()
        self.stream: httpcore2.AsyncNetworkStream | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = await self._judged_addresses(host, port)
        self._recorder.enter(Phase.CONNECT)
        for left in range(len(addresses), 1, -1):
            # An address that does not answer leaves the next ones their share of the time.
            share = max(self._recorder.deadline - asyncio.get_running_loop().time(), 0.0) / left
            try:
                self.stream = await self._tcp.connect_tcp(addresses[-left], port, timeout=share)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
            return self.stream
        self.stream = await self._tcp.connect_tcp(addresses[-1], port)
        return self.stream

    async def _judged_addresses(self, host: str, port: int) -> list[str]:
        """Return the allowed addresses of `host`, the families taking turns; raise when there is none."""
        self._recorder.enter(Phase.RESOLVE)
        try:
            found = await self._resolver.addresses(host)
        except NameNotResolvedError:
            self._health.record(host, False, time.monotonic_ns())
            raise
        if not is_literal(host):
            self._health.record(host, True, time.monotonic_ns())
        exempt = self._recorder.synthetic_target
        allowed = [ip for ip in found if self._egress.judge_address(ip, port, synthetic_target=exempt).allowed]
        if not allowed:
            raise DestinationRefusedError
        return in_turns(allowed)


class JudgedTransport(httpx2.AsyncBaseTransport):
    """Makes each request on a connection of its own, which no other request ever uses."""

    def __init__(self, egress: EgressPolicy, resolver: Resolver, health: DnsHealth, tls: ssl.SSLContext) -> None:
        self._egress = egress
        self._resolver = resolver
        self._health = health
        self._tls = tls

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        recorder: Recorder = request.extensions["recorder"]
        backend = _JudgedBackend(self._egress, self._resolver, self._health, recorder)
        url = httpcore2.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        connection = httpcore2.AsyncHTTPConnection(origin=url.origin, ssl_context=self._tls, network_backend=backend)
        try:
            response = await connection.handle_async_request(
                httpcore2.Request(
                    method=request.method,
                    url=url,
                    headers=request.headers.raw,
                    content=cast("httpx2.AsyncByteStream", request.stream),
                    extensions={"trace": recorder.trace},
                )
            )
        except BaseException:
            # httpcore leaves the socket open when it is canceled in the middle of a TLS handshake.
            if backend.stream is not None:
                await backend.stream.aclose()
            raise
        return httpx2.Response(response.status, headers=response.headers, stream=_Stream(response))


class _Stream(httpx2.AsyncByteStream):
    """The body as it comes off the wire. Closing it closes the connection, for the request said `Connection: close`."""

    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._response.aiter_stream()) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()
