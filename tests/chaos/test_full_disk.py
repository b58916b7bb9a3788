"""The database's disk is full: nothing is called, and all goes on when there is room again."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.chaos.arena import DATABASE, Postgres
from tests.support.http_target import HttpTarget, Reply
from tests.support.processes import Command, eventually

pytestmark = [pytest.mark.django_db, pytest.mark.processes]


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A server of this test's own, with the project's tables."""
    with closing(Postgres(tmp_path / "postgres")) as server:
        with Command("migrate", DATABASE_URL=server.url) as migrate:
            assert migrate.wait(60) == 0
        yield server


@pytest.mark.timeout(120)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is played by /dev/full")
def test_nothing_is_sent_while_runs_cannot_be_written(postgres: Postgres, target: HttpTarget, tmp_path: Path) -> None:
    url = target.route("/ok", Reply(200))
    make = f"from tests.support.factories import make_endpoint; make_endpoint(url={url!r}, baseline_interval_ms=1000)"
    with Command("shell", "-c", make, DATABASE_URL=postgres.url) as made:
        assert made.wait(60) == 0
    address = postgres.address
    with psycopg.connect(host=address.host, user=address.user, dbname=DATABASE, autocommit=True) as database:
        (name,) = database.execute("SELECT pg_relation_filepath('runs')").fetchone()  # type: ignore[misc]
        database.execute("CHECKPOINT")
        # The table is empty, and so is this device; the first block written to it fails as it would on a full disk.
        (file,) = (tmp_path / "postgres" / "cluster").resolve().glob(name)
        assert file.stat().st_size == 0
        kept = file.rename(file.with_suffix(".kept"))
        file.symlink_to("/dev/full")
        with Command("run_scheduler", "--poll-interval", "0.5", DATABASE_URL=postgres.url) as scheduler:
            for _ in range(3):
                assert "No space left on device" in scheduler.wait_for_line("claim_failed")
            assert target.requests == []
            kept.replace(file)
            database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            target.wait_for(2, 20)

            def settled() -> bool:
                row = database.execute("SELECT count(*) FROM runs WHERE status = 'success' AND attempt = 1").fetchone()
                return row is not None and row[0] >= 2

            eventually(settled)
    keys = [request.header("Idempotency-Key") for request in target.requests]
    assert len(keys) == len(set(keys))
