"""The server process of a cluster as the machine shows it: alive, dead, or a number that another process now has."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cronicorn.postgres.address import Address
from cronicorn.postgres.errors import EmbeddedPostgresError
from cronicorn.postgres.waiting import attempts

# Above every pid of Linux (2^22) and macOS, so that no process can have it.
_NO_PID = 2**31 - 1
_PROC = Path("/proc/self").exists()


@dataclass(frozen=True)
class Postmaster:
    """A living server; `ready` once it takes connections (not during recovery)."""

    pid: int
    address: Address | None
    ready: bool


def find_postmaster(cluster: Path) -> Postmaster | None:
    """Return the living server of `cluster`, None when there is none, whatever its pid file says."""
    lines = _pid_file_lines(cluster)
    pid = _pid(lines)
    if pid is None or not _serves(pid, cluster):
        return None
    # Lines of postmaster.pid: pid, folder, start, port, socket folder, TCP address, shared memory, state.
    socket_dir = lines[4].strip() if len(lines) > 4 else ""
    return Postmaster(
        pid=pid,
        address=Address(socket_dir, port=int(lines[3])) if socket_dir else None,
        ready=len(lines) > 7 and lines[7].strip() == "ready",
    )


def release_stale_files(cluster: Path, address: Address) -> None:
    """Make a start possible after the server died without its own clean-up; it must be known to be dead.

    Ends backends that outlived it, removes its socket, and takes its pid from another process that has it now.
    The pid file itself stays: through it PostgreSQL sees shared memory that is still in use.
    """
    lines = _pid_file_lines(cluster)
    if lines:
        _end_orphans(cluster)
    address.socket_path.unlink(missing_ok=True)
    address.socket_path.with_name(f"{address.socket_path.name}.lock").unlink(missing_ok=True)
    pid = _pid(lines)
    if pid is not None and _alive(pid) and not _serves(pid, cluster):
        replace_private(cluster / "postmaster.pid", "\n".join([str(_NO_PID), *lines[1:]]) + "\n")


def replace_private(path: Path, text: str) -> None:
    """Replace the file atomically, mode 0600, owned by the owner of its folder. Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        if os.geteuid() == 0:
            folder = path.parent.stat()
            os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
    os.replace(name, path)


def _pid_file_lines(cluster: Path) -> list[str]:
    try:
        return (cluster / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []


def _pid(lines: list[str]) -> int | None:
    return int(lines[0]) if lines and lines[0].isascii() and lines[0].isdigit() and int(lines[0]) > 0 else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return pid != _NO_PID
    return True


def _serves(pid: int, cluster: Path) -> bool:
    """Tell whether the process is a server of `cluster`: every PostgreSQL process works in its data folder."""
    if _PROC:
        try:
            process = Path("/proc", str(pid))
            return Path(os.readlink(process / "exe")).name.startswith("postgres") and os.path.samefile(
                process / "cwd", cluster
            )
        except OSError:
            return False
    listing = subprocess.run(  # noqa: S603 - a fixed program and a number
        ["/bin/ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=10
    )
    return "postgres" in listing.stdout and str(cluster) in listing.stdout


def _end_orphans(cluster: Path) -> None:
    """Kill the backends of a dead server: a long query would block the next start for its whole length."""
    for _ in attempts(10):
        orphans = list(_servers(cluster))
        if not orphans:
            return
        for pid in orphans:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    raise EmbeddedPostgresError(
        f"Processes of an earlier server of {cluster} do not end (pids {orphans}). "
        "They wait for the disk: look at its state, or restart the machine."
    )


def _servers(cluster: Path) -> Iterator[int]:
    if _PROC:
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and _serves(int(entry.name), cluster):
                yield int(entry.name)
