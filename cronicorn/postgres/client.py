"""`manage.py dbshell` for the embedded server."""

from collections.abc import Iterable
from typing import Any

from django.db.backends.postgresql.client import DatabaseClient as PostgresClient

from cronicorn.postgres.binaries import find_binaries
from cronicorn.postgres.embedded import embedded_server


class DatabaseClient(PostgresClient):
    """psql: the embedded server's own for the embedded server, else the one of the machine."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        """Return the command line and environment of psql, once the embedded server is up."""
        server = embedded_server(settings_dict)
        if server is None:
            return super().settings_to_cmd_args_env(settings_dict, parameters)
        address = server.ensure(settings_dict["NAME"])
        given = {**settings_dict, "HOST": address.host, "PORT": str(address.port), "USER": address.user}
        arguments, environment = super().settings_to_cmd_args_env(given, parameters)
        return [str(find_binaries() / "psql"), *arguments[1:]], environment
