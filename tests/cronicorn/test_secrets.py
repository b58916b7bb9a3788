"""`python -m cronicorn.secrets` in real processes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

from dotenv import dotenv_values

from cronicorn.env import PROJECT_DIR, read_environment
from cronicorn.secrets import NAME, write_secrets


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cronicorn.secrets"]
    environment = os.environ | {"DATA_DIR": str(folder)}
    return subprocess.Popen(command, cwd=PROJECT_DIR, env=environment, stderr=subprocess.PIPE, text=True)


def test_secrets_are_private_and_accepted_by_the_settings(tmp_path: Path) -> None:
    folder = tmp_path / "a b" / "data"

    assert write_secrets(folder)

    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600
    values = {name: value for name, value in dotenv_values(folder / NAME).items() if value}
    assert set(values) == {"SECRET_KEY", "ENCRYPTION_KEYS"}
    assert not read_environment(values).debug
    assert [path.name for path in folder.iterdir()] == [NAME]


def test_secrets_that_are_there_stay(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    before = (tmp_path / NAME).read_bytes()

    assert not write_secrets(tmp_path)
    assert (tmp_path / NAME).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_processes_that_start_together_make_one_set_of_secrets_and_print_none(tmp_path: Path) -> None:
    said = []
    for process in [start(tmp_path) for _ in range(4)]:
        _, err = process.communicate(timeout=50)
        assert process.returncode == 0, err
        said.append(err)

    content = (tmp_path / NAME).read_text()
    assert sum("New secrets" in err for err in said) == 1
    assert not any(value in "".join(said) for value in dotenv_values(stream=None, dotenv_path=tmp_path / NAME).values())
    assert content.count("\n") == 2
