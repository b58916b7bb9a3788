"""What every dispatcher promises, tried against real servers on this machine."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import os
import resource
import socket
import ssl
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import brotli
import pytest

from scheduling.dispatch import CurlDispatcher, Dispatcher
from scheduling.dispatch.failures import REJECTED
from scheduling.dispatch.recorder import Recorder
from scheduling.dispatch.resolver import WINDOW_NS, DnsHealth
from scheduling.egress.policy import EgressPolicy
from scheduling.exchange.outcome import Blame, ErrorKind, parse_success_criteria
from scheduling.exchange.server_wait import asked_wait
from tests.support.calls import LOOPBACK, a_call, a_resolver, collect, failure, run
from tests.support.certificates import make_certificate
from tests.support.http_target import (
    HttpTarget,
    Reply,
    drip,
    endless,
    endless_header,
    gzip_bomb,
    raw,
    redirect,
    reset,
    stall,
)
from tests.support.schedules import NOON, from_noon

NOWHERE = "203.0.113.7"  # documentation address: nothing is ever there

Factory = Callable[..., Dispatcher]


@pytest.fixture
def make_dispatcher() -> Iterator[Factory]:
    """Make dispatchers that are closed after the test; the policy opens loopback unless given."""
    made: list[Dispatcher] = []

    def make(egress: EgressPolicy = LOOPBACK, *, concurrency: int = 50, **options: Any) -> Dispatcher:
        made.append(CurlDispatcher(egress, concurrency=concurrency, **options))
        return made[-1]

    yield make
    for dispatcher in made:
        dispatcher.close()


@pytest.fixture
def dispatcher(make_dispatcher: Factory) -> Dispatcher:
    return make_dispatcher()


# What is sent


def test_request_goes_out_exactly_as_the_call_says(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    url = http_target.route("/hook", Reply())
    body = b'{"a": 1,\r\n "b":  2}'
    headers = (("X-One", "1"), ("X-Two", "a b"), ("User-Agent", "mine"), ("webhook-id", "msg_1"))
    run(dispatcher, a_call(f"{url}?q=a%20b&c", method="POST", headers=headers, body=body))
    (seen,) = http_target.requests
    assert (seen.method, seen.path, seen.body) == ("POST", "/hook?q=a%20b&c", body)
    assert {(name, seen.header(name)) for name, _ in headers} == set(headers)
    assert seen.header("host") == f"127.0.0.1:{http_target.port}"
    assert seen.header("content-length") == str(len(body))
    assert seen.header("accept-encoding") == "identity"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_is_sent(dispatcher: Dispatcher, http_target: HttpTarget, method: str) -> None:
    outcome = run(dispatcher, a_call(http_target.route("/", Reply(204, content_length=0)), method=method))
    assert failure(outcome) == (None, None)
    assert http_target.requests[0].method == method


def test_default_user_agent_does_not_name_a_library(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    run(dispatcher, a_call(http_target.route("/", Reply())))
    assert http_target.requests[0].header("user-agent") == "Cronicorn"


def test_owner_cannot_ask_for_a_compressed_answer(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    run(dispatcher, a_call(http_target.route("/", Reply()), headers=(("accept-encoding", "gzip"),)))
    values = [value for name, value in http_target.requests[0].headers if name.lower() == "accept-encoding"]
    assert values == ["identity"]


def test_cookies_are_not_kept_between_calls(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    url = http_target.route("/", Reply(headers={"Set-Cookie": "session=1; Path=/"}))
    run(dispatcher, a_call(url))
    run(dispatcher, a_call(url))
    assert http_target.requests[1].header("cookie") is None


def test_every_call_has_a_connection_of_its_own(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    url = http_target.route("/", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi"))
    for _ in range(3):
        run(dispatcher, a_call(url))
    assert http_target.connections == 3


def test_proxies_of_the_environment_are_not_used(
    make_dispatcher: Factory, http_target: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert run(make_dispatcher(), a_call(http_target.route("/", Reply()))).ok


def test_nothing_is_sent_that_nobody_asked_for(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    url = http_target.route("/", Reply())
    run(dispatcher, a_call(url))
    run(dispatcher, a_call(url, method="POST", body=b"{}", headers=(("Accept", "text/plain"), ("X-Empty", ""))))
    plain, post = ({name.lower(): value for name, value in seen.headers} for seen in http_target.requests)
    ours = {
        "host": f"127.0.0.1:{http_target.port}",
        "user-agent": "Cronicorn",
        "accept-encoding": "identity",
        "connection": "close",
    }
    assert plain == ours
    assert post == ours | {"content-length": "2", "accept": "text/plain", "x-empty": ""}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_body_arrives_byte_for_byte(dispatcher: Dispatcher, http_target: HttpTarget, method: str) -> None:
    body = bytes(range(256)) * 1_024
    outcome = run(dispatcher, a_call(http_target.route("/", Reply(content_length=0)), method=method, body=body))
    assert failure(outcome) == (None, None)
    (seen,) = http_target.requests
    assert (seen.method, seen.body, seen.header("content-length")) == (method, body, str(len(body)))
    assert seen.header("expect") is None


@pytest.mark.parametrize(
    ("method", "length"), [("POST", "0"), ("PUT", "0"), ("PATCH", "0"), ("GET", None), ("DELETE", None)]
)
def test_missing_body_is_announced_where_one_is_expected(
    dispatcher: Dispatcher, http_target: HttpTarget, method: str, length: str | None
) -> None:
    assert run(dispatcher, a_call(http_target.route("/", Reply()), method=method)).ok
    assert http_target.requests[0].header("content-length") == length


def test_owner_cannot_frame_or_address_the_message(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    headers = (("Content-Length", "1"), ("Transfer-Encoding", "chunked"), ("Host", "other.example"), ("Expect", "x"))
    assert run(dispatcher, a_call(http_target.route("/", Reply()), method="POST", body=b"abc", headers=headers)).ok
    (seen,) = http_target.requests
    assert (seen.body, seen.header("content-length"), seen.header("transfer-encoding")) == (b"abc", "3", None)
    assert (seen.header("host"), seen.header("expect")) == (f"127.0.0.1:{http_target.port}", None)


def test_nothing_of_one_call_shows_in_the_next(make_dispatcher: Factory, http_target: HttpTarget) -> None:
    dispatcher, url = make_dispatcher(concurrency=1), http_target.route("/", Reply())
    run(dispatcher, a_call(url, method="PUT", headers=(("X-Secret", "s"),), body=b"secret", max_response_bytes=1))
    run(dispatcher, a_call(url))
    seen = http_target.requests[1]
    assert (seen.method, seen.body, seen.header("x-secret"), seen.header("content-length")) == ("GET", b"", None, None)


def test_url_beyond_ascii_is_percent_encoded(scripted: Any, http_target: HttpTarget) -> None:
    http_target.route("/gr%C3%BC%C3%9Fe", Reply())
    dispatcher = scripted({"xn--bcher-kva.example.com": ["127.0.0.1"]})
    assert run(dispatcher, a_call(http_target.url("/grüße?q=ö#part", "bücher.example.com"))).ok
    (seen,) = http_target.requests
    assert (seen.path, seen.header("host")) == (
        "/gr%C3%BC%C3%9Fe?q=%C3%B6",
        f"xn--bcher-kva.example.com:{http_target.port}",
    )


def test_files_of_the_environment_lend_no_password(
    make_dispatcher: Factory, http_target: HttpTarget, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    run(make_dispatcher(), a_call(http_target.route("/", Reply())))
    assert http_target.requests[0].header("authorization") is None


# What comes back


def test_success_carries_everything_that_was_seen(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    body = b'{"ok": true}'
    url = http_target.route(
        "/", Reply(body=body, headers={"ETag": '"1"', "Set-Cookie": "a=b", "X-RateLimit-Limit": "9"})
    )
    before = time.monotonic_ns()
    outcome = run(dispatcher, call := a_call(url))
    assert failure(outcome) == (None, None)
    assert outcome.call is call
    assert outcome.status_code == 200
    assert (outcome.body, outcome.truncated, outcome.body_flags) == (body.decode(), False, ())
    assert outcome.content_type == "application/json"
    assert outcome.sha256 == hashlib.sha256(body).hexdigest()
    headers = dict(outcome.headers)
    assert headers["etag"] == '"1"'
    assert headers["x-ratelimit-limit"] == "9"
    assert "set-cookie" not in headers
    assert before <= outcome.started_ns <= outcome.finished_ns <= time.monotonic_ns()


def test_timings_tell_the_phases_apart(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    hold = threading.Event()
    url = http_target.route("/", Reply(hold=hold))
    dispatcher.start(a_call(url))
    http_target.wait_for(1)
    assert dispatcher.completed(0.2) == []
    hold.set()
    (outcome,) = collect(dispatcher, 1)
    timings = outcome.timings
    assert timings.dns_ms is not None
    assert timings.connect_ms is not None
    assert timings.tls_ms is None
    assert timings.first_byte_ms is not None
    assert timings.total_ms is not None
    assert timings.first_byte_ms >= 200 > timings.dns_ms + timings.connect_ms
    assert timings.total_ms >= timings.dns_ms + timings.connect_ms + timings.first_byte_ms
    assert timings.total_ms == pytest.approx((outcome.finished_ns - outcome.started_ns) / 1e6)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 999])
def test_status_outside_the_criteria_is_an_http_error(
    dispatcher: Dispatcher, http_target: HttpTarget, status: int
) -> None:
    url = http_target.route("/", Reply(status, b"{}", {"Retry-After": "120"}))
    outcome = run(dispatcher, a_call(url))
    assert failure(outcome) == (ErrorKind.HTTP_ERROR, Blame.REMOTE)
    assert (outcome.status_code, outcome.body) == (status, "{}")
    assert ("retry-after", "120") in outcome.wait_headers


def test_every_line_of_a_wait_header_counts_and_comes_with_the_servers_date(
    dispatcher: Dispatcher, http_target: HttpTarget
) -> None:
    head = (
        b"HTTP/1.1 503 Busy\r\nDate: Mon, 02 Mar 2026 11:00:00 GMT\r\nRetry-After: 10\r\nX-RateLimit-Remaining: 0\r\n"
        b"X-Rate-Limit-Reset: 9\r\nRetry-After: Mon, 02 Mar 2026 11:02:00 GMT\r\nContent-Length: 0\r\n\r\n"
    )
    outcome = run(dispatcher, a_call(http_target.route("/", raw(head))))
    found = asked_wait(outcome.status_code, outcome.wait_headers, NOON)
    assert found is not None
    assert found.until == from_noon(seconds=120)


def test_a_flood_of_rate_limit_headers_hides_neither_retry_after_nor_the_content_type(
    dispatcher: Dispatcher, http_target: HttpTarget
) -> None:
    flood = b"".join(b"X-RateLimit-%d: \x00\xff0\r\n" % number for number in range(400)).replace(b"\x00", b"\x01")
    head = b"HTTP/1.1 429 Busy\r\n" + flood + b"Retry-After: 60\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"
    outcome = run(dispatcher, a_call(http_target.route("/", raw(head))))
    found = asked_wait(outcome.status_code, outcome.wait_headers, NOON)
    assert (outcome.content_type, found and found.until) == ("text/html", from_noon(seconds=60))


def test_redirect_is_its_own_outcome(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    http_target.route("/there", Reply())
    outcome = run(dispatcher, a_call(http_target.route("/here", redirect("/there"))))
    assert failure(outcome) == (ErrorKind.HTTP_ERROR, Blame.REMOTE)
    assert outcome.status_code == 302
    assert [request.path for request in http_target.requests] == ["/here"]


def test_redirect_succeeds_where_the_criteria_accept_it(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    url = http_target.route("/", redirect("/there", 303))
    assert run(dispatcher, a_call(url, criteria={"status": ["300-399"]})).ok


def test_assertion_that_does_not_hold_fails_the_call(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    url = http_target.route("/", Reply(body=b'{"depth": 7}'))
    holds = {"assertions": [{"path": "$.depth", "op": "<", "value": 10}]}
    fails = {"assertions": [{"path": "$.depth", "op": ">", "value": 10}]}
    assert run(dispatcher, a_call(url, criteria=holds)).ok
    outcome = run(dispatcher, a_call(url, criteria=fails))
    assert failure(outcome) == (ErrorKind.ASSERTION_FAILED, Blame.REMOTE)
    assert outcome.error_message == "$.depth is not > 10."


def test_body_beyond_the_cap_is_cut_and_no_failure(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    url = http_target.route("/", Reply(body=b"x" * 5_000))
    outcome = run(dispatcher, a_call(url, max_response_bytes=1_000))
    assert failure(outcome) == (None, None)
    assert (outcome.body, outcome.truncated, outcome.body_flags) == ("x" * 1_000, True, ("truncated",))
    assert outcome.sha256 == hashlib.sha256(b"x" * 1_000).hexdigest()


def test_body_of_exactly_the_cap_is_whole(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    outcome = run(dispatcher, a_call(http_target.route("/", Reply(body=b"x" * 1_000)), max_response_bytes=1_000))
    assert (len(outcome.body), outcome.truncated) == (1_000, False)


def test_assertion_that_needs_what_was_cut_fails(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    url = http_target.route("/", Reply(body=json.dumps({"pad": "x" * 2_000, "ok": True}).encode()))
    criteria = {"assertions": [{"path": "$.ok", "value": True}]}
    outcome = run(dispatcher, a_call(url, max_response_bytes=1_000, criteria=criteria))
    assert failure(outcome) == (ErrorKind.ASSERTION_FAILED, Blame.REMOTE)
    assert "cut" in (outcome.error_message or "")


def test_hostile_text_is_cleaned_and_flagged(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    outcome = run(dispatcher, a_call(http_target.route("/", Reply(body=b"a\x00b\xed\xa0\x80\xff"))))
    assert outcome.ok
    assert "\x00" not in outcome.body
    outcome.body.encode("utf-8")
    assert {"nul_removed", "surrogates_replaced", "not_utf8"} <= set(outcome.body_flags)


def test_interim_answers_and_trailers_are_not_the_answer(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    wire = (
        b"HTTP/1.1 103 Early Hints\r\nETag: early\r\n\r\nHTTP/1.1 200 OK\r\nETag: real\r\n"
        b"Transfer-Encoding: chunked\r\nTrailer: Date\r\n\r\n2\r\nhi\r\n0\r\nDate: late\r\n\r\n"
    )
    outcome = run(dispatcher, a_call(http_target.route("/", raw(wire))))
    assert (outcome.status_code, outcome.body, outcome.headers) == (200, "hi", (("etag", "real"),))


def test_repeated_response_headers_are_joined(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    wire = b"HTTP/1.1 200 OK\r\nRateLimit: a;r=1\r\nContent-Length: 0\r\nratelimit: b;r=2\r\n\r\n"
    outcome = run(dispatcher, a_call(http_target.route("/", raw(wire))))
    assert dict(outcome.headers)["ratelimit"] == "a;r=1, b;r=2"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_answer_without_a_body_needs_none(dispatcher: Dispatcher, http_target: HttpTarget, method: str) -> None:
    status, length = (200, 500) if method == "HEAD" else (304, 500)
    url = http_target.route("/", Reply(status, content_length=length))
    outcome = run(dispatcher, a_call(url, method=method, criteria={"status": ["200-399"]}))
    assert (outcome.ok, outcome.status_code, outcome.body, outcome.truncated) == (True, status, "", False)


# Hostile servers


def test_endless_body_ends_at_the_cap(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    outcome = run(dispatcher, a_call(http_target.route("/", endless())))
    assert (outcome.ok, len(outcome.body), outcome.truncated) == (True, 102_400, True)


def test_hostile_bodies_cost_no_memory(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    run(dispatcher, a_call(http_target.route("/warm", Reply())))
    bomb, flood = http_target.route("/bomb", gzip_bomb(200_000_000)), http_target.route("/flood", endless())
    header = http_target.route("/header", endless_header())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for url in (bomb, flood, header):
        run(dispatcher, a_call(url, max_response_bytes=1_048_576))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def compressed(data: bytes, coding: str) -> bytes:
    """The data in a coding, or in several that are named in the order in which they are applied."""
    for name in coding.split(", "):
        match name:
            case "gzip" | "x-gzip" | "GZIP":
                data = gzip.compress(data, mtime=0)
            case "deflate":
                data = zlib.compress(data)
            case "br":
                data = brotli.compress(data)
    return data


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "deflate", "br", "gzip, br", "deflate, identity, gzip"])
def test_body_compressed_in_spite_of_identity_is_read(
    dispatcher: Dispatcher, http_target: HttpTarget, coding: str
) -> None:
    text = json.dumps({"depth": 1000, "items": ["ö"] * 500}).encode()
    reply = Reply(body=compressed(text, coding), headers={"Content-Encoding": coding})
    criteria = parse_success_criteria({"assertions": [{"path": "$.depth", "op": "==", "value": 1000}]})
    outcome = run(dispatcher, a_call(http_target.route("/", reply), success=criteria))
    assert outcome.error_message is None
    assert (outcome.body, outcome.truncated) == (text.decode(), False)
    assert outcome.sha256 == hashlib.sha256(text).hexdigest()
    assert outcome.body_flags == tuple(
        sorted({f"decoded:{name.lower().removeprefix('x-')}" for name in coding.split(", ") if name != "identity"})
    )


def test_deflate_without_its_frame_is_read(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    reply = Reply(body=zlib.compress(b"bare")[2:-4], headers={"Content-Encoding": "deflate"})
    outcome = run(dispatcher, a_call(http_target.route("/", reply)))
    assert (outcome.body, outcome.body_flags) == ("bare", ("decoded:deflate",))


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, gzip"])
def test_compression_bomb_ends_at_the_cap(dispatcher: Dispatcher, http_target: HttpTarget, coding: str) -> None:
    bomb = compressed(b"0" * 50_000_000, coding)
    reply = Reply(body=bomb, headers={"Content-Encoding": coding})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = run(dispatcher, a_call(http_target.route("/", reply), max_response_bytes=60_000))
    assert outcome.ok
    assert outcome.truncated
    assert len(outcome.body) <= 60_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


@pytest.mark.parametrize(
    ("body", "coding", "text", "flags", "words"),
    [
        (b"as it came", "zstd", "as it came", ("not_decoded:zstd",), "encoded as zstd"),
        (b"as it came", "compress", "as it came", ("not_decoded:compress",), "encoded as compress"),
        (b"as it came", "a b", "as it came", ("not_decoded:unknown",), "encoded as unknown"),
        (b"as it came", "gzip", "as it came", ("not_decoded:gzip",), "cannot be read as that"),
        (b"as it came", "deflate", "as it came", ("not_decoded:deflate",), "cannot be read as that"),
        (b"as it came", "br", "as it came", ("not_decoded:br",), "cannot be read as that"),
        (b"as it came", "gzip, zstd", "as it came", ("not_decoded:zstd",), "encoded as zstd"),
        (
            gzip.compress(b"as it came", mtime=0),
            "zstd, gzip",
            "as it came",
            ("decoded:gzip", "not_decoded:zstd"),
            "as zstd",
        ),
    ],
)
def test_what_cannot_be_decompressed_says_so_by_name(
    dispatcher: Dispatcher,
    http_target: HttpTarget,
    body: bytes,
    coding: str,
    text: str,
    flags: tuple[str, ...],
    words: str,
) -> None:
    url = http_target.route("/", Reply(body=body, headers={"Content-Encoding": coding}))
    outcome = run(dispatcher, a_call(url, success=parse_success_criteria({"assertions": [{"body_contains": "ok"}]})))
    assert (outcome.body, outcome.body_flags) == (text, flags)
    assert words in (outcome.error_message or "")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
@pytest.mark.parametrize("fault", ["ends early", "breaks off"])
def test_the_readable_beginning_of_a_broken_stream_is_kept(
    dispatcher: Dispatcher, http_target: HttpTarget, coding: str, fault: str
) -> None:
    text = "".join(f"line {number * 7919 % 10_007}\n" for number in range(4_000))
    data = compressed(text.encode(), coding)
    half = len(data) * 3 // 4
    broken = data[:half] if fault == "ends early" else data[:half] + b"\xff" * 500
    outcome = run(dispatcher, a_call(http_target.route("/", Reply(body=broken, headers={"Content-Encoding": coding}))))
    assert outcome.ok
    assert f"incomplete:{coding}" in outcome.body_flags
    assert outcome.truncated
    assert outcome.body[:1_000] == text[:1_000]


def test_no_body_has_nothing_to_decompress(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    outcome = run(dispatcher, a_call(http_target.route("/", Reply(204, headers={"Content-Encoding": "gzip"}))))
    assert (outcome.body, outcome.body_flags) == ("", ())


@pytest.mark.parametrize(
    ("location", "address"),
    [
        ("https://new.example/x?y=1", "https://new.example/x?y=1"),
        ("/moved", "http://{host}/moved"),
        ("//cdn.example/", "http://cdn.example/"),
        ("http://[::1", "http://[::1"),
    ],
)
def test_where_a_redirect_points_to_is_kept_and_said_with_the_remedy(
    dispatcher: Dispatcher, http_target: HttpTarget, location: str, address: str
) -> None:
    url = http_target.route("/old", redirect(location, 301))
    outcome = run(dispatcher, a_call(url))
    address = address.replace("{host}", url.split("/")[2])
    assert dict(outcome.headers)["location"] == location
    assert outcome.error_message == (
        f"The server answered 301, redirecting to {address}. Redirects are not followed:"
        " use that address as the URL, or accept 301 as a status."
    )


def test_long_location_is_cut_in_the_sentence_only(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    location = "https://new.example/" + "x" * 1_000
    outcome = run(dispatcher, a_call(http_target.route("/", redirect(location))))
    assert dict(outcome.headers)["location"] == location
    assert len(outcome.error_message or "") < 500


@pytest.mark.parametrize(
    ("method", "headers", "criteria", "ok"),
    [
        ("GET", [("If-None-Match", '"a"')], None, True),
        ("GET", [("if-modified-since", "Wed, 21 Oct 2015 07:28:00 GMT")], None, True),
        ("HEAD", [("If-None-Match", "*")], None, True),
        ("GET", [("If-None-Match", '"a"')], {"assertions": [{"path": "$.ok", "op": "==", "value": True}]}, True),
        ("GET", [("If-None-Match", '"a"')], {"status": [200, 304], "assertions": [{"body_contains": "x"}]}, True),
        ("GET", [("If-None-Match", '"a"')], {"status": [200]}, False),
        ("POST", [("If-None-Match", '"a"')], None, False),
        ("GET", [("If-Match", '"a"')], None, False),
        ("GET", [], None, False),
    ],
)
def test_304_is_a_success_where_the_request_was_conditional(
    dispatcher: Dispatcher,
    http_target: HttpTarget,
    method: str,
    headers: list[tuple[str, str]],
    criteria: dict[str, object] | None,
    ok: bool,
) -> None:
    url = http_target.route("/", raw(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nConnection: close\r\n\r\n'))
    call = a_call(url, method=method, headers=tuple(headers), success=parse_success_criteria(criteria))
    outcome = run(dispatcher, call)
    assert outcome.ok is ok
    assert ("unchanged" in outcome.body_flags) is ok


def test_drip_ends_at_the_deadline_of_the_whole_call(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    outcome = run(dispatcher, a_call(http_target.route("/", drip()), timeout_ms=1_000))
    assert failure(outcome) == (ErrorKind.TIMEOUT, Blame.REMOTE)
    assert 1_000 <= (outcome.timings.total_ms or 0) < 2_000


def test_partial_answer_is_kept_when_the_deadline_passes(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\npart"
    url = http_target.route("/", lambda request, wire: (wire.send(head), stall(request, wire))[1])
    outcome = run(dispatcher, a_call(url, timeout_ms=1_000))
    assert failure(outcome) == (ErrorKind.TIMEOUT, Blame.REMOTE)
    assert (outcome.status_code, outcome.body) == (200, "part")


def test_server_that_never_answers_times_out(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    outcome = run(dispatcher, a_call(http_target.route("/", stall), timeout_ms=1_000))
    assert failure(outcome) == (ErrorKind.TIMEOUT, Blame.REMOTE)
    assert outcome.error_message == "The deadline of 1000 ms passed while waiting for the response."


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(raw(b"SSH-2.0-OpenSSH_9.6 secret-banner\r\n"), id="banner"),
        pytest.param(raw(b""), id="nothing"),
        pytest.param(raw(b"HTTP/1.1 999999 Strange\r\n\r\n"), id="impossible status"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), id="negative length"),
        pytest.param(reset(), id="reset"),
        pytest.param(reset(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), id="reset in the body"),
        pytest.param(Reply(body=b"short", content_length=500), id="shorter than announced"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), id="bad chunk"),
    ],
)
def test_broken_answer_is_an_http_error_that_repeats_nothing(
    dispatcher: Dispatcher, http_target: HttpTarget, answer: Any
) -> None:
    outcome = run(dispatcher, a_call(http_target.route("/", answer)))
    assert failure(outcome) == (ErrorKind.HTTP_ERROR, Blame.REMOTE)
    message = outcome.error_message or ""
    assert "127.0.0.1" not in message
    assert "banner" not in message


def test_status_line_without_a_reason_is_accepted(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    assert run(dispatcher, a_call(http_target.route("/", raw(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n")))).ok


def test_header_of_ten_megabytes_is_refused(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    outcome = run(dispatcher, a_call(http_target.route("/", endless_header())))
    assert failure(outcome) == (ErrorKind.RESPONSE_TOO_LARGE, Blame.REMOTE)


def test_many_headers_are_as_bad_as_a_long_one(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    wire = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(20_000)) + b"\r\n"
    outcome = run(dispatcher, a_call(http_target.route("/", raw(wire))))
    assert failure(outcome) == (ErrorKind.RESPONSE_TOO_LARGE, Blame.REMOTE)
    assert (outcome.status_code, outcome.headers) == (None, ())


def test_headers_over_100_kib_together_are_refused(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 9_000) for number in range(15))
    outcome = run(dispatcher, a_call(http_target.route("/", raw(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n"))))
    assert failure(outcome) == (ErrorKind.RESPONSE_TOO_LARGE, Blame.REMOTE)


def test_calls_leave_no_sockets_open(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    urls = [
        http_target.route("/", Reply()),
        http_target.route("/endless", endless()),
        http_target.route("/reset", reset()),
        http_target.route("/header", endless_header()),
        "http://127.0.0.1:1/",
    ]
    own = f"{os.getpid()}"
    run(dispatcher, a_call(urls[0]))
    before = len(os.listdir(f"/proc/{own}/fd"))
    for url in urls * 10:
        run(dispatcher, a_call(url))
    until = time.monotonic() + 5
    while len(os.listdir(f"/proc/{own}/fd")) > before and time.monotonic() < until:
        dispatcher.completed(0.01)  # the target's ends close when its threads notice
    assert len(os.listdir(f"/proc/{own}/fd")) <= before


@pytest.mark.parametrize("method", ["receive", "keep", "finish"])
def test_bug_in_the_middle_of_a_call_is_its_own_outcome(
    dispatcher: Dispatcher,
    http_target: HttpTarget,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    method: str,
) -> None:
    def crash(*_values: object) -> None:
        raise RuntimeError("secret")

    url = http_target.route("/", Reply(body=b"body"))
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, method, crash)
        outcome = run(dispatcher, a_call(url))
    assert failure(outcome) == (ErrorKind.INTERNAL_ERROR, Blame.LOCAL)
    assert run(dispatcher, a_call(url)).ok
    assert "secret" not in "".join(capfd.readouterr())


def test_closed_port_is_a_failed_connection(dispatcher: Dispatcher) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        outcome = run(dispatcher, a_call(f"http://127.0.0.1:{port}/"))
    assert failure(outcome) == (ErrorKind.CONNECT_FAILED, Blame.REMOTE)
    assert outcome.error_message == "The connection was refused."
    assert outcome.status_code is None
    assert outcome.sha256 is None


# TLS


def test_trusted_certificate_passes_and_is_timed(make_dispatcher: Factory, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "localhost")
    with HttpTarget(certificate.server_context()) as target:
        target.route("/", Reply())
        outcome = run(make_dispatcher(ca_file=str(certificate.ca_file)), a_call(target.url("/", "localhost")))
        assert failure(outcome) == (None, None)
        assert target.requests[0].header("host") == f"localhost:{target.port}"
    assert (outcome.timings.tls_ms or 0) > 0


@pytest.mark.parametrize(
    ("names", "trusted", "valid_for", "message"),
    [
        pytest.param(("localhost",), False, timedelta(days=1), "The certificate is self-signed.", id="unknown issuer"),
        pytest.param(
            ("other.example",), True, timedelta(days=1), "The certificate is for another host name.", id="other name"
        ),
        pytest.param(("localhost",), True, timedelta(hours=-1), "The certificate has expired.", id="expired"),
    ],
)
def test_certificate_that_proves_nothing_is_refused(
    make_dispatcher: Factory, tmp_path: Path, names: tuple[str, ...], trusted: bool, valid_for: timedelta, message: str
) -> None:
    certificate = make_certificate(tmp_path, *names, valid_for=valid_for)
    with HttpTarget(certificate.server_context()) as target:
        ca_file = str(certificate.ca_file) if trusted else None
        outcome = run(make_dispatcher(ca_file=ca_file), a_call(target.url("/", "localhost")))
        assert target.requests == []
    assert failure(outcome) == (ErrorKind.TLS_FAILED, Blame.REMOTE)
    assert outcome.error_message == message


def test_certificate_of_tomorrow_is_refused(make_dispatcher: Factory, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "localhost", valid_from=timedelta(days=1), valid_for=timedelta(days=2))
    with HttpTarget(certificate.server_context()) as target:
        outcome = run(make_dispatcher(ca_file=str(certificate.ca_file)), a_call(target.url("/", "localhost")))
    assert failure(outcome) == (ErrorKind.TLS_FAILED, Blame.REMOTE)
    assert outcome.error_message == "The certificate is not valid yet."


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (ssl.TLSVersion.TLSv1_3, "The server demands a client certificate, and calls carry none."),
        (
            ssl.TLSVersion.TLSv1_2,
            "The server refused the TLS handshake: no cipher in common, or it demands a client certificate.",
        ),
    ],
)
def test_client_certificate_that_is_demanded_is_named(
    make_dispatcher: Factory, tmp_path: Path, version: ssl.TLSVersion, message: str
) -> None:
    certificate = make_certificate(tmp_path, "localhost")
    context = certificate.server_context()
    context.maximum_version = context.minimum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate.ca_file)
    with HttpTarget(context) as target:
        outcome = run(make_dispatcher(ca_file=str(certificate.ca_file)), a_call(target.url("/", "localhost")))
    assert failure(outcome) == (ErrorKind.TLS_FAILED, Blame.REMOTE)
    # A server may hang up before the request is sent; then its alert is not read.
    assert outcome.error_message in (message, REJECTED.message)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (48, "client certificate"),
        (70, "TLS version"),
        (112, "host name"),
        (116, "client certificate"),
        (45, "client certificate"),
        (47, "contradiction"),
        (50, "could not read"),
        (200, "alert 200"),
    ],
)
def test_alert_of_the_server_is_told_in_words(dispatcher: Dispatcher, number: int, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dispatcher.start(a_call(f"https://127.0.0.1:{server.getsockname()[1]}/"))
        connection, _ = server.accept()
        with connection:
            connection.recv(4_096)
            connection.sendall(bytes([21, 3, 3, 0, 2, 2, number]))
            (outcome,) = collect(dispatcher, 1)
    assert failure(outcome) == (ErrorKind.TLS_FAILED, Blame.REMOTE)
    assert words in (outcome.error_message or "")


def test_server_that_hangs_up_in_the_handshake_is_told_in_words(dispatcher: Dispatcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dispatcher.start(a_call(f"https://127.0.0.1:{server.getsockname()[1]}/"))
        connection, _ = server.accept()
        with connection:
            connection.recv(4_096)
        (outcome,) = collect(dispatcher, 1)
    assert failure(outcome) == (ErrorKind.TLS_FAILED, Blame.REMOTE)
    assert outcome.error_message == "The server closed the connection during the TLS handshake."


def test_server_older_than_tls_1_2_is_refused(make_dispatcher: Factory, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "localhost")
    context = certificate.server_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with HttpTarget(context) as target:
        outcome = run(make_dispatcher(ca_file=str(certificate.ca_file)), a_call(target.url("/", "localhost")))
        assert target.requests == []
    assert failure(outcome) == (ErrorKind.TLS_FAILED, Blame.REMOTE)
    assert outcome.error_message == "The server speaks no TLS version that is allowed here (1.2 or newer)."


def test_plain_http_behind_https_is_a_tls_failure(dispatcher: Dispatcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        dispatcher.start(a_call(f"https://127.0.0.1:{plain.getsockname()[1]}/"))
        connection, _ = plain.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            (outcome,) = collect(dispatcher, 1)
    assert failure(outcome) == (ErrorKind.TLS_FAILED, Blame.REMOTE)
    assert outcome.error_message == "The server does not speak TLS on this port."


def test_stalled_handshake_ends_at_the_deadline(dispatcher: Dispatcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        outcome = run(dispatcher, a_call(f"https://127.0.0.1:{port}/", timeout_ms=1_000))
    assert failure(outcome) == (ErrorKind.TIMEOUT, Blame.REMOTE)
    assert (outcome.timings.tls_ms or 0) > 500


# Where calls may go


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://user:secret@127.0.0.1:{port}/",
    ],
)
def test_denied_destination_is_not_dialled(make_dispatcher: Factory, http_target: HttpTarget, url: str) -> None:
    outcome = run(make_dispatcher(EgressPolicy()), a_call(url.format(port=http_target.port)))
    assert failure(outcome) == (ErrorKind.DESTINATION_NOT_ALLOWED, Blame.POLICY)
    assert outcome.error_message == "The destination is not allowed."
    assert http_target.connections == 0


def test_redirect_to_a_denied_address_is_not_followed(make_dispatcher: Factory, http_target: HttpTarget) -> None:
    with HttpTarget() as inner:
        egress = EgressPolicy.from_settings(f"127.0.0.1/32:{http_target.port}")
        run(make_dispatcher(egress), a_call(http_target.route("/", redirect(inner.url("/")))))
        assert (http_target.connections, inner.connections) == (1, 0)


def test_synthetic_base_is_open_to_synthetic_calls_only(make_dispatcher: Factory, http_target: HttpTarget) -> None:
    url = http_target.route("/api/synthetic/health", Reply())
    other = http_target.route("/api/jobs", Reply())
    dispatcher = make_dispatcher(EgressPolicy.from_settings("", http_target.url("")))
    assert run(dispatcher, a_call(url, synthetic=True)).ok
    for call in (
        a_call(url),
        a_call(other, synthetic=True),
        a_call(http_target.url("/api/synthetic/../jobs"), synthetic=True),
    ):
        assert failure(run(dispatcher, call)) == (ErrorKind.DESTINATION_NOT_ALLOWED, Blame.POLICY)
    assert http_target.connections == 1


# Many calls


def test_one_stuck_call_does_not_delay_the_others(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    dispatcher.start(stuck := a_call(http_target.route("/stuck", stall), timeout_ms=15_000))
    url = http_target.route("/", Reply())
    for _ in range(20):
        dispatcher.start(a_call(url))
    outcomes = collect(dispatcher, 20)
    assert all(outcome.ok for outcome in outcomes)
    assert dispatcher.in_flight() == 1
    dispatcher.cancel(stuck.run_id)
    assert failure(collect(dispatcher, 1)[0]) == (ErrorKind.CANCELED, Blame.LOCAL)


def test_calls_run_at_the_same_time(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    hold = threading.Event()
    url = http_target.route("/", Reply(hold=hold))
    for _ in range(10):
        dispatcher.start(a_call(url))
    http_target.wait_for(10)
    hold.set()
    assert all(outcome.ok for outcome in collect(dispatcher, 10))


def test_call_over_the_concurrency_waits_and_its_deadline_with_it(
    make_dispatcher: Factory, http_target: HttpTarget
) -> None:
    dispatcher, hold = make_dispatcher(concurrency=1), threading.Event()
    dispatcher.start(a_call(http_target.route("/first", Reply(hold=hold))))
    http_target.wait_for(1)
    dispatcher.start(second := a_call(http_target.route("/second", Reply()), timeout_ms=1_000))
    assert dispatcher.completed(1.2) == []
    hold.set()
    outcomes = {outcome.call.run_id: outcome for outcome in collect(dispatcher, 2)}
    assert outcomes[second.run_id].ok
    assert (outcomes[second.run_id].timings.total_ms or 0) < 1_000


def test_canceled_call_ends_at_once_and_closes_its_connection(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    gone = threading.Event()

    def notice(_request: object, wire: Any) -> None:
        if wire.connection.recv(1) == b"":
            gone.set()

    dispatcher.start(call := a_call(http_target.route("/", notice)))
    http_target.wait_for(1)
    dispatcher.cancel(call.run_id)
    (outcome,) = collect(dispatcher, 1)
    assert failure(outcome) == (ErrorKind.CANCELED, Blame.LOCAL)
    assert gone.wait(5)


def test_cancel_right_after_start_still_yields_one_outcome(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    calls = [a_call(http_target.route("/", stall)) for _ in range(50)]
    for call in calls:
        dispatcher.start(call)
        dispatcher.cancel(call.run_id)
    outcomes = collect(dispatcher, 50)
    assert {outcome.call.run_id for outcome in outcomes} == {call.run_id for call in calls}
    assert {outcome.error_kind for outcome in outcomes} == {ErrorKind.CANCELED}
    assert dispatcher.in_flight() == 0


def test_cancel_of_an_unknown_or_ended_run_does_nothing(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    outcome = run(dispatcher, a_call(http_target.route("/", Reply())))
    dispatcher.cancel(outcome.call.run_id)
    dispatcher.cancel(UUID(int=0))
    assert run(dispatcher, a_call(http_target.url("/"))).ok


def test_run_under_way_cannot_be_started_twice(dispatcher: Dispatcher, http_target: HttpTarget) -> None:
    dispatcher.start(call := a_call(http_target.route("/", stall)))
    with pytest.raises(ValueError, match="under way"):
        dispatcher.start(call)


def test_completed_returns_empty_when_nothing_came(dispatcher: Dispatcher) -> None:
    assert dispatcher.completed(0.01) == []


def test_close_ends_every_call_and_can_be_repeated(make_dispatcher: Factory, http_target: HttpTarget) -> None:
    dispatcher = make_dispatcher()
    url = http_target.route("/", stall)
    for _ in range(5):
        dispatcher.start(a_call(url))
    http_target.wait_for(5)
    dispatcher.close()
    dispatcher.close()
    assert {outcome.error_kind for outcome in collect(dispatcher, 5)} == {ErrorKind.CANCELED}
    with pytest.raises(RuntimeError):
        dispatcher.start(a_call(url))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"headers": (("X-Bad", "a\r\nb: c"),)}, id="line break in a header"),
        pytest.param({"headers": (("X-Ünïcode", "\u2603"),)}, id="header name not a token"),
        pytest.param({"method": "GE T"}, id="method not a token"),
        pytest.param({"timeout_ms": None}, id="no timeout"),
    ],
)
def test_call_that_cannot_be_sent_is_our_own_fault_and_stops_nothing(
    dispatcher: Dispatcher, http_target: HttpTarget, changes: dict[str, Any]
) -> None:
    url = http_target.route("/", Reply())
    assert failure(run(dispatcher, a_call(url, **changes))) == (ErrorKind.INTERNAL_ERROR, Blame.LOCAL)
    assert http_target.requests == []
    assert run(dispatcher, a_call(url)).ok


# Names


@pytest.fixture
def scripted(make_dispatcher: Factory) -> Callable[..., Dispatcher]:
    """Make dispatchers whose names resolve as scripted."""

    def make(answers: dict[str, Any], egress: EgressPolicy = LOOPBACK) -> Dispatcher:
        return make_dispatcher(egress, concurrency=300, getaddrinfo=a_resolver(answers))

    return make


def test_name_that_leads_to_a_denied_address_is_not_dialled(scripted: Any, http_target: HttpTarget) -> None:
    dispatcher = scripted({"rebind.example.com": ["127.0.0.1"]}, EgressPolicy())
    outcome = run(dispatcher, a_call(http_target.url("/", "rebind.example.com")))
    assert failure(outcome) == (ErrorKind.DESTINATION_NOT_ALLOWED, Blame.POLICY)
    assert http_target.connections == 0


def test_judged_address_is_the_one_connected_when_answers_change(scripted: Any, http_target: HttpTarget) -> None:
    answers = {"rebind.example.com": [["127.0.0.1"], [NOWHERE]]}
    http_target.route("/", Reply())
    assert run(scripted(answers), a_call(http_target.url("/", "rebind.example.com"))).ok
    assert len(answers["rebind.example.com"]) == 1
    assert http_target.requests[0].header("host") == f"rebind.example.com:{http_target.port}"


def test_denied_addresses_among_allowed_ones_are_left_out(scripted: Any, http_target: HttpTarget) -> None:
    http_target.route("/", Reply())
    dispatcher = scripted({"mixed.example.com": ["10.0.0.1", "169.254.169.254", "127.0.0.1"]})
    outcome = run(dispatcher, a_call(http_target.url("/", "mixed.example.com")))
    assert outcome.ok
    assert (outcome.timings.total_ms or 0) < 1_000


def test_next_address_is_tried_when_the_first_refuses(scripted: Any, http_target: HttpTarget) -> None:
    http_target.route("/", Reply())
    dispatcher = scripted({"two.example.com": ["127.0.0.2", "127.0.0.1"]})
    assert run(dispatcher, a_call(http_target.url("/", "two.example.com"))).ok


def test_name_that_does_not_exist_is_blamed_on_the_remote(scripted: Any) -> None:
    outcome = run(scripted({}), a_call("http://missing.example.com/"))
    assert failure(outcome) == (ErrorKind.DNS_FAILED, Blame.REMOTE)
    assert outcome.timings.dns_ms is not None
    assert outcome.timings.connect_ms is None


def test_every_call_asks_for_the_name_again(scripted: Any, http_target: HttpTarget) -> None:
    http_target.route("/", Reply())
    dispatcher = scripted({"moving.example.com": [["127.0.0.1"], ["10.0.0.1"]]})
    assert run(dispatcher, a_call(http_target.url("/", "moving.example.com"))).ok
    outcome = run(dispatcher, a_call(http_target.url("/", "moving.example.com")))
    assert failure(outcome) == (ErrorKind.DESTINATION_NOT_ALLOWED, Blame.POLICY)


@pytest.mark.parametrize("count", [5, 12])
def test_last_of_many_addresses_is_reached(scripted: Any, http_target: HttpTarget, count: int) -> None:
    http_target.route("/", Reply())
    refusing = [f"127.0.0.{number}" for number in range(2, count + 1)]
    dispatcher = scripted({"many.example.com": [*refusing, "127.0.0.1"]})
    assert run(dispatcher, a_call(http_target.url("/", "many.example.com"))).ok


def test_addresses_that_never_answer_leave_the_others_time(scripted: Any, http_target: HttpTarget) -> None:
    http_target.route("/", Reply())
    with contextlib.ExitStack() as stack:
        # A listener whose queue is full drops what comes: the connection is neither made nor refused.
        for number in range(2, 8):
            full = stack.enter_context(socket.create_server((f"127.0.0.{number}", http_target.port), backlog=0))
            for _ in range(2):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
        dispatcher = scripted({"many.example.com": [f"127.0.0.{number}" for number in range(2, 8)] + ["127.0.0.1"]})
        outcome = run(dispatcher, a_call(http_target.url("/", "many.example.com"), timeout_ms=5_000))
    assert failure(outcome) == (None, None)


def test_name_with_a_public_and_a_private_address_is_not_dialled(scripted: Any, http_target: HttpTarget) -> None:
    http_target.route("/", Reply())
    dispatcher = scripted({"mixed.example.com": ["127.0.0.1", NOWHERE, "93.184.216.34"]}, EgressPolicy())
    outcome = run(dispatcher, a_call(http_target.url("/", "mixed.example.com")))
    assert failure(outcome) == (ErrorKind.DESTINATION_NOT_ALLOWED, Blame.POLICY)
    assert (outcome.timings.total_ms or 0) < 1_000
    assert http_target.connections == 0


def test_hung_name_does_not_hold_up_the_close(make_dispatcher: Factory) -> None:
    release, asked = threading.Event(), threading.Event()

    def getaddrinfo(*_values: object, **_options: object) -> list[Any]:
        asked.set()
        release.wait(30)
        return []

    dispatcher = make_dispatcher(getaddrinfo=getaddrinfo)
    try:
        for number in range(30):
            dispatcher.start(a_call(f"http://hung{number}.example.com/", timeout_ms=30_000))
        assert asked.wait(5)
        begun = time.monotonic()
        dispatcher.close()
        assert time.monotonic() - begun < 5
        assert {outcome.error_kind for outcome in collect(dispatcher, 30)} == {ErrorKind.CANCELED}
    finally:
        release.set()


def no_answer() -> None:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def test_unanswered_lookups_are_ours_once_most_owners_get_no_answer(scripted: Any) -> None:
    dispatcher = scripted({f"n{number}.example.com": no_answer for number in range(12)})
    owners = [uuid4() for _ in range(3)]
    outcomes = [
        run(dispatcher, a_call(f"http://n{number}.example.com/", owner_id=owners[number % 3])) for number in range(12)
    ]
    assert [outcome.blame for outcome in outcomes] == [Blame.REMOTE] * 9 + [Blame.LOCAL] * 3
    assert {outcome.error_kind for outcome in outcomes} == {ErrorKind.DNS_FAILED}


def test_name_that_does_not_exist_is_the_remotes_while_nobody_gets_an_answer(scripted: Any) -> None:
    dispatcher = scripted({f"n{number}.example.com": no_answer for number in range(30)})
    for number in range(30):
        run(dispatcher, a_call(f"http://n{number}.example.com/", owner_id=uuid4()))
    outcome = run(dispatcher, a_call("http://missing.example.com/"))
    assert failure(outcome) == (ErrorKind.DNS_FAILED, Blame.REMOTE)
    assert outcome.error_message == "There is no such host name, or it has no address."


def test_dead_names_of_one_owner_excuse_no_other_owner(scripted: Any) -> None:
    dispatcher = scripted({f"n{number}.example.com": no_answer for number in range(41)})
    for number in range(40):
        outcome = run(dispatcher, a_call(f"http://n{number}.example.com/"))
        assert failure(outcome) == (ErrorKind.DNS_FAILED, Blame.REMOTE)
    dispatcher_answers = [
        run(dispatcher, a_call(f"http://missing{number}.example.com/", owner_id=uuid4())) for number in range(3)
    ]
    assert {outcome.blame for outcome in dispatcher_answers} == {Blame.REMOTE}
    outcome = run(dispatcher, a_call("http://n40.example.com/", owner_id=uuid4()))
    assert failure(outcome) == (ErrorKind.DNS_FAILED, Blame.REMOTE)


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_SYSTEM, "System error"), OSError(errno.EMFILE, "full")])
def test_lookup_without_a_file_handle_is_our_own_fault(
    make_dispatcher: Factory, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def getaddrinfo(*_values: object, **_options: object) -> list[Any]:
        raise error

    def refuse(*_values: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    dispatcher = make_dispatcher(getaddrinfo=getaddrinfo)
    monkeypatch.setattr("scheduling.dispatch.lookups.os.open", refuse)
    outcome = run(dispatcher, a_call("http://fine.example.com/"))
    assert failure(outcome) == (ErrorKind.CONNECT_FAILED, Blame.LOCAL)


def test_hung_resolver_for_200_hosts_delays_nobody_else(make_dispatcher: Factory, http_target: HttpTarget) -> None:
    release = threading.Event()

    def getaddrinfo(host: str, _port: object, **_options: object) -> list[Any]:
        if host.startswith("hung"):
            release.wait(30)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]

    http_target.route("/", Reply())
    dispatcher = make_dispatcher(concurrency=300, getaddrinfo=getaddrinfo)
    try:
        for number in range(200):
            dispatcher.start(a_call(f"http://hung{number}.example.com/", timeout_ms=20_000))
        begun = time.monotonic()
        dispatcher.start(a_call(http_target.url("/", "fine.example.com")))
        (outcome,) = collect(dispatcher, 1)
        assert outcome.ok
        assert time.monotonic() - begun < 2
    finally:
        release.set()
        dispatcher.close()


def test_hung_name_takes_one_thread_however_often_it_is_called(make_dispatcher: Factory) -> None:
    release, asked = threading.Event(), []

    def getaddrinfo(host: str, _port: object, **_options: object) -> list[Any]:
        asked.append(host)
        release.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")

    dispatcher = make_dispatcher(getaddrinfo=getaddrinfo)
    try:
        for _ in range(30):
            dispatcher.start(a_call("http://hung.example.com/", timeout_ms=1_000))
        outcomes = collect(dispatcher, 30)
    finally:
        release.set()
        dispatcher.close()
    assert {failure(outcome) for outcome in outcomes} == {(ErrorKind.TIMEOUT, Blame.REMOTE)}
    assert asked == ["hung.example.com"]


def test_first_address_that_answers_is_used(scripted: Any, http_target: HttpTarget) -> None:
    http_target.route("/", Reply())
    dispatcher = scripted({"two.example.com": ["127.0.0.1", "127.0.0.2"]})
    assert run(dispatcher, a_call(http_target.url("/", "two.example.com"))).ok


def test_names_that_failed_long_ago_no_longer_count() -> None:
    health, owners = DnsHealth(), (uuid4(), uuid4())
    for number in range(10):
        health.record(owners[number % 2], f"n{number}", answered=False, now_ns=0)
    assert health.blame() is Blame.LOCAL
    health.record(owners[0], "late", answered=False, now_ns=WINDOW_NS + 1)
    assert health.blame() is Blame.REMOTE


def test_half_of_the_owners_failing_is_still_the_remote() -> None:
    health, owners = DnsHealth(), [uuid4() for _ in range(4)]
    for number in range(20):
        health.record(owners[number % 4], f"n{number}", answered=number % 2 == 0, now_ns=number)
    assert health.blame() is Blame.REMOTE
    for number in range(0, 20, 4):
        health.record(owners[0], f"n{number}", answered=False, now_ns=20)
    assert health.blame() is Blame.LOCAL
    health.record(owners[0], "n0", answered=True, now_ns=21)
    assert health.blame() is Blame.LOCAL  # most names of this owner are still without an answer
