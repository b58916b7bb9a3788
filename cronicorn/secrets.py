"""`python -m cronicorn.secrets`: makes the secrets of this installation, once.

Writes `secrets.env` in DATA_DIR (mode 0600) with SECRET_KEY and ENCRYPTION_KEYS. A file that is there is never changed:
without its keys the encrypted headers and signing keys are lost.
"""

import os
import secrets
import sys
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet

from cronicorn.env import data_dir

NAME = "secrets.env"


def write_secrets(folder: Path) -> bool:
    """Writes fresh secrets into the folder; returns False, and changes nothing, when there are some already.

    The file appears whole or not at all, and of two processes at the same time one wins. Raises OSError.
    """
    target = folder / NAME
    if target.exists():
        return False
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = f"SECRET_KEY={secrets.token_urlsafe(64)}\nENCRYPTION_KEYS={Fernet.generate_key().decode()}\n"
    handle, partial = tempfile.mkstemp(prefix=f".{NAME}-", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, target)
    except FileExistsError:
        return False
    finally:
        os.unlink(partial)
    return True


def main() -> None:
    """Runs the command; says on standard error what was made."""
    folder = data_dir(os.environ)
    if write_secrets(folder):
        sys.stderr.write(f"New secrets are in {folder / NAME}. Keep a copy: encrypted values need them.\n")


if __name__ == "__main__":
    main()
