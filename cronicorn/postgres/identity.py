"""As whom the programs of PostgreSQL run: they refuse root, and initdb refuses a user that has no account."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cronicorn.postgres.errors import EmbeddedPostgresError

RootStrategy = Literal["namespace", "account"]

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True)
class Identity:
    """A way to run a program: `prefix` is put before its command; uid None means as the calling user."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def run(self, *command: str | Path, cwd: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run the command in its own session without our files, input and secrets; stdout holds all that it wrote.

        Raises EmbeddedPostgresError when it outlasts `timeout_s`, and OSError when it cannot be executed.
        """
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            return subprocess.run(  # noqa: S603 - our own programs with arguments made here
                [*self.prefix, *map(str, command)],
                cwd=cwd,
                env=environment | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
                start_new_session=True,
                umask=0o077,
                user=self.uid,
                group=self.gid,
                extra_groups=None if self.uid is None else [],
            )
        except subprocess.TimeoutExpired:
            raise EmbeddedPostgresError(
                f"{Path(command[0]).name} of the embedded PostgreSQL took longer than {timeout_s:.0f} s. "
                "Look at the load of the machine and its disk, then try again."
            ) from None


def account_identity(uid: int) -> Identity:
    """Return the identity of the account `uid`; only root can use it. Raises EmbeddedPostgresError without account."""
    try:
        return Identity(uid=uid, gid=pwd.getpwuid(uid).pw_gid)
    except KeyError:
        raise EmbeddedPostgresError(
            f"The folder of the embedded PostgreSQL belongs to uid {uid}, which has no account here. "
            "Give the folder to a user that has one, or set DATABASE_URL."
        ) from None


def spare_account() -> pwd.struct_passwd:
    """Return an account without privileges: `nobody` where there is one. Raises EmbeddedPostgresError without any."""
    accounts = [account for account in pwd.getpwall() if account.pw_uid != 0]
    if not accounts:
        raise EmbeddedPostgresError(
            "PostgreSQL does not run as root, and there is no other account on this machine. "
            "Add one and start as that user, or set DATABASE_URL."
        )
    return next((account for account in accounts if account.pw_name == "nobody"), accounts[0])


def namespace_identity() -> Identity | None:
    """Return the identity of a user namespace in which the caller has another uid; None where these are closed.

    The kernel still sees the caller, without privileges: files keep their owner and no mode is opened. The uid inside
    must have an account, because initdb looks up its name (measured: a uid without one is refused).
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    account = spare_account()
    prefix = (unshare, "--user", f"--map-user={account.pw_uid}", f"--map-group={account.pw_gid}", "--")
    identity = Identity(prefix=prefix)
    probe = identity.run(shutil.which("true") or "true", cwd=Path("/"), timeout_s=10)
    return identity if probe.returncode == 0 else None
