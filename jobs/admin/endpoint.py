"""The admin of endpoints: a list, the page that shows how a schedule adapts, a form with a preview, and the buttons."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobs import services
from jobs.admin.forms import EndpointForm, jobs_to_choose
from jobs.admin.picture import endpoint_context
from jobs.admin.previews import preview_slots, zone_names
from jobs.admin.reads import Recent, recent_runs
from jobs.admin.service import Button, ServiceModelAdmin
from jobs.admin.words import badge, ms_words, next_run_words, rate_words, schedule_words, standing, tone_of
from jobs.authoring import edit_endpoint, resume_endpoint, set_endpoint_status
from jobs.models import Author, Endpoint, EndpointStatus, Job, JobStatus, PlannerMode
from jobs.selectors import current_time
from jobs.standing import blocked_by

LIVE_SECTIONS = ("state", "why", "pictures", "runs")


def _run_now(endpoint: Endpoint, request: HttpRequest) -> None:
    user: Any = request.user
    services.run_now(endpoint_id=endpoint.pk, by=user.pk)


def _resume(endpoint: Endpoint, request: HttpRequest) -> None:
    resume_endpoint(endpoint_id=endpoint.pk)


def _set_status(endpoint: Endpoint, request: HttpRequest, *, status: EndpointStatus) -> None:
    set_endpoint_status(endpoint_id=endpoint.pk, status=status)


def _clear_hints(endpoint: Endpoint, request: HttpRequest) -> None:
    services.clear_hints(endpoint_id=endpoint.pk, author=Author.USER)


def _reset_failures(endpoint: Endpoint, request: HttpRequest) -> None:
    services.reset_failures(endpoint_id=endpoint.pk)


def _set_mode(endpoint: Endpoint, request: HttpRequest, *, mode: PlannerMode) -> None:
    edit_endpoint(endpoint_id=endpoint.pk, changes={"planner_mode": mode.value})


_BUTTONS = {
    button.name: button
    for button in (
        Button("run-now", "Run now", "bolt", _run_now, "asked to run now."),
        Button("pause", "Pause", "pause", partial(_set_status, status=EndpointStatus.PAUSED), "paused."),
        Button("resume", "Resume", "play_arrow", _resume, "resumed."),
        Button("clear-hints", "Clear hints", "ink_eraser", _clear_hints, "back on its own schedule."),
        Button("reset-failures", "Reset failures", "restart_alt", _reset_failures, "failures forgotten."),
        Button(
            "archive",
            "Archive",
            "archive",
            partial(_set_status, status=EndpointStatus.ARCHIVED),
            "archived.",
            confirm="Archive this endpoint? It stops for good; its runs stay.",
            confirm_many="Archive these endpoints? They stop for good; their runs stay.",
            quiet=True,
        ),
        *(
            Button(
                f"planner-{mode.value}", mode.label, "", partial(_set_mode, mode=mode), f"planner mode is {mode.value}."
            )
            for mode in PlannerMode
        ),
    )
}


_FIELDSETS = (
    (
        "Request",
        {
            "fields": (
                ("method", "url"),
                "headers",
                "body",
                ("timeout_ms", "max_response_bytes"),
                "success_criteria",
            )
        },
    ),
    (
        "Schedule",
        {
            "fields": (
                "baseline_kind",
                "baseline_interval_ms",
                "baseline_cron",
                "run_once_at",
                "timezone",
                ("starts_at", "ends_at"),
                "jitter_ms",
            )
        },
    ),
    (
        "Guardrails",
        {
            "fields": (
                ("min_interval_ms", "max_interval_ms"),
                "recovery_check_ms",
                ("retry_limit", "misfire_grace_ms"),
                "on_worker_loss",
            )
        },
    ),
    ("Planner", {"fields": ("planner_mode", "rules")}),
)


class JobFilter(admin.SimpleListFilter):
    """By job, among the person's own."""

    title = "job"
    parameter_name = "job"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """At most 100 jobs, the newest."""
        jobs = Job.objects.exclude(status=JobStatus.ARCHIVED)
        user: Any = request.user
        if not user.is_superuser:
            jobs = jobs.filter(owner=user.pk)
        return [(str(pk), name) for pk, name in jobs.values_list("pk", "name")[:100]]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """The endpoints of that job."""
        try:
            return queryset.filter(job=UUID(self.value())) if self.value() else queryset
        except ValueError:
            return queryset.none()


