"""The admin of jobs: a list, a page with the job's endpoints, a form; pausing, resuming and archiving."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobs.admin.forms import JobForm
from jobs.admin.reads import Recent, recent_runs
from jobs.admin.service import Button, ServiceModelAdmin
from jobs.admin.words import badge, moment
from jobs.authoring import set_job_status
from jobs.models import Endpoint, EndpointStatus, Job, JobStatus
from jobs.selectors import current_time

_SHOWN_ENDPOINTS = 200


def _set_status(job: Job, request: HttpRequest, *, status: JobStatus) -> None:
    set_job_status(job_id=job.pk, status=status)


_BUTTONS = {
    button.name: button
    for button in (
        Button("pause", "Pause", "pause", partial(_set_status, status=JobStatus.PAUSED), "paused."),
        Button("resume", "Resume", "play_arrow", partial(_set_status, status=JobStatus.ACTIVE), "resumed."),
        Button(
            "archive",
            "Archive",
            "archive",
            partial(_set_status, status=JobStatus.ARCHIVED),
            "archived.",
            confirm="Archive this job? All its endpoints stop for good.",
            confirm_many="Archive these jobs? All their endpoints stop for good.",
            quiet=True,
        ),
    )
}


class JobAdmin(ServiceModelAdmin):
    """Jobs of the person."""

    form = JobForm
    page_template = "admin/jobs/job/page.html"
    list_display = ("name", "state", "endpoint_count", "next_run")
    list_filter = ("status",)
    search_fields = ("name", "description")
    ordering = ("-created_at", "-id")
    bulk = ("pause", "resume", "archive")
    fieldsets = ((None, {"fields": ("name", "description")}),)

    def buttons(self) -> Mapping[str, Button]:
        """Pause, resume, archive."""
        return _BUTTONS

    def buttons_for(self, obj: Job) -> list[Button]:
        """Those that change something."""
        if obj.status == JobStatus.ARCHIVED:
            return []
        return [_BUTTONS["pause" if obj.status == JobStatus.ACTIVE else "resume"], _BUTTONS["archive"]]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Everybody may create jobs."""
        return self.owns(request, None)

    def has_change_permission(self, request: HttpRequest, obj: Any | None = None) -> bool:
        """Jobs that are not archived."""
        return self.owns(request, obj) and (obj is None or obj.status != JobStatus.ARCHIVED)

    def complete_rows(self, request: HttpRequest, rows: list[Any]) -> list[Any]:
        """Counts the endpoints of the page's jobs, and finds the next run of each job."""
        now = current_time()
        alive = ~models.Q(status=EndpointStatus.ARCHIVED)
        counts = {
            entry["job"]: entry
            for entry in Endpoint.objects.filter(alive, job__in=rows)
            .order_by()
            .values("job")
            .annotate(endpoints=models.Count("pk"), next_run_at=models.Min("next_run_at"))
        }
        for row in rows:
            row.read_at, row.counted = now, counts.get(row.pk, {"endpoints": 0, "next_run_at": None})
        return rows

    @admin.display(description="Status")
    def state(self, job: Job) -> SafeString:
        """Active, paused or archived; a self-test says so."""
        return badge(job.status) if not job.is_synthetic else SafeString(badge(job.status) + " " + badge("self-test"))

    @admin.display(description="Endpoints")
    def endpoint_count(self, job: Any) -> str:
        """How many endpoints are not archived."""
        count = job.counted["endpoints"]
        return f"{count} endpoint{'' if count == 1 else 's'}"

    @admin.display(description="Next run")
    def next_run(self, job: Any) -> SafeString:
        """The earliest of its endpoints; of a job that is stopped, why there is none."""
        if job.status != JobStatus.ACTIVE:
            return format_html('<span class="cc-dim">{}</span>', job.status)
        return moment(job.counted["next_run_at"], job.read_at)

    def page_context(self, request: HttpRequest, obj: Job) -> dict[str, Any]:
        """The endpoints with their last runs."""
        alive = obj.endpoints.select_related("job").exclude(status=EndpointStatus.ARCHIVED).order_by("name", "pk")
        endpoints = list(alive[: _SHOWN_ENDPOINTS + 1])
        recent = recent_runs([endpoint.pk for endpoint in endpoints])
        return {
            "now": current_time(),
            "job": obj,
            "buttons": self.buttons_for(obj),
            "rows": [{"endpoint": row, "recent": recent.get(row.pk, Recent())} for row in endpoints[:_SHOWN_ENDPOINTS]],
            "more": len(endpoints) > _SHOWN_ENDPOINTS,
            "can_add": obj.status != JobStatus.ARCHIVED,
        }
