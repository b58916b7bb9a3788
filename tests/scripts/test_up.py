"""`scripts/up` as a person uses it: real processes, a database of its own, a free port."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Self

import psutil
import pytest

from cronicorn.env import PROJECT_DIR

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
PATIENCE_S = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Up:
    """A running `scripts/up`, its lines, and every process that came from it."""

    def __init__(self, data_dir: Path, port: int, **environment: str) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self.port = port
        self.data_dir = data_dir
        self._process = subprocess.Popen(
            [PROJECT_DIR / "scripts" / "up"],
            cwd="/",
            env={**kept, "DATA_DIR": str(data_dir), "DATABASE_DURABLE": "false", "PORT": str(port), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._queue: Queue[str | None] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                for process in self.processes():
                    process.kill()
                self._process.kill()
                self._process.wait(10)
        self._reader.join(10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Reads on to the first line that matches; fails with everything read when there is none in time."""
        while True:
            try:
                line = self._queue.get(timeout=PATIENCE_S)
            except Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line {pattern!r} in:\n" + "\n".join(self.lines))
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found

    def processes(self) -> list[psutil.Process]:
        """Everything that was started with this data folder, the embedded database included."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("DATA_DIR") == str(self.data_dir)
                mine = mine or any(str(self.data_dir) in word for word in process.cmdline())
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def stop(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        return self._process.wait(60)

    def wait(self) -> int:
        return self._process.wait(PATIENCE_S)

    def get(self, path: str, key: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers={"x-api-key": key})
            answer = connection.getresponse()
            assert answer.status == 200, (path, answer.status)
            return json.load(answer)
        finally:
            connection.close()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data of a person"


def core_runs(up: Up, key: str, status: str) -> list[dict[str, Any]]:
    """The runs of the core job that have this status now."""
    jobs = {job["name"]: job["id"] for job in up.get("/api/jobs", key)["jobs"]}
    endpoints = up.get(f"/api/jobs/{jobs['Synthetic: Core']}/endpoints", key)["endpoints"]
    return [
        run
        for endpoint in endpoints
        for run in up.get(f"/api/endpoints/{endpoint['id']}/runs?status={status}", key)["runs"]
    ]


def successful_runs(up: Up, key: str) -> list[dict[str, Any]]:
    """Runs of the core job that succeeded, once there are some; looks again with every second of the clock."""
    pause = threading.Event()
    for _ in range(60):
        found = core_runs(up, key, "success")
        if found:
            return found
        pause.wait(1)
    raise AssertionError("no run of the core job within a minute:\n" + "\n".join(up.lines))


def test_first_start_shows_runs_and_a_second_one_keeps_them(data_dir: Path) -> None:
    port = free_port()
    with Up(data_dir, port) as up:
        assert up.wait_for("^Admin: (.+)$")[1] == "admin@example.com"
        assert len(up.wait_for("^Password: (.+)$")[1]) >= 16
        key = up.wait_for(r"^API key: (cc_\S+)$")[1]
        assert up.wait_for("^URL: (.+)$")[1] == f"http://127.0.0.1:{port}"
        assert any("EGRESS_ALLOW=127.0.0.0/8,[::1]/128" in line for line in up.lines)

        assert up.get("/api/health", key)["database"] == "ok"
        run = successful_runs(up, key)[0]
        assert run["statusCode"] == 200
        assert 0 <= run["latenessMs"] < 5_000
        assert up.processes()
        assert up.stop(signal.SIGINT) == 0
        assert not up.processes()

    with Up(data_dir, port) as up:
        up.wait_for("^Admin: admin@example.com$")
        up.wait_for("shown at the first start.*changepassword")
        up.wait_for("^URL: ")
        assert successful_runs(up, key)
        # What fell due meanwhile is called at once, by then the web server must answer.
        assert not core_runs(up, key, "failed")
        assert up.stop(signal.SIGTERM) == 0
        assert not up.processes()
        assert not any(re.match("Password:|API key:", line) for line in up.lines)


def test_an_interruption_while_it_prepares_leaves_nothing_behind(data_dir: Path) -> None:
    with Up(data_dir, free_port()) as up:
        up.wait_for("The database is up to date")

        assert up.stop(signal.SIGINT) == 0
        assert not up.processes()


def test_a_port_that_is_taken_is_named_and_nothing_stays(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with Up(data_dir, taken.getsockname()[1]) as up:
            up.wait_for(f"^Port {taken.getsockname()[1]} of 127.0.0.1 cannot be used .*PORT=8001")
            assert up.wait() == 1
            assert not up.processes()


def test_bad_settings_are_named_all_at_once(data_dir: Path) -> None:
    with Up(data_dir, free_port(), WEB_WORKERS="0", SIGN_UP="sometimes") as up:
        up.wait_for("WEB_WORKERS")
        up.wait_for("SIGN_UP")
        assert up.wait() == 1


@pytest.mark.parametrize(("value", "opens"), [(None, True), ("", False), ("none", False), ("10.0.0.0/8", False)])
def test_loopback_is_open_only_where_nothing_was_said(data_dir: Path, value: str | None, opens: bool) -> None:
    chosen = {} if value is None else {"EGRESS_ALLOW": value}
    with Up(data_dir, free_port(), WEB_WORKERS="0", **chosen) as up:
        up.wait_for("WEB_WORKERS")
        assert up.wait() == 1
    assert any("Endpoints may call this machine" in line for line in up.lines) is opens


def test_a_second_start_with_the_same_data_is_refused(data_dir: Path) -> None:
    with Up(data_dir, free_port()) as first:
        first.wait_for("^URL: ")
        with Up(data_dir, free_port()) as second:
            second.wait_for("runs already with the data in")
            assert second.wait() == 1
        assert first.stop(signal.SIGINT) == 0


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)
    project = tmp_path / "a project"
    (project / "scripts").mkdir(parents=True)
    for name in ("up", "lib.sh"):
        (project / "scripts" / name).write_bytes((PROJECT_DIR / "scripts" / name).read_bytes())

    done = subprocess.run(
        ["bash", project / "scripts" / "up"],
        env={"PATH": os.environ["PATH"], "PYTHON": str(old)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )

    assert done.returncode == 1
    assert "Python 3.11 or newer is needed; found: Python 3.9.2." in done.stderr
    assert not (project / ".venv").exists()
