"""Routes of endpoints: their own fields below /api/jobs, what is done with them below /api/endpoints."""

from uuid import UUID

from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response

from jobs import authoring, selectors
from jobs.api.base import ApiView, cut, described, show
from jobs.api.inputs import EndpointChanges, EndpointInput, EndpointQuery, HealthQuery
from jobs.api.outputs import EndpointOutput, EndpointPage, HealthOutput
from jobs.errors import Unreadable
from jobs.models import EndpointStatus


class EndpointsView(ApiView):
    """The endpoints of a job."""

    @described("listEndpoints", query=EndpointQuery, gives=EndpointPage)
    def get(self, request: Request, job_id: UUID) -> Response:
        """List endpoints, newest first; without a status all but archived ones."""
        query = self.parameters
        rows = selectors.list_endpoints(self.owner, job_id, status=query.get("status"))
        endpoints, totals = cut(rows, query)
        return show(EndpointPage, {"endpoints": endpoints, **totals})

    @described("createEndpoint", takes=EndpointInput, gives=EndpointOutput, code=201)
    def post(self, request: Request, job_id: UUID) -> Response:
        """Create an endpoint; it is planned at once."""
        selectors.find_job(self.owner, job_id)
        endpoint = authoring.create_endpoint(job_id=job_id, values=self.read_for_service(EndpointInput))
        return show(EndpointOutput, endpoint, 201)


class EndpointView(ApiView):
    """One endpoint of a job."""

    @described("showEndpoint", gives=EndpointOutput)
    def get(self, request: Request, job_id: UUID, endpoint_id: UUID) -> Response:
        """Show an endpoint."""
        return show(EndpointOutput, selectors.find_endpoint(self.owner, endpoint_id, job_id=job_id))

    @described("editEndpoint", takes=EndpointChanges, gives=EndpointOutput)
    def patch(self, request: Request, job_id: UUID, endpoint_id: UUID) -> Response:
        """Change what is given and plan anew; null clears, and a new baseline replaces the old one."""
        endpoint = selectors.find_endpoint(self.owner, endpoint_id, job_id=job_id)
        changes = self.read_for_service(EndpointChanges, partial=True)
        status = None if isinstance(changes.get("status"), Unreadable) else changes.pop("status", None)
        with transaction.atomic():
            if status is not None:
                endpoint = authoring.set_endpoint_status(endpoint_id=endpoint_id, status=EndpointStatus(status))
            if changes:
                endpoint = authoring.edit_endpoint(endpoint_id=endpoint_id, changes=changes)
        return show(EndpointOutput, endpoint)

    @described("deleteEndpoint", code=204)
    def delete(self, request: Request, job_id: UUID, endpoint_id: UUID) -> Response:
        """Archive an endpoint: it never runs again, its runs stay."""
        selectors.find_endpoint(self.owner, endpoint_id, job_id=job_id)
        authoring.set_endpoint_status(endpoint_id=endpoint_id, status=EndpointStatus.ARCHIVED)
        return Response(status=204)


class ArchiveEndpointView(ApiView):
    """Archiving."""

    @described("archiveEndpoint", gives=EndpointOutput)
    def post(self, request: Request, job_id: UUID, endpoint_id: UUID) -> Response:
        """Archive an endpoint and show it."""
        selectors.find_endpoint(self.owner, endpoint_id, job_id=job_id)
        self.read_nothing()
        return show(
            EndpointOutput, authoring.set_endpoint_status(endpoint_id=endpoint_id, status=EndpointStatus.ARCHIVED)
        )


class EndpointHealthView(ApiView):
    """How an endpoint has fared."""

    @described("showEndpointHealth", query=HealthQuery, gives=HealthOutput)
    def get(self, request: Request, endpoint_id: UUID) -> Response:
        """Show counts, rates and percentiles over the last hours."""
        endpoint = selectors.find_endpoint(self.owner, endpoint_id)
        return show(HealthOutput, selectors.endpoint_health(endpoint, since_hours=self.parameters["sinceHours"]))
