"""One call on its way through libcurl: what is asked of the handle, and what its callbacks see."""

from __future__ import annotations

import re
import socket
import ssl
import string
import time
from collections.abc import Iterable, Iterator, Sequence
from os import close, path
from urllib.parse import quote

import pycurl

from scheduling.dispatch.failures import Phase
from scheduling.dispatch.recorder import Recorder, is_kept
from scheduling.dispatch.request import lower_name, request_headers, request_method
from scheduling.egress.policy import EgressPolicy
from scheduling.egress.targets import Target, TargetError, read_target
from scheduling.exchange.outcome import Call

MAX_HEADER_BYTES = 100 * 1_024
MAX_HEADERS = 1_000

_REST = re.compile(r"[^/]*//[^/?#]*([^#]*)")
_FILLED = frozenset({"POST", "PUT", "PATCH"})
# Suppressed unless the call has them: what libcurl would add of its own accord.
_UNASKED = (("accept", "Accept:"), ("content-type", "Content-Type:"), ("expect", "Expect:"))
_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def system_ca_file() -> str | None:
    """Return the file of the certificate authorities that this system trusts, None where there is none.

    As in OpenSSL, the file that SSL_CERT_FILE names comes first.
    """
    candidates = (ssl.get_default_verify_paths().cafile, *_CA_FILES)
    return next((file for file in candidates if file is not None and path.isfile(file)), None)


def common_options(scheme: str, ca_file: str | None) -> pycurl.Curl:
    """Return a handle with all that calls by `scheme` have in common, to be duplicated for each of them."""
    handle = pycurl.Curl()
    setopt = handle.setopt
    setopt(pycurl.NOSIGNAL, 1)
    setopt(pycurl.PATH_AS_IS, 1)
    setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    setopt(pycurl.HTTP09_ALLOWED, 0)
    setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    setopt(pycurl.FOLLOWLOCATION, 0)
    setopt(pycurl.FRESH_CONNECT, 1)
    setopt(pycurl.FORBID_REUSE, 1)
    setopt(pycurl.PROXY, "")
    setopt(pycurl.NOPROXY, "*")
    setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)
    if scheme == "https":
        setopt(pycurl.SSL_VERIFYPEER, 1)
        setopt(pycurl.SSL_VERIFYHOST, 2)
        setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        setopt(pycurl.SSL_SESSIONID_CACHE, 0)
        # The parsed authorities are kept between connections only where they come from one file and no folder.
        setopt(pycurl.CAPATH, None)
        if ca_file is not None:
            setopt(pycurl.CAINFO, ca_file)
    return handle


