"""Where the embedded server listens: a unix socket in a folder that only its owner can enter."""

import hashlib
import os
import socket
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from cronicorn.postgres.errors import EmbeddedPostgresError

PORT = 5432
SUPERUSER = "postgres"
# The longest path that fits the kernel's sockaddr_un, without its closing zero byte.
SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107


@dataclass(frozen=True)
class Address:
    """What a client needs to connect; `host` is the folder of the socket."""

    host: str
    port: int = PORT
    user: str = SUPERUSER

    @property
    def socket_path(self) -> Path:
        """The file that clients connect to."""
        return Path(self.host, f".s.PGSQL.{self.port}")

    def answers(self) -> bool:
        """Tell whether a server listens; a socket file that a killed server left behind does not answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(1)
            try:
                client.connect(str(self.socket_path))
            except (BlockingIOError, TimeoutError):
                return True  # its queue is full, so somebody listens
            except OSError:
                return False
        return True


def folder_digest(folder: Path) -> str:
    """Return the short name that stands for a folder: the same in every process."""
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]


def socket_folder(home: Path) -> Path:
    """Return the folder for the socket of the server that lives in `home`, made if it is missing.

    It is `home`, or a private folder under /tmp where that path is too long for a socket or holds a comma, which libpq
    takes for a list. Not XDG_RUNTIME_DIR: it differs between processes and goes away when its user logs out.
    """
    if len(os.fsencode(Address(str(home)).socket_path)) <= SOCKET_PATH_BYTES and "," not in str(home):
        return home
    owner = home.stat()
    folder = Path("/tmp", f"cronicorn-{owner.st_uid}-{folder_digest(home)}")  # noqa: S108 - its owner and mode are checked
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner.st_uid, os.geteuid()) or found.st_mode & 0o077:
            raise EmbeddedPostgresError(
                f"The socket of the embedded PostgreSQL belongs in {folder}, which another user made or can enter. "
                "Remove it, or set DATA_DIR to a shorter path."
            ) from None
    if os.geteuid() == 0:
        os.chown(folder, owner.st_uid, owner.st_gid, follow_symlinks=False)
    return folder
