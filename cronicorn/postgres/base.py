"""Django's PostgreSQL backend, which starts the embedded server when the settings name a folder for it.

Keys of the database settings, beside Django's own: EMBEDDED_DATA_DIR (absolute path; absent: exactly Django's backend)
and EMBEDDED_DURABLE (default true; false only for tests).
"""

from typing import Any

from django.db.backends.postgresql.base import DatabaseWrapper as PostgresWrapper

from cronicorn.postgres.client import DatabaseClient
from cronicorn.postgres.embedded import embedded_server


class DatabaseWrapper(PostgresWrapper):
    """A connection to PostgreSQL; with EMBEDDED_DATA_DIR, each new one first ensures that the server is up."""

    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        """Return the arguments of psycopg.connect. Raises EmbeddedPostgresError when the server cannot be started."""
        params: dict[str, Any] = super().get_connection_params()
        server = embedded_server(self.settings_dict)
        if server is not None:
            address = server.ensure(self.settings_dict["NAME"])
            params |= {"host": address.host, "port": address.port, "user": address.user}
        return params
