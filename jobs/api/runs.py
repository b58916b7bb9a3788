"""Routes of runs and schedules: what happened, what comes next, and why."""

from uuid import UUID

from django.db import connection
from rest_framework.request import Request
from rest_framework.response import Response

from cronicorn.runtime.clock import database_now
from jobs import selectors
from jobs.api.base import ApiView, cut, described, show
from jobs.api.inputs import RunQuery, ScheduleInput
from jobs.api.outputs import PreviewOutput, RunDetailOutput, RunPage, ScheduleOutput
from jobs.slots import schedule_warnings
from jobs.standing import blocked_by, effective_status
from jobs.validation import clean_schedule
from scheduling.plan.decision import as_of


class RunsView(ApiView):
    """The runs of an endpoint."""

    @described("listRuns", query=RunQuery, gives=RunPage)
    def get(self, request: Request, endpoint_id: UUID) -> Response:
        """List runs, the latest due first."""
        endpoint = selectors.find_endpoint(self.owner, endpoint_id)
        query = self.parameters
        runs, totals = cut(selectors.list_runs(endpoint, status=query.get("status"), source=query.get("source")), query)
        return show(RunPage, {"runs": runs, **totals})


class RunView(ApiView):
    """One run."""

    @described("showRun", gives=RunDetailOutput)
    def get(self, request: Request, run_id: UUID) -> Response:
        """Show a run with its decision, timings and the beginning of the response."""
        return show(RunDetailOutput, selectors.find_run(self.owner, run_id))


class ScheduleView(ApiView):
    """The schedule of an endpoint."""

    @described("showSchedule", gives=ScheduleOutput)
    def get(self, request: Request, endpoint_id: UUID) -> Response:
        """Show the current decision with its candidates, and the next 10 slots of the baseline."""
        endpoint = selectors.find_endpoint(self.owner, endpoint_id)
        with connection.cursor() as cursor:
            now = database_now(cursor)
        return show(
            ScheduleOutput,
            {
                "next_run_at": endpoint.next_run_at,
                "effective_status": effective_status(endpoint).value,
                "blocked_by": blocked_by(endpoint),
                "decision": endpoint.next_decision
                and as_of(endpoint.next_decision, now, claimed=endpoint.lease_owner is not None),
                "timezone": endpoint.timezone,
                "slots": selectors.endpoint_slots(endpoint),
                "warnings": schedule_warnings(endpoint.baseline_cron),
            },
        )


class PreviewView(ApiView):
    """A schedule that is not saved."""

    reads_only = True

    @described("previewSchedule", takes=ScheduleInput, gives=PreviewOutput)
    def post(self, request: Request) -> Response:
        """Show the first 10 slots of a cron expression or interval."""
        with connection.cursor() as cursor:
            now = database_now(cursor)
        schedule = clean_schedule(self.read_for_service(ScheduleInput), now=now)
        slots = selectors.schedule_slots(schedule, now=now)
        warnings = schedule_warnings(schedule["baseline_cron"])
        return show(PreviewOutput, {"timezone": schedule["timezone"], "slots": slots, "warnings": warnings})
