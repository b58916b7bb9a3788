"""Where a cluster lives, who owns it and which programs serve it."""

import fcntl
import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cronicorn.postgres.address import folder_digest
from cronicorn.postgres.binaries import copy_binaries
from cronicorn.postgres.errors import EmbeddedPostgresError
from cronicorn.postgres.identity import (
    Identity,
    RootStrategy,
    account_identity,
    namespace_identity,
    spare_account,
)
from cronicorn.postgres.waiting import attempts

SERVICE_ROOT = Path("/var/lib/cronicorn")
LOCK_TIMEOUT_S = 180


@dataclass(frozen=True)
class Residence:
    """A cluster's home, the identity that owns it, and programs that this identity can execute."""

    home: Path
    identity: Identity
    binaries: Path
    version: str

    @property
    def cluster(self) -> Path:
        """The data folder of PostgreSQL."""
        return self.home / "cluster"

    @property
    def log(self) -> Path:
        """What the server writes."""
        return self.home / "log"

    def run(self, program: str, *arguments: str | Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run one of the programs of PostgreSQL as the owner of the home."""
        return self.identity.run(self.binaries / program, *arguments, cwd=self.home, timeout_s=timeout_s)

    def give(self, path: Path) -> None:
        """Give a new file or folder to the owner of the home."""
        if self.identity.uid is not None and self.identity.gid is not None:
            os.chown(path, self.identity.uid, self.identity.gid, follow_symlinks=False)


def claim_folder(data_dir: Path) -> None:
    """Make `data_dir`, or take it when it is empty or ours, mode 0700. Raises EmbeddedPostgresError when it is not.

    The mode is the lock of the server, which trusts whoever reaches its socket.
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        data_dir.mkdir(mode=0o700)
    found = data_dir.stat()
    if os.geteuid() not in (0, found.st_uid):
        raise EmbeddedPostgresError(
            f"The folder of the embedded PostgreSQL, {data_dir}, belongs to {_name(found.st_uid)}. "
            "Start as that user, give the folder to this one, or set DATA_DIR to another folder."
        )
    content = set(os.listdir(data_dir))
    if content and not content & {"lock", "cluster"}:
        raise EmbeddedPostgresError(
            f"The folder {data_dir} holds files that the embedded PostgreSQL did not make ({sorted(content)[0]}). "
            "Set DATA_DIR to a folder that is empty or does not exist."
        )
    if found.st_mode & 0o077:
        data_dir.chmod(0o700)


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the lock of `data_dir` over all processes and threads; it goes with its holder, however that dies."""
    descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:
            owner = data_dir.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        for _ in attempts(LOCK_TIMEOUT_S):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                continue
        else:
            raise EmbeddedPostgresError(
                f"Another process holds {data_dir / 'lock'} for {LOCK_TIMEOUT_S} s, while it starts or stops the "
                "embedded PostgreSQL. Look for a process that is stopped, and end it."
            )
        # Unlocked by name: a child that another thread forked meanwhile would keep the lock past a mere close.
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def settle(data_dir: Path, binaries: Path, strategy: RootStrategy | None, service_root: Path) -> Residence:
    """Return the residence of the cluster of `data_dir`; where there is none yet, choose its home.

    A cluster stays where it was made: `data_dir/cluster`, or a link of that name to the cluster elsewhere. Root serves
    the folder of another user as that user, and its own folder from a user namespace; where these are closed, or with
    the strategy `account`, a new cluster lives under `service_root` and belongs to an account without privileges.
    """
    if os.geteuid() == 0:
        home, identity = _settle_root(data_dir, strategy, service_root)
    else:
        home, identity = data_dir, _unprivileged()
    version = _version(identity, binaries, home)
    if version is None and identity.uid is not None:
        binaries = copy_binaries(binaries, home)
        version = _version(identity, binaries, home)
    if version is None:
        raise EmbeddedPostgresError(
            f"The programs of the embedded PostgreSQL in {binaries} cannot be executed here. "
            "Install the project's dependencies on this machine and for this user, or set DATABASE_URL."
        )
    return Residence(home, identity, binaries, version)


def _settle_root(data_dir: Path, strategy: RootStrategy | None, service_root: Path) -> tuple[Path, Identity]:
    cluster = data_dir / "cluster"
    home = Path(os.path.realpath(cluster)).parent if cluster.is_symlink() else data_dir
    owner = _owner(home)
    if owner != 0:
        return home, account_identity(owner)
    namespace = None if strategy == "account" else namespace_identity()
    if namespace is not None:
        return home, namespace
    if cluster.exists() or strategy == "namespace":
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL in {data_dir} belongs to root and needs a user namespace to run without "
            "privileges, but this machine does not allow one. Allow user namespaces, or give the folder to an "
            "ordinary user (chown -R) and start as that user, or set DATABASE_URL."
        )
    home = _service_home(data_dir, service_root)
    cluster.symlink_to(home / "cluster")
    return home, account_identity(_owner(home))


def _service_home(data_dir: Path, service_root: Path) -> Path:
    account = spare_account()
    home = service_root / folder_digest(data_dir)
    if not service_root.exists():
        service_root.mkdir(parents=True)
        service_root.chmod(0o755)
    home.mkdir(mode=0o700, exist_ok=True)
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, account.pw_uid):
        raise EmbeddedPostgresError(f"{home} is not a folder of {account.pw_name}. Remove it, or set DATABASE_URL.")
    os.chown(home, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return home


def _unprivileged() -> Identity:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        # Without an account initdb works only where a user namespace lends one; its own message says so elsewhere.
        return namespace_identity() or Identity()
    return Identity()


def _owner(home: Path) -> int:
    try:
        return home.stat().st_uid
    except FileNotFoundError:
        raise EmbeddedPostgresError(
            f"The data of the embedded PostgreSQL was in {home}, which is gone. Bring it back, or remove the link "
            "named cluster to begin with an empty database."
        ) from None


def _version(identity: Identity, binaries: Path, home: Path) -> str | None:
    """Return what `postgres --version` says; None when this identity cannot execute it."""
    try:
        said = identity.run(binaries / "postgres", "--version", cwd=home, timeout_s=30)
    except OSError:
        return None
    return said.stdout.strip() if said.returncode == 0 else None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