class Transfer:
    """Collects what is known of one call; every callback keeps what it raises in `error` and ends the transfer."""

    __slots__ = (
        "_egress",
        "_head_bytes",
        "_head_count",
        "_headers_ns",
        "_lines",
        "complete",
        "deadline_ns",
        "ended",
        "error",
        "error_number",
        "handle",
        "headers_too_large",
        "opened_ns",
        "recorder",
        "refused",
        "target",
    )

    def __init__(self, call: Call, egress: EgressPolicy) -> None:
        self.recorder = Recorder(call)
        self.target: Target | None = None
        self.deadline_ns = 0
        self.handle: pycurl.Curl | None = None
        self.ended = False
        self.error: Exception | None = None
        self.error_number = 0
        self.refused = False
        self.complete = False
        self.headers_too_large = False
        self.opened_ns = 0
        self._egress = egress
        self._headers_ns = 0
        self._lines: list[bytes] = []
        self._head_bytes = 0
        self._head_count = 0

    def begin(self) -> bool:
        """Start the clock and judge the URL; return whether it may be called."""
        recorder = self.recorder
        call = recorder.call
        recorder.started_ns = time.monotonic_ns()
        self.deadline_ns = recorder.started_ns + call.timeout_ms * 1_000_000
        recorder.phase = Phase.RESOLVE
        try:
            target = read_target(call.url)
        except TargetError:
            return False
        if not self._egress.judge_target(target, synthetic=call.synthetic).allowed:
            return False
        recorder.synthetic_target = call.synthetic and self._egress.is_synthetic_target(call.url)
        self.target = target
        recorder.host = target.host
        return True

    def dialable(self, addresses: Sequence[str], port: int) -> list[str]:
        """Return the addresses of its name that this call may dial, none where the name is refused."""
        return self._egress.choose_addresses(addresses, port, synthetic_target=self.recorder.synthetic_target)

    def prepare(self, handle: pycurl.Curl, target: Target, addresses: Iterable[str]) -> None:
        """Set what is this call's own on a copy of `common_options`. `addresses` are of a name, none for a literal."""
        call = self.recorder.call
        self.handle = handle
        setopt = handle.setopt
        host = target.host if target.address is None else str(target.address)
        host = f"[{host}]" if ":" in host else host
        setopt(pycurl.URL, f"{target.scheme}://{host}:{target.port}{_rest(call.url)}")
        if addresses:
            # Timed ("+"), so that the cache of the multi handle does not grow for ever: 1 s is ample, for the entry
            # is read at once, and with 0 libcurl would not read it but ask a resolver of its own.
            answers = ",".join(f"[{ip}]" if ":" in ip else ip for ip in addresses)
            setopt(pycurl.RESOLVE, [f"+{target.host}:{target.port}:{answers}"])
            setopt(pycurl.DNS_CACHE_TIMEOUT, 1)
        _set_request(handle, call)
        left_ns = self.deadline_ns - time.monotonic_ns()
        setopt(pycurl.TIMEOUT_MS, max(-(-left_ns // 1_000_000), 1))
        setopt(pycurl.CONNECTTIMEOUT_MS, call.timeout_ms)
        setopt(pycurl.OPENSOCKETFUNCTION, self._open)
        setopt(pycurl.HEADERFUNCTION, self._header)
        setopt(pycurl.WRITEFUNCTION, self._body)

    def measure(self) -> None:
        """Tell the recorder how far the call came and how long each phase took."""
        recorder, spent, now_ns = self.recorder, {}, time.monotonic_ns()
        if self.handle is None or not self.opened_ns:
            recorder.measured(Phase.RESOLVE, {Phase.RESOLVE: (now_ns - recorder.started_ns) / 1e6})
            return
        getinfo = self.handle.getinfo
        spent[Phase.RESOLVE] = (self.opened_ns - recorder.started_ns) / 1e6
        # All of these are microseconds since libcurl began; its own look-up ends where the socket is opened.
        resolved, connected = getinfo(pycurl.NAMELOOKUP_TIME_T), getinfo(pycurl.CONNECT_TIME_T)
        if not connected:
            spent[Phase.CONNECT] = (now_ns - self.opened_ns) / 1e6
            recorder.measured(Phase.CONNECT, spent)
            return
        spent[Phase.CONNECT] = (connected - resolved) / 1e3
        if self.target is not None and self.target.scheme == "https":
            secured = getinfo(pycurl.APPCONNECT_TIME_T)
            if not secured:
                spent[Phase.TLS] = (now_ns - self.opened_ns) / 1e6 - spent[Phase.CONNECT]
                recorder.measured(Phase.TLS, spent)
                return
            spent[Phase.TLS] = (secured - connected) / 1e3
        if not self._headers_ns:
            recorder.measured(Phase.EXCHANGE, spent)
            return
        sending, receiving = getinfo(pycurl.PRETRANSFER_TIME_T), getinfo(pycurl.STARTTRANSFER_TIME_T)
        headers_ms = (self._headers_ns - self.opened_ns) / 1e6 - (sending - resolved) / 1e3
        spent[Phase.EXCHANGE] = max(headers_ms, (receiving - sending) / 1e3)
        # Two clocks are put together: while the callback waited for the interpreter, both ran.
        surplus = sum(spent.values()) - (now_ns - recorder.started_ns) / 1e6
        spent[Phase.RESOLVE] = max(spent[Phase.RESOLVE] - max(surplus, 0.0), 0.0)
        recorder.measured(Phase.BODY, spent)

    def _open(self, _purpose: int, address: pycurl.CurlSockAddr) -> object:
        """Judge the very address that is about to be connected, and open the socket for it."""
        now_ns = time.monotonic_ns()
        try:
            ip, port = address.addr[:2]
            if not self._egress.judge_address(ip, port, synthetic_target=self.recorder.synthetic_target).allowed:
                self.refused = True
                return pycurl.SOCKET_BAD
            opened = _Opened(address)
        except OSError as error:
            self.error_number = error.errno or 0
            return pycurl.SOCKET_BAD
        except Exception as error:  # noqa: BLE001  pycurl would print it and go on
            self.error = error
            return pycurl.SOCKET_BAD
        if not self.opened_ns:
            self.opened_ns = now_ns
        return opened

    def _header(self, line: bytes) -> int | None:
        """Take one line of a header section; 0 ends the transfer."""
        try:
            self._head_bytes += len(line)
            self._head_count += 1
            if self._head_bytes > MAX_HEADER_BYTES or self._head_count > MAX_HEADERS:
                self.headers_too_large = True
                return 0
            if self._headers_ns:
                return None  # a trailer
            if line not in (b"\r\n", b"\n"):
                self._lines.append(line)
                return None
            lines, self._lines = self._lines, []
            status = int(lines[0].split(None, 2)[1])
            if status < 200:
                return None
            self._headers_ns = time.monotonic_ns()
            self.recorder.receive(status, _kept(lines))
            if self.recorder.call.method == "HEAD":
                # Nothing may follow, whatever length was announced.
                self.complete = True
                return 0
        except Exception as error:  # noqa: BLE001  pycurl would print it
            self.error = error
            return 0
        return None

    def _body(self, chunk: bytes) -> int | None:
        """Keep a piece of the body; 0 ends the transfer."""
        try:
            if self.recorder.keep(chunk):
                return None
            self.complete = True
        except Exception as error:  # noqa: BLE001  pycurl would print it
            self.error = error
        return 0


class _Opened:
    """A new socket for pycurl, which asks for its number, duplicates it and forgets this object: then it is closed."""

    __slots__ = ("_number",)

    def __init__(self, address: pycurl.CurlSockAddr) -> None:
        self._number = -1
        # The class in C: `socket.socket` looks every constant up in an enumeration, which costs more than the call.
        self._number = socket.SocketType(address.family, address.socktype, address.protocol).detach()

    def fileno(self) -> int:
        return self._number

    def __del__(self) -> None:
        if self._number >= 0:
            close(self._number)


def _set_request(handle: pycurl.Curl, call: Call) -> None:
    headers = request_headers(call)
    given = {lower_name(name) for name, _value in headers}
    # "Name;" is how libcurl is told to send an empty value, "Name:" to leave the header out.
    lines = [f"{name}: {value}" if value else f"{name};" for name, value in headers]
    lines += [line for name, line in _UNASKED if name not in given]
    handle.setopt(pycurl.HTTPHEADER, lines)
    if call.body or call.method in _FILLED:
        handle.setopt(pycurl.POSTFIELDS, call.body or b"")
    handle.setopt(pycurl.CUSTOMREQUEST, request_method(call))


def _rest(url: str) -> str:
    """Return path and query as written, all but ASCII percent-encoded."""
    rest = _REST.match(url)
    text = rest[1] if rest is not None else ""
    return text if text.isascii() else quote(text, safe=string.printable)


def _kept(lines: list[bytes]) -> Iterator[tuple[str, str]]:
    """Yield the response headers that are stored, each name once; repeated ones are joined as RFC 9110 5.3 says."""
    found: dict[str, str] = {}
    for line in lines[1:]:
        raw_name, _, raw_value = line.partition(b":")
        name = raw_name.decode("latin-1").lower()
        if is_kept(name):
            value = raw_value.strip().decode("utf-8", "replace")
            found[name] = f"{found[name]}, {value}" if name in found else value
    return iter(found.items())