class EndpointAdmin(ServiceModelAdmin):
    """Endpoints of the person."""

    form = EndpointForm
    page_template = "admin/jobs/endpoint/page.html"
    change_form_template = "admin/jobs/endpoint/form.html"
    list_display = ("name", "request_line", "state", "schedule", "next_run", "history", "success", "lateness")
    list_filter = ("status", "planner_mode", JobFilter)
    search_fields = ("name", "url", "description")
    search_help_text = "Name, URL or description"
    ordering = ("-created_at", "-id")
    list_select_related = ("job",)
    bulk = ("run-now", "pause", "resume", "clear-hints", "archive")
    add_fieldsets = ((None, {"fields": ("job", "name", "description")}), *_FIELDSETS)
    fieldsets = ((None, {"fields": ("name", "description")}), *_FIELDSETS)

    def buttons(self) -> Mapping[str, Button]:
        """Everything that can be done with an endpoint."""
        return _BUTTONS

    def buttons_for(self, obj: Endpoint) -> list[Button]:
        """Those that change something as the endpoint stands."""
        if obj.status == EndpointStatus.ARCHIVED or obj.job.status == JobStatus.ARCHIVED:
            return []
        paused = obj.status == EndpointStatus.PAUSED or obj.paused_until is not None
        names = ["resume" if paused else "pause"]
        if blocked_by(obj) is None:
            names.insert(0, "run-now")
        if obj.ai_hint_interval_ms is not None or obj.ai_hint_next_run_at is not None:
            names.append("clear-hints")
        if obj.failure_count or obj.server_wait_until is not None:
            names.append("reset-failures")
        return [_BUTTONS[name] for name in (*names, "archive")]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Everybody may create endpoints in their jobs."""
        return self.owns(request, None)

    def has_change_permission(self, request: HttpRequest, obj: Any | None = None) -> bool:
        """Endpoints that are not archived, nor their jobs."""
        alive = obj is None or (obj.status != EndpointStatus.ARCHIVED and obj.job.status != JobStatus.ARCHIVED)
        return self.owns(request, obj) and alive

    def get_urls(self) -> list[URLPattern]:
        """Adds the preview of a schedule and the page's live parts."""
        return [
            path("preview/", self.admin_site.admin_view(self.preview_view), name="jobs_endpoint_preview"),
            path("<uuid:object_id>/live/", self.admin_site.admin_view(self.live_view), name="jobs_endpoint_live"),
            *super().get_urls(),
        ]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """The job from the address, where a job's page leads here, else the person's only one; never another's."""
        if "job" in request.GET:
            return {"job": request.GET["job"]}
        user: Any = request.user
        own = list(jobs_to_choose(user).filter(owner=user.pk).values_list("pk", flat=True)[:2])
        return {"job": own[0]} if len(own) == 1 else {}

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form; where there is no job that the endpoint could join, a page that offers to make one."""
        user: Any = request.user
        if self.has_add_permission(request) and not jobs_to_choose(user).exists():
            context = {**self.admin_site.each_context(request), "title": "Add endpoint", "opts": self.opts}
            return TemplateResponse(request, "admin/jobs/endpoint/no_job.html", context)
        response: HttpResponse = super().add_view(request, form_url, extra_context)
        return response

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The form, with the names of all zones to choose from."""
        return super().render_change_form(request, {**context, "zones": zone_names()}, *args, **kwargs)

    def preview_view(self, request: HttpRequest) -> JsonResponse:
        """The next slots of what is being typed, as JSON."""
        values = request.GET.dict()
        current = self.owned_object(request, values["endpoint"]) if values.get("endpoint") else None
        return JsonResponse(preview_slots(values, current_time(), current))

    def live_view(self, request: HttpRequest, object_id: Any) -> JsonResponse:
        """The parts of the page that change by themselves, as they look now."""
        context = self.page_context(request, self.owned_object(request, object_id))
        return JsonResponse(
            {name: render_to_string(f"admin/jobs/endpoint/{name}.html", context, request) for name in LIVE_SECTIONS}
        )

    def page_context(self, request: HttpRequest, obj: Endpoint) -> dict[str, Any]:
        """State, decision, pictures and last runs."""
        return {
            **endpoint_context(obj, current_time()),
            "buttons": self.buttons_for(obj),
            "modes": [_BUTTONS[f"planner-{mode.value}"] for mode in PlannerMode],
            "can_change": self.has_change_permission(request, obj),
        }

    def complete_rows(self, request: HttpRequest, rows: list[Any]) -> list[Any]:
        """Attaches the last runs of the page's endpoints."""
        now, recent = current_time(), recent_runs([row.pk for row in rows])
        for row in rows:
            row.read_at, row.recent = now, recent.get(row.pk, Recent())
        return rows

    @admin.display(description="Request")
    def request_line(self, endpoint: Endpoint) -> SafeString:
        """Method and host, and the job."""
        return format_html(
            '<span class="cc-code cc-number">{} {}</span><br><span class="cc-dim">{}</span>',
            endpoint.method,
            endpoint.host,
            endpoint.job.name,
        )

    @admin.display(description="Status")
    def state(self, endpoint: Any) -> SafeString:
        """Whether it runs: its own status, its job's, or a pause with an end."""
        return standing(endpoint, endpoint.read_at)

    @admin.display(description="Schedule")
    def schedule(self, endpoint: Any) -> SafeString:
        """The baseline, and the hint in force."""
        expires_at = endpoint.ai_hint_interval_expires_at
        if expires_at is None or expires_at <= endpoint.read_at:
            return format_html("{}", schedule_words(endpoint))
        return format_html(
            '{} <span class="cc-badge cc-hint">hint: {}</span>',
            schedule_words(endpoint),
            ms_words(endpoint.ai_hint_interval_ms),
        )

    @admin.display(description="Next run")
    def next_run(self, endpoint: Any) -> SafeString:
        """When a worker starts it, or what stops it."""
        return next_run_words(endpoint, endpoint.read_at)

    @admin.display(description="Last runs")
    def history(self, endpoint: Any) -> SafeString:
        """The last outcome in words, the last twenty as a strip."""
        recent: Recent = endpoint.recent
        if not recent.statuses:
            return SafeString('<span class="cc-dim">none yet</span>')
        return format_html(
            '{} <span class="cc-strip" role="img" aria-label="Last {} runs">{}</span>',
            badge(recent.last_status),
            len(recent.statuses),
            format_html_join("", '<i class="cc-{}" title="{}"></i>', ((tone_of(s), s) for s in recent.statuses)),
        )

    @admin.display(description="Success")
    def success(self, endpoint: Any) -> str:
        """Of the last twenty runs that ended."""
        return rate_words(endpoint.recent.good, endpoint.recent.ended)

    @admin.display(description="Lateness p95")
    def lateness(self, endpoint: Any) -> str:
        """Of the last twenty runs."""
        return ms_words(endpoint.recent.lateness_ms)
