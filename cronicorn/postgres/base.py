"""Django's PostgreSQL backend, which starts the embedded server when the settings name a folder for it.

Keys of the database settings, beside Django's own: EMBEDDED_DATA_DIR (absolute path; absent: a given server) and
EMBEDDED_DURABLE (default true; false only for tests).
"""

from collections.abc import Mapping
from typing import Any, Self, cast

from django.db.backends.postgresql.base import DatabaseWrapper as PostgresWrapper
from django.db.backends.postgresql.schema import DatabaseSchemaEditor as PostgresSchemaEditor
from django.db.models import Field

from cronicorn.postgres.client import DatabaseClient
from cronicorn.postgres.embedded import embedded_server
from cronicorn.postgres.session import MIGRATION_BOUNDS, SESSION_BOUNDS, Session, begin_session, say_missing


class SchemaEditor(PostgresSchemaEditor):
    """Changes the schema under the limits of a migration, and so that the release before goes on writing."""

    def __enter__(self) -> Self:
        """Begins the transaction. Its limits are its own, so that a pooler's session keeps none of them."""
        editor: Self = super().__enter__()
        connection = cast("DatabaseWrapper", self.connection)
        if self.atomic_migration and not self.collect_sql and connection.bounds is MIGRATION_BOUNDS:
            for name, value in MIGRATION_BOUNDS.items():
                self.execute(f"SET LOCAL {name} = '{value}'")
        return editor

    def skip_default_on_alter(self, field: "Field[Any, Any]") -> bool:
        """Keep the default of a new column in the database: rows of code that does not know the column need it."""
        return True


class DatabaseWrapper(PostgresWrapper):
    """A connection to PostgreSQL whose session has time limits, `bounds`; `session` tells whether they hold.

    With EMBEDDED_DATA_DIR, each new connection first ensures that the server is up.
    """

    client_class = DatabaseClient
    SchemaEditorClass = SchemaEditor
    bounds: Mapping[str, str] = SESSION_BOUNDS
    session = Session()

    def get_connection_params(self) -> dict[str, Any]:
        """Return the arguments of psycopg.connect. Raises EmbeddedPostgresError when the server cannot be started."""
        params: dict[str, Any] = super().get_connection_params()
        server = embedded_server(self.settings_dict)
        if server is not None:
            address = server.ensure(self.settings_dict["NAME"])
            params |= {"host": address.host, "port": address.port, "user": address.user}
        return params

    def init_connection_state(self) -> None:
        """Set the limits of a new session. A session that did not get them is not used."""
        try:
            super().init_connection_state()
            self.session = begin_session(self.connection, self.bounds)
        except BaseException:
            self.connection.close()
            self.connection = None
            raise
        if self.bounds is SESSION_BOUNDS:
            info = self.connection.info
            say_missing(self.session, user=info.user, database=info.dbname)
