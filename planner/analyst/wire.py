"""The wire to the model's service: one deadline and one size limit over a whole request, headers included.

The timeouts of HTTP clients bound each read, not their sum: a server that drips a byte a second never meets them.
"""

import ssl
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import httpcore2
import httpx2

from cronicorn.runtime.clock import monotonic_ns


class Allowance:
    """What one request may still take. Renewed before each; used by one thread."""

    def __init__(self, *, seconds: float, most_bytes: int) -> None:
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._deadline_ns = self._bytes_left = 0
        self.renew(seconds)

    def renew(self, seconds: float) -> None:
        """Starts the time of a request: `seconds`, at most those of the start."""
        self._deadline_ns = monotonic_ns() + int(min(seconds, self._seconds) * 1e9)
        self._bytes_left = self._most_bytes

    def seconds_left(self) -> float:
        """Raises httpcore2.ReadTimeout when there are none."""
        left = (self._deadline_ns - monotonic_ns()) / 1e9
        if left <= 0:
            raise httpcore2.ReadTimeout("The model did not answer in time.")
        return left

    def take(self, count: int) -> None:
        """Counts bytes that came. Raises httpcore2.ReadError when they are too many."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise httpcore2.ReadError("The model's answer is too large.")


class _BoundedStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, allowance: Allowance) -> None:
        self._stream = stream
        self._allowance = allowance

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._allowance.seconds_left())
        self._allowance.take(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._allowance.seconds_left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._allowance.seconds_left())
        return _BoundedStream(secured, self._allowance)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _BoundedBackend(httpcore2.SyncBackend):
    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        seconds = self._allowance.seconds_left()
        stream = super().connect_tcp(host, port, seconds, local_address, socket_options)
        return _BoundedStream(stream, self._allowance)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """One for the process: reading the certificates takes tens of milliseconds."""
    return httpx2.create_ssl_context()


class BoundedTransport(httpx2.BaseTransport):
    """An httpx2 transport that keeps to an allowance and reads the whole answer at once."""

    def __init__(self, allowance: Allowance) -> None:
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_tls(), network_backend=_BoundedBackend(allowance), max_connections=1
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends one request. Raises httpx2.TransportError; an answer in a content coding is refused unread."""
        url = request.url
        wire = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.read(),
            extensions={},
        )
        try:
            response = self._pool.handle_request(wire)
            try:
                headers = httpx2.Headers(response.headers)
                if headers.get("content-encoding", "identity").lower() != "identity":
                    raise httpx2.ReadError("The model's answer is compressed.", request=request)
                content = response.read()
            finally:
                response.close()
        except httpcore2.TimeoutException as error:
            raise httpx2.ReadTimeout(str(error), request=request) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
            raise httpx2.ReadError(str(error), request=request) from error
        return httpx2.Response(response.status, headers=headers, content=content, request=request)

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()
