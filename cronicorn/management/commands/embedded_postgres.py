"""`manage.py embedded_postgres start|stop|status`: the embedded server by hand; connections start it by themselves."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from cronicorn.postgres.embedded import EmbeddedServer, embedded_server
from cronicorn.postgres.errors import EmbeddedPostgresError


class Command(BaseCommand):
    """Exits 0 when the server is as asked, 3 when `status` finds it down, 1 on a fault."""

    help = "Start, stop or show the embedded PostgreSQL. It is not used when DATABASE_URL is set."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the action and the mode of a stop."""
        parser.add_argument("action", choices=("start", "stop", "status"))
        parser.add_argument(
            "--mode",
            choices=("fast", "smart", "immediate"),
            default="fast",
            help="stop: fast rolls back what is open, smart waits for clients, immediate is a crash",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do the action and say what is so now."""
        settings_dict = connections["default"].settings_dict
        server = embedded_server(settings_dict)
        if server is None:
            host = settings_dict["HOST"] or "this machine"
            self.stdout.write(f"DATABASE_URL is set: the database is on {host}, nothing is embedded here.")
            return
        try:
            if options["action"] == "start":
                server.ensure(settings_dict["NAME"])
                self.stdout.write(self._running(server))
            elif options["action"] == "stop":
                stopped = server.stop(options["mode"])
                self.stdout.write("The embedded PostgreSQL " + ("has stopped." if stopped else "was not running."))
            elif server.status().running:
                self.stdout.write(self._running(server))
            else:
                raise CommandError(
                    f"The embedded PostgreSQL in {server.status().cluster} is not running. "
                    "The next connection starts it.",
                    returncode=3,
                )
        except (EmbeddedPostgresError, OSError) as error:
            raise CommandError(str(error)) from error

    def _running(self, server: EmbeddedServer) -> str:
        status = server.status()
        socket = status.address.socket_path if status.address else "no socket"
        return (
            f"The embedded PostgreSQL is running (pid {status.pid}).\n"
            f"  data   {status.cluster}\n  socket {socket}\n  log    {status.log}"
        )
