"""The sign of life of a worker on its own machine: a small file in memory, so that a check needs no database.

One file for each worker process, in a folder for this user and this installation. Read by `manage.py worker_health`.
"""

import hashlib
import json
import logging
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from cronicorn.logging import Event, log_event
from cronicorn.runtime.clock import boot_seconds
from jobs.models import WorkerKind

logger = logging.getLogger(__name__)

PULSE_EVERY_S = 2.0
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  in memory: it neither stalls on a busy disk nor fails on a full one
_FORGOTTEN_AFTER_S = 86_400.0


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """What a worker last wrote: how long ago, in seconds, and why its work does not go on; None: it does."""

    age_s: float
    problem: str | None


class Pulse:
    """The file of one worker. A folder that cannot be written is said once; the worker works without."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._file: Path | None = None
        try:
            self._file = _folder(make=True) / f"{worker}.json"
            _forget_old(self._file.parent)
        except OSError as error:
            log_event(logger, Event.PULSE_UNWRITTEN, logging.WARNING, worker=worker, error=str(error))

    def beat(self, problem: str | None) -> None:
        """Writes that the process lives, and whether its work goes on."""
        if self._file is None:
            return
        new = self._file.with_suffix(".new")
        with suppress(OSError):
            new.write_text(json.dumps({"at": boot_seconds(), "problem": problem}), encoding="utf-8")
            new.replace(self._file)

    def end(self) -> None:
        """Removes the file: the worker leaves on purpose."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)


def signs_of_life(kind: WorkerKind) -> list[SignOfLife]:
    """Those of the workers of a kind on this machine, the freshest first; empty without any."""
    found = []
    with suppress(OSError):
        for file in _folder(make=False).glob(f"{kind.value}-*.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                age_s = boot_seconds() - float(said["at"])
                # From before the machine started anew, its time is ahead of ours.
                if age_s >= 0:
                    found.append(SignOfLife(age_s, said["problem"]))
    return sorted(found, key=lambda sign: sign.age_s)


def _folder(*, make: bool) -> Path:
    """The folder of this user and installation; raises OSError where another user made it or it cannot be made."""
    database = settings.DATABASES["default"]
    place = [str(settings.ENV.data_dir), *(str(database.get(name, "")) for name in ("HOST", "PORT", "NAME"))]
    digest = hashlib.sha256("\0".join(place).encode()).hexdigest()[:12]
    parent = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    folder = parent / f"cronicorn-{os.geteuid()}-{digest}"
    if make:
        folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder} belongs to another user; remove it")
    return folder


def _forget_old(folder: Path) -> None:
    """Removes what killed workers left behind."""
    for file in folder.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            age_s = boot_seconds() - float(json.loads(file.read_text(encoding="utf-8"))["at"])
            if not 0 <= age_s < _FORGOTTEN_AFTER_S:
                file.unlink()
