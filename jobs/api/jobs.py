"""Routes below /api/jobs that concern the job itself."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from jobs import authoring, selectors
from jobs.api.base import ApiView, cut, described, show
from jobs.api.inputs import JobChanges, JobInput, JobQuery
from jobs.api.outputs import CreatedJobOutput, JobOutput, JobPage
from jobs.models import JobStatus


class JobsView(ApiView):
    """The jobs of the caller."""

    @described("listJobs", query=JobQuery, gives=JobPage)
    def get(self, request: Request) -> Response:
        """List jobs, newest first; without a status all but archived ones."""
        query = self.parameters
        jobs, totals = cut(
            selectors.search_jobs(self.owner, status=query.get("status"), search=query.get("search")), query
        )
        return show(JobPage, {"jobs": selectors.with_counts(jobs), **totals})

    @described("createJob", takes=JobInput, gives=CreatedJobOutput, code=201)
    def post(self, request: Request) -> Response:
        """Create a job, with endpoints if wanted: all or nothing."""
        values = self.read_for_service(JobInput)
        endpoints = values.pop("endpoints", [])
        made = authoring.create_job(owner=self.owner, values=values, endpoints=endpoints)
        job = selectors.find_job(self.owner, made.pk)
        job.created_endpoints = list(job.endpoints.order_by("pk"))  # type: ignore[attr-defined]
        return show(CreatedJobOutput, job, 201)


class JobView(ApiView):
    """One job."""

    @described("showJob", gives=JobOutput)
    def get(self, request: Request, job_id: UUID) -> Response:
        """Show a job."""
        return show(JobOutput, selectors.find_job(self.owner, job_id))

    @described("editJob", takes=JobChanges, gives=JobOutput)
    def patch(self, request: Request, job_id: UUID) -> Response:
        """Change name or description."""
        selectors.find_job(self.owner, job_id)
        authoring.edit_job(job_id=job_id, changes=self.read_for_service(JobChanges, partial=True))
        return show(JobOutput, selectors.find_job(self.owner, job_id))

    @described("archiveJob", code=204)
    def delete(self, request: Request, job_id: UUID) -> Response:
        """Archive a job; its endpoints never run again, its runs stay."""
        selectors.find_job(self.owner, job_id)
        authoring.set_job_status(job_id=job_id, status=JobStatus.ARCHIVED)
        return Response(status=204)


class _JobStatusView(ApiView):
    status: JobStatus

    def _set(self, job_id: UUID) -> Response:
        selectors.find_job(self.owner, job_id)
        self.read_nothing()
        authoring.set_job_status(job_id=job_id, status=self.status)
        return show(JobOutput, selectors.find_job(self.owner, job_id))


class PauseJobView(_JobStatusView):
    """Pausing."""

    status = JobStatus.PAUSED

    @described("pauseJob", gives=JobOutput)
    def post(self, request: Request, job_id: UUID) -> Response:
        """Pause a job: none of its endpoints runs until it is resumed."""
        return self._set(job_id)


class ResumeJobView(_JobStatusView):
    """Resuming."""

    status = JobStatus.ACTIVE

    @described("resumeJob", gives=JobOutput)
    def post(self, request: Request, job_id: UUID) -> Response:
        """Resume a job."""
        return self._set(job_id)
