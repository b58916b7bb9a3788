"""Routes of sessions: who looked at an endpoint, why, what it cost and what came of it."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from jobs.api.base import ApiView, cut, described, show
from jobs.selectors import find_endpoint
from planner import selectors
from planner.api.inputs import SessionQuery
from planner.api.outputs import SessionDetailOutput, SessionPage


class SessionsView(ApiView):
    """The sessions of an endpoint."""

    @described("listSessions", query=SessionQuery, gives=SessionPage)
    def get(self, request: Request, endpoint_id: UUID) -> Response:
        """List the analyses of an endpoint, newest first."""
        endpoint = find_endpoint(self.owner, endpoint_id)
        query = self.parameters
        wanted = selectors.list_sessions(endpoint, status=query.get("status"), backend=query.get("backend"))
        rows, totals = cut(wanted, query)
        return show(SessionPage, {"sessions": rows, **totals})


class SessionView(ApiView):
    """One session."""

    @described("showSession", gives=SessionDetailOutput)
    def get(self, request: Request, session_id: UUID) -> Response:
        """Show an analysis with its tool calls and proposals."""
        return show(SessionDetailOutput, selectors.find_session(self.owner, session_id))
