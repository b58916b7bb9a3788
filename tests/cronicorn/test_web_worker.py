"""gunicorn itself, on the wire: what it refuses before Django sees it has the error shape."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from cronicorn.env import PROJECT_DIR
from tests.chaos.proxy import Proxy
from tests.support.processes import eventually, test_database_url


@contextmanager
def web_server(folder: Path, database_url: str) -> Iterator[int]:
    """A web server of its own, by its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        "SECRET_KEY": "k" * 50,
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "DATABASE_URL": database_url,
        "DATA_DIR": str(folder),
        "PORT": str(number),
        "WEB_WORKERS": "1",
    }
    command = [sys.executable, "-m", "gunicorn", "--config", "python:cronicorn.web_server", "cronicorn.wsgi"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=PROJECT_DIR, env=environment, stdout=log, stderr=log)
        try:
            eventually(lambda: _listens(number), 60)
            yield number
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any) -> Iterator[int]:
    """A web server on the database of the tests."""
    with django_db_blocker.unblock():
        url = test_database_url()
    with web_server(tmp_path_factory.mktemp("web"), url) as number:
        yield number


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Sends bytes as they are; returns status, headers and body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=50) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        data = b""
        with suppress(ConnectionResetError):
            while more := connection.recv(65_536):
                data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked" and body:
        body = body.partition(b"\r\n")[2].partition(b"\r\n0\r\n")[0]
    return int(first.split()[1]), headers, body


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (get("/api/jobs?x=" + "a" * 9_000), 414, "too_long"),
        (get("/jobs/?x=" + "a" * 9_000), 414, "too_long"),
        (get("/api/jobs", "X-Big: " + "a" * 70_000), 431, "headers_too_large"),
        (get("/api/jobs", *(f"X-{n}: a" for n in range(200))), 431, "headers_too_large"),
        (get("/api/jobs", "No colon"), 400, "malformed"),
        (get("/api/jobs", "Bad name: x"), 400, "malformed"),
        (get("/api/jobs", "Content-Length: many"), 400, "malformed"),
        (get("/api/jobs", "Transfer-Encoding: chunked", "Content-Length: 3"), 400, "malformed"),
        (get("/api/jobs", "Transfer-Encoding: zip"), 501, "not_implemented"),
        (get("/api/jobs", "Expect: a-miracle", method="POST"), 417, "expectation_failed"),
        (b"GET /api/jobs\r\n\r\n", 400, "malformed"),
        (b"GET /api/jobs HTTP/9.9\r\n\r\n", 400, "malformed"),
        (b"g@rbage\r\n\r\n", 400, "malformed"),
    ],
    ids=[
        "line",
        "line of a page",
        "header",
        "headers",
        "no colon",
        "bad name",
        "bad length",
        "two lengths",
        "coding",
        "expect",
        "no version",
        "bad version",
        "garbage",
    ],
)
def test_what_gunicorn_refuses_has_the_error_shape(port: int, request_bytes: bytes, status: int, code: str) -> None:
    answered, headers, body = ask(port, request_bytes)
    assert answered == status
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == len(body)
    (error,) = json.loads(body)["errors"]
    assert (error["code"], error["field"]) == (code, None)
    assert error["message"]


@pytest.mark.parametrize("path", ["/api/nothing", "/nothing-at-all", "/api/%ff", "/%00"])
def test_head_is_answered_without_a_body(port: int, path: str) -> None:
    status, headers, body = ask(port, get(path, method="HEAD"))
    assert (status, body) == (404 if path.startswith("/api") else status, b"")
    assert status < 502
    assert headers["content-type"]


@pytest.mark.django_db(transaction=True)
def test_a_page_without_a_database_is_a_503_of_ours(tmp_path: Path) -> None:
    with ExitStack() as stack:
        with Proxy() as proxy:
            port = stack.enter_context(web_server(tmp_path, proxy.url))
        status, headers, body = ask(port, get("/accounts/login/", "Cookie: sessionid=" + "a" * 32))
        below_api, _, answer = ask(port, get("/api/health"))
    assert (status, below_api) == (503, 503)
    assert headers["content-type"].startswith("text/html")
    assert b"The database does not answer" in body
    assert json.loads(answer)["errors"][0]["code"] == "database_unavailable"


@pytest.mark.parametrize("host", ["evil.example.net", "a b", "[::1", "x" * 300])
def test_a_foreign_host_is_a_400_of_ours(port: int, host: str) -> None:
    status, headers, body = ask(port, f"GET /api/health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert status == 400
    assert json.loads(body)["errors"][0]["code"] == "malformed"
    assert headers["content-type"] == "application/json"
