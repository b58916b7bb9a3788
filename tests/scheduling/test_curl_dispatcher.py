"""What only the libcurl dispatcher has: a judge at the socket, one thread for everything, and thousands of sockets."""

from __future__ import annotations

import errno
import os
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pycurl
import pytest

from scheduling.dispatch import CurlDispatcher
from scheduling.dispatch.curl_faults import explain
from scheduling.dispatch.curl_multi import PolledMulti
from scheduling.dispatch.curl_transfer import Transfer, system_ca_file
from scheduling.dispatch.failures import Phase
from scheduling.dispatch.handles import raise_limit
from scheduling.egress.policy import EgressPolicy, Verdict
from scheduling.exchange.outcome import Blame, ErrorKind
from tests.support.calls import LOOPBACK, a_call, collect, failure, run
from tests.support.certificates import make_certificate
from tests.support.http_target import HttpTarget, Reply, raw, redirect, stall

DRIPS = 1_000
Factory = Callable[..., CurlDispatcher]


@pytest.fixture
def make_dispatcher() -> Iterator[Factory]:
    """Make dispatchers that are closed after the test; the policy opens loopback unless given."""
    made: list[CurlDispatcher] = []

    def make(egress: EgressPolicy = LOOPBACK, *, concurrency: int = 50, **options: Any) -> CurlDispatcher:
        made.append(CurlDispatcher(egress, concurrency=concurrency, **options))
        return made[-1]

    yield make
    for dispatcher in made:
        dispatcher.close()


class Drips:
    """Takes any number of connections in one thread and gives each a byte now and then, without end."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=DRIPS)
        self.port: int = self._listener.getsockname()[1]
        self.connected = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _serve(self) -> None:
        connections: list[socket.socket] = []
        with self._listener, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stopping.is_set():
                if selector.select(0.1):
                    connection, _ = self._listener.accept()
                    connection.setblocking(False)
                    connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
                    connections.append(connection)
                    if len(connections) < DRIPS:
                        continue
                    self.connected.set()
                for connection in connections:
                    try:
                        connection.send(b"x")
                    except OSError:
                        continue
        for connection in connections:
            connection.close()


class LaxPolicy(EgressPolicy):
    """Lets every URL pass, so that the judge at the socket stands alone."""

    def judge_url(self, url: str, *, synthetic: bool = False) -> Verdict:
        return Verdict(True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://2130706433:{port}/", "http://[::1]:{port}/"])
def test_address_is_judged_where_the_socket_is_opened(
    make_dispatcher: Factory, http_target: HttpTarget, url: str
) -> None:
    outcome = run(make_dispatcher(LaxPolicy()), a_call(url.format(port=http_target.port)))
    assert failure(outcome) == (ErrorKind.DESTINATION_NOT_ALLOWED, Blame.POLICY)
    assert http_target.connections == 0


def test_redirect_is_not_followed_where_everything_would_allow_it(
    make_dispatcher: Factory, http_target: HttpTarget
) -> None:
    http_target.route("/there", Reply())
    run(make_dispatcher(), a_call(http_target.route("/here", redirect(http_target.url("/there")))))
    assert [seen.path for seen in http_target.requests] == ["/here"]


def test_path_that_was_judged_is_the_path_that_is_sent(make_dispatcher: Factory, http_target: HttpTarget) -> None:
    run(make_dispatcher(), a_call(http_target.url("/a/../b/./c?d=../e")))
    assert http_target.requests[0].path == "/a/../b/./c?d=../e"


def test_headers_are_counted_too(make_dispatcher: Factory, http_target: HttpTarget) -> None:
    dispatcher = make_dispatcher()
    for path, count in (("/some", 900), ("/many", 1_100)):
        http_target.route(path, raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"X: y\r\n" * count + b"\r\n"))
    assert run(dispatcher, a_call(http_target.url("/some"))).ok
    outcome = run(dispatcher, a_call(http_target.url("/many")))
    assert failure(outcome) == (ErrorKind.RESPONSE_TOO_LARGE, Blame.REMOTE)


def test_thousand_drips_do_not_starve_a_fast_call(make_dispatcher: Factory, http_target: HttpTarget) -> None:
    drips, dispatcher = Drips(), make_dispatcher(concurrency=DRIPS + 10)
    http_target.route("/", Reply())
    try:
        for _ in range(DRIPS):
            dispatcher.start(a_call(f"http://127.0.0.1:{drips.port}/", timeout_ms=60_000))
        assert drips.connected.wait(20)
        for _ in range(5):
            outcome = run(dispatcher, a_call(http_target.url("/")))
            assert outcome.ok
            assert (outcome.timings.total_ms or 0) < 1_000
        begun = time.monotonic()
        dispatcher.close()
        assert time.monotonic() - begun < 5
        assert {outcome.error_kind for outcome in collect(dispatcher, DRIPS)} == {ErrorKind.CANCELED}
    finally:
        drips.close()


def test_thousand_names_leave_no_memory_behind(make_dispatcher: Factory, http_target: HttpTarget) -> None:
    http_target.route("/", Reply())
    dispatcher = make_dispatcher(getaddrinfo=lambda *_values, **_options: [(2, 1, 6, "", ("127.0.0.1", 0))])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(1_000):
        dispatcher.start(a_call(http_target.url("/", f"n{number}.example.com")))
    assert all(outcome.ok for outcome in collect(dispatcher, 1_000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def test_crash_of_the_thread_itself_ends_its_calls_and_not_the_thread(
    make_dispatcher: Factory, http_target: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher, turn, crashed = make_dispatcher(), PolledMulti.turn, threading.Event()

    def crash_once(multi: PolledMulti, longest_s: float | None) -> list[tuple[pycurl.Curl, int]]:
        ended = turn(multi, longest_s)
        if len(http_target.requests) == 3 and not crashed.is_set():
            crashed.set()
            raise RuntimeError("bug")
        return ended

    monkeypatch.setattr(PolledMulti, "turn", crash_once)
    stuck = [a_call(http_target.route("/stuck", stall)) for _ in range(3)]
    for call in stuck:
        dispatcher.start(call)
    http_target.wait_for(3)
    dispatcher.cancel(stuck[0].run_id)
    outcomes = collect(dispatcher, 3)
    assert crashed.is_set()
    assert {failure(outcome) for outcome in outcomes} == {(ErrorKind.INTERNAL_ERROR, Blame.LOCAL)}
    assert run(dispatcher, a_call(http_target.route("/", Reply()))).ok


def test_own_host_out_of_sockets_is_not_blamed_on_the_remote(
    make_dispatcher: Factory, http_target: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_address: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("scheduling.dispatch.curl_transfer._Opened", refuse)
    outcome = run(make_dispatcher(), a_call(http_target.route("/", Reply())))
    assert failure(outcome) == (ErrorKind.CONNECT_FAILED, Blame.LOCAL)


def test_address_that_is_refused_leaves_the_next_its_turn(make_dispatcher: Factory, http_target: HttpTarget) -> None:
    http_target.route("/", Reply())
    rows = [(2, 1, 6, "", (ip, 0)) for ip in ("127.0.0.2", "127.0.0.1")]
    dispatcher = make_dispatcher(
        EgressPolicy.from_settings("127.0.0.1/32"), getaddrinfo=lambda *_values, **_options: rows
    )
    assert run(dispatcher, a_call(http_target.url("/", "two.example.com"))).ok


def test_result_that_is_not_known_is_our_own_fault() -> None:
    transfer = Transfer(a_call("http://example.com/"), LOOPBACK)
    transfer.recorder.phase = Phase.EXCHANGE
    found = explain(pycurl.E_FAILED_INIT, transfer, Blame.REMOTE)
    assert found is not None
    assert (found.kind, found.blame) == (ErrorKind.INTERNAL_ERROR, Blame.LOCAL)


def test_phases_of_https_add_up(make_dispatcher: Factory, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "127.0.0.1")
    with HttpTarget(certificate.server_context()) as target:
        target.route("/", Reply())
        outcome = run(make_dispatcher(ca_file=str(certificate.ca_file)), a_call(target.url("/")))
    assert outcome.ok
    timings = outcome.timings
    phases = (timings.dns_ms, timings.connect_ms, timings.tls_ms, timings.first_byte_ms)
    assert all(phase is not None and phase >= 0 for phase in phases)
    assert sum(phase or 0 for phase in phases) <= (timings.total_ms or 0)


def test_authorities_of_ssl_cert_file_are_trusted(
    make_dispatcher: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, "127.0.0.1")
    with HttpTarget(certificate.server_context()) as target:
        target.route("/", Reply())
        assert run(make_dispatcher(), a_call(target.url("/"))).error_kind is ErrorKind.TLS_FAILED
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.ca_file))
        assert run(make_dispatcher(), a_call(target.url("/"))).ok


def test_missing_ssl_cert_file_leaves_those_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trusted = system_ca_file()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    found = system_ca_file()
    assert (found is None) is (trusted is None)
    assert found is None or Path(found).is_file()


def test_bundle_of_authorities_is_deleted_at_the_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path, "127.0.0.1")
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    dispatcher = CurlDispatcher(LOOPBACK, concurrency=1, ca_file=str(certificate.ca_file))
    assert list(folder.iterdir())
    dispatcher.close()
    assert not list(folder.iterdir())


@contextmanager
def no_file_handles() -> Iterator[None]:
    """Inside the block this process can open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        with suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in opened:
            os.close(number)


