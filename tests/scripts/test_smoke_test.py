"""The smoke test as a person runs it: which address it asks."""

import os
import subprocess

import pytest

from cronicorn.env import PROJECT_DIR
from tests.support.http_target import HttpTarget, Reply


@pytest.mark.parametrize("way", ["argument", "API_URL", "argument over API_URL", "API_URL over PORT", "PORT"])
def test_the_address_is_the_argument_or_api_url_or_the_port(http_target: HttpTarget, way: str) -> None:
    for path in ("/api/health", "/api/synthetic/health"):
        http_target.route(path, Reply(200))
    here, nowhere = http_target.url("/"), "http://127.0.0.1:1"
    arguments = [here] if way.startswith("argument") else []
    environment = {
        "argument": {},
        "API_URL": {"API_URL": here},
        "argument over API_URL": {"API_URL": nowhere},
        "API_URL over PORT": {"API_URL": here, "PORT": "1"},
        "PORT": {"PORT": str(http_target.port)},
    }[way]
    done = subprocess.run(
        ["scripts/smoke-test.sh", *arguments],
        cwd=PROJECT_DIR,
        env={**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "DEBUG": "true", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "ok    public health" in done.stdout
    assert "ok    synthetic health" in done.stdout
    assert {request.path for request in http_target.requests} == {"/api/health?strict", "/api/synthetic/health"}
