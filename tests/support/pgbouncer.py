"""A real PgBouncer in front of a server that listens on a unix socket."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from cronicorn.postgres.identity import namespace_identity
from tests.support.processes import eventually

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class PgBouncer:
    """Pools sessions of `user` on the server behind `socket_folder`; `url` is what DATABASE_URL says."""

    def __init__(self, folder: Path, *, socket_folder: str, database: str, user: str, mode: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"postgresql://{user}@127.0.0.1:{self._port}/{database}?sslmode=disable"
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={socket_folder} port=5432 user={user}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self._port}\nauth_type = any\npool_mode = {mode}\n"
            f"unix_socket_dir =\ndefault_pool_size = 20\nmax_client_conn = 200\nserver_check_delay = 0\n"
        )
        self._command = [*_prefix(), str(PROGRAM), str(settings)]
        self._log = folder / "pgbouncer.log"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        eventually(self._answers, 10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(10)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _prefix() -> list[str]:
    """PgBouncer, too, refuses root, and has to read the socket of a server that root started."""
    if os.geteuid() != 0:
        return []
    identity = namespace_identity()
    return [] if identity is None else list(identity.prefix)
