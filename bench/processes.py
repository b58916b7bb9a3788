"""The processes of a benchmark, the target and the schedulers, and what they and PostgreSQL cost."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.fernet import Fernet
from django.db import connection

from bench.ledger import Receipt, read_receipts

PROJECT_DIR = Path(__file__).resolve().parents[1]
STOP_WITHIN_S = 60.0
# A thread of the target waits for one handshake at a time.
TLS_THREADS = 8
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Target:
    """The server that is called, in a process of its own. `receipts` is what it received, once it is closed."""

    def __init__(self, folder: Path, certificate: Path | None) -> None:
        self.receipts: list[Receipt] = []
        self._record = folder / "received.tsv"
        command = [sys.executable, str(Path(__file__).with_name("target.py")), "--record", str(self._record)]
        command += ["--certificate", str(certificate), "--threads", str(TLS_THREADS)] if certificate else []
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """Ends the process and reads what it received."""
        self._process.communicate(timeout=STOP_WITHIN_S)
        self.receipts = read_receipts(self._record)


@contextmanager
def target(certificate: Path | None = None) -> Iterator[Target]:
    """Yields a target that is ready, and ends it; with a certificate (PEM file of key and chain) it speaks HTTPS."""
    with tempfile.TemporaryDirectory() as folder:
        server = Target(Path(folder), certificate)
        try:
            yield server
        finally:
            server.close()


class Scheduler:
    """One `manage.py run_scheduler` that works on the benchmarks' database; ready once constructed.

    It trusts the certificate authorities of `ca_file` (PEM), or those of the system.
    """

    def __init__(
        self,
        url: str,
        *arguments: str,
        command: tuple[str, ...] = ("manage.py", "run_scheduler"),
        ca_file: Path | None = None,
    ) -> None:
        environ = {
            **os.environ,
            "DATABASE_URL": url,
            "DATABASE_URL_DIRECT": "",
            "DJANGO_SETTINGS_MODULE": "cronicorn.settings",
            "EGRESS_ALLOW": "127.0.0.0/8",
            # As in production: debug mode keeps the text of every statement.
            "DEBUG": "false",
            "SECRET_KEY": secrets.token_urlsafe(64),
            "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "INFO",
        }
        environ |= {"SSL_CERT_FILE": str(ca_file)} if ca_file else {}
        self._process = subprocess.Popen(
            [sys.executable, *command, *arguments],
            cwd=PROJECT_DIR,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(STOP_WITHIN_S) or self._process.poll() is not None:
            self._process.kill()
            raise RuntimeError("The scheduler did not start:\n" + "".join(self.lines))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Lets it drain; raises RuntimeError when it does not end well."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join(STOP_WITHIN_S)
        if status:
            raise RuntimeError(f"The scheduler ended with {status}:\n" + "".join(self.lines))

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self.lines.append(line)
                if "worker_started" in line:
                    self._ready.set()
        self._ready.set()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, in seconds, counted in hundredths."""
    return _own_cpu(_stat(pid))


def resident_mb(pid: int) -> float:
    """Memory of a process that is in RAM, shared pages included, in MB (10^6 bytes)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def server_cpu_seconds() -> float | None:
    """User and system time of all processes of PostgreSQL; None where the server is not on this machine."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), inet_server_addr() IS NULL OR inet_server_addr() << '127.0.0.0/8'")
        backend, local = cursor.fetchone()
    try:
        if not local or not Path(f"/proc/{backend}/comm").read_text().startswith("postgres"):
            return None
        postmaster = int(_stat(backend)[1])
        total = _own_cpu(_stat(postmaster)) + sum(float(ticks) for ticks in _stat(postmaster)[13:15]) * _TICK_S
    except OSError:
        return None
    for entry in Path("/proc").glob("[0-9]*"):
        # A backend that has ended meanwhile counts among the children that the postmaster waited for.
        with suppress(OSError):
            stat = _stat(int(entry.name))
            if int(stat[1]) == postmaster:
                total += _own_cpu(stat)
    return total


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name: state first, then the parent."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _own_cpu(stat: list[str]) -> float:
    return (int(stat[11]) + int(stat[12])) * _TICK_S