@pytest.mark.parametrize("url", ["http://127.0.0.1:48999/", "http://localhost:48999/", "https://127.0.0.1:48999/"])
def test_call_without_a_file_handle_is_blamed_on_us_and_said(
    make_dispatcher: Factory, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = make_dispatcher()
    with no_file_handles():
        call = a_call(url)
        dispatcher.start(call)
        (outcome,) = collect(dispatcher, 1)
    assert (outcome.error_kind, outcome.blame) == (ErrorKind.CONNECT_FAILED, Blame.LOCAL)
    assert outcome.error_message == "The scheduler had no file handle left."
    assert [record.getMessage() for record in caplog.records] == ["files_exhausted"]


def test_refused_connection_is_the_target_s_fault_while_there_are_file_handles(make_dispatcher: Factory) -> None:
    dispatcher = make_dispatcher()
    dispatcher.start(a_call("http://127.0.0.1:48999/"))
    (outcome,) = collect(dispatcher, 1)
    assert outcome.blame is Blame.REMOTE


@pytest.mark.processes
@pytest.mark.parametrize(("limit", "remedy"), [(400, "set --concurrency to 125 at most"), (60, "Raise it")])
def test_scheduler_does_not_start_with_fewer_file_handles_than_its_calls_need(limit: int, remedy: str) -> None:
    started = subprocess.run(
        ["bash", "-c", f"ulimit -n {limit} && exec {sys.executable} manage.py run_scheduler --concurrency 500"],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "cronicorn.settings",
            "DATABASE_URL": "postgresql://127.0.0.1:9/x",
        },
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert started.returncode == 1
    assert f"500 calls in flight need 1150 open files, and the limit is {limit}" in started.stderr
    assert remedy in started.stderr


def test_soft_limit_of_open_files_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
