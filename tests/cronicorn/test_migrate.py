"""`manage.py migrate` beside workers and readers, with and without the right to change the schema."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from django.apps import apps
from django.db import connection, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.models import NOT_PROVIDED

from cronicorn.postgres.session import MIGRATION_BOUNDS, SESSION_BOUNDS
from tests.chaos.arena import DATABASE, Postgres
from tests.support.processes import Command

OWN = ("accounts", "jobs", "planner")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    """A server of this test's own, with the project's tables."""
    with closing(Postgres(tmp_path / "postgres")) as postgres:
        yield postgres


def connect(server: Postgres, user: str = "postgres") -> psycopg.Connection[Any]:
    return psycopg.connect(host=server.address.host, user=user, dbname=DATABASE, autocommit=True)


def migrated(server: Postgres, *arguments: str, **environment: str) -> Command:
    return Command("migrate", "--verbosity", "1", *arguments, **{"DATABASE_URL": server.url, **environment})


@pytest.mark.processes
@pytest.mark.django_db
@pytest.mark.timeout(240)
def test_migration_waits_beside_a_long_reader_and_holds_nobody_up_for_more_than_two_seconds(server: Postgres) -> None:
    with migrated(server, "jobs", "0001") as first:
        assert first.wait(120) == 0, first.lines
    with connect(server) as reader, connect(server) as other:
        # Each migration that follows takes its turn; a step back of the record makes one that has to lock the tables.
        with migrated(server) as rest:
            assert rest.wait(120) == 0, rest.lines
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs, job_endpoints, jobs, worker_heartbeats")
        with migrated(server, "jobs", "zero") as back:
            back.wait_for_line("Another session holds a lock: pid")
            # A worker's statement waits behind the migration's lock for 2 s at most, then the migration stands back.
            other.execute("SET statement_timeout = '4s'")
            for _ in range(20):
                other.execute("INSERT INTO runs (scheduled_for, due_at) SELECT now(), now() LIMIT 0")
            back.wait_for_line("trying again in")
            reader.execute("COMMIT")
            assert back.wait(60) == 0, back.lines


@pytest.mark.processes
@pytest.mark.django_db
@pytest.mark.timeout(120)
def test_role_without_the_right_to_create_is_told_what_it_lacks(server: Postgres) -> None:
    with connect(server) as admin:
        admin.execute("CREATE ROLE guest LOGIN")
        admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    url = f"postgresql://guest@:{server.address.port}/{DATABASE}?host={quote(server.address.host)}"
    with migrated(server, DATABASE_URL=url) as refused:
        assert refused.wait(60) == 1
    said = "".join(refused.lines)
    assert "guest may not change the schema" in said
    assert "GRANT CREATE" in said
    assert "Traceback" not in said


@pytest.mark.processes
@pytest.mark.django_db
@pytest.mark.timeout(120)
def test_prepare_on_a_read_only_database_says_so(server: Postgres) -> None:
    with connect(server) as admin:
        admin.execute(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on")
    with Command("prepare", DATABASE_URL=server.url) as refused:
        assert refused.wait(60) == 1
    said = "".join(refused.lines)
    assert "read-only" in said
    assert "Traceback" not in said


@pytest.mark.django_db(transaction=True)
def test_statement_of_a_migration_may_take_long_and_waits_two_seconds_for_a_lock() -> None:
    connection.ensure_connection()  # a session that begins now would take the bounds of migrations for its own
    before = connection.bounds
    connection.bounds = MIGRATION_BOUNDS
    try:
        with connection.schema_editor() as editor:
            editor.execute("SELECT 1")
            assert shown("statement_timeout", "lock_timeout") == ["0", "2s"]
        # Not left behind in a session that a pooler gives to the next client.
        assert shown("statement_timeout", "lock_timeout") == ["30s", "10s"]
    finally:
        connection.bounds = before
    assert before is SESSION_BOUNDS


def shown(*names: str) -> list[str]:
    with connection.cursor() as cursor:
        found = []
        for name in names:
            cursor.execute(f"SHOW {name}")
            found.append(cursor.fetchone()[0])
        return found


class Added(models.Model):
    """What a later version knows of runs."""

    class Meta:
        app_label = "jobs"
        db_table = "runs"
        managed = False


@pytest.mark.django_db(transaction=True)
def test_rows_of_code_that_does_not_know_a_new_column_can_still_be_written() -> None:
    field = models.IntegerField(default=7)
    field.set_attributes_from_name("later")
    field.model = Added
    with connection.schema_editor() as editor:
        editor.add_field(Added, field)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT column_default, is_nullable FROM information_schema.columns"
                " WHERE table_name = 'runs' AND column_name = 'later'"
            )
            assert cursor.fetchone() == ("7", "NO")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE runs DROP COLUMN later")


def later_operations() -> Iterator[tuple[str, migrations.operations.base.Operation]]:
    """What changes tables that exist, by the name of its migration."""
    for (app, name), migration in MigrationLoader(None).disk_migrations.items():
        if app in OWN and not migration.initial:
            for operation in migration.operations:
                yield f"{app}.{name}", operation


def test_every_column_that_was_added_later_has_a_default_in_the_database_or_may_be_null() -> None:
    for name, operation in later_operations():
        if isinstance(operation, migrations.AddField):
            field = operation.field
            assert field.null or field.db_default is not NOT_PROVIDED or field.many_to_many, f"{name}: {operation.name}"
        if isinstance(operation, migrations.AlterField):
            field = operation.field
            assert field.null or field.has_default() or field.db_default is not NOT_PROVIDED, (
                f"{name}: {operation.name}"
            )


def test_no_later_migration_takes_away_what_old_workers_use_unless_its_name_says_so() -> None:
    removing = (migrations.RemoveField, migrations.RenameField, migrations.DeleteModel, migrations.RenameModel)
    for name, operation in later_operations():
        assert not isinstance(operation, removing) or name.endswith("_breaking"), f"{name}: {operation}"


def test_models_and_apps_of_the_hot_tables_are_among_those_that_are_watched() -> None:
    assert {model._meta.app_label for model in apps.get_models() if model.__module__.startswith(OWN)} == set(OWN)
