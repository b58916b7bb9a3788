"""The admin of runs: what happened, when, why then, and how long each part of the call took. Read-only."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.ownership import OwnedModelAdmin
from jobs.admin.words import NOTHING, badge, moment, ms_words
from jobs.models import Endpoint, Run, RunResponse
from jobs.selectors import current_time
from scheduling.exchange.compression import unread_words
from scheduling.plan.decision import Source

_SEARCH_ENDPOINTS = 200
_BODY_SHOWN = 100_000
_FLAG_WORDS = {
    "masked": "Echoes of your secret headers or signing keys are replaced by ********.",
    "unchanged": "Unchanged: the server answered 304 to a conditional request.",
    "unknown_charset": "The charset that the server names is not known; read as UTF-8.",
    "undecodable_replaced": "Bytes that are no text in this charset are replaced.",
}
_WAIT = "Waiting for the first byte"
_PHASES = (("DNS", "dns_ms"), ("Connect", "connect_ms"), ("TLS", "tls_ms"), (_WAIT, "first_byte_ms"))
_LABELS = [*(label for label, _ in _PHASES), "Body"]
_FAILED_UNSENT = ("dns_failed", "connect_failed", "tls_failed", "destination_not_allowed")
_NOISE = 0.02


class SourceFilter(admin.SimpleListFilter):
    """By what made the run due."""

    title = "source"
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every source."""
        return [(source.value, source.value) for source in Source]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """The runs of that source."""
        return queryset.filter(source=self.value()) if self.value() else queryset


class RunAdmin(OwnedModelAdmin):
    """Runs, newest first."""

    page_template = "admin/jobs/run/page.html"
    list_display = ("due", "endpoint_name", "outcome", "code", "lateness", "duration", "why", "attempt")
    list_filter = ("status", SourceFilter)
    search_fields = ("id",)
    search_help_text = "The name of an endpoint, or the id of a run or endpoint"
    list_select_related = ("endpoint",)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Newest first, each by an index: a person's by their due time, an operator's by the time-ordered id."""
        user: Any = request.user
        return ("-id",) if user.is_superuser else ("-due_at",)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """Without the decision, which only the page shows; with `endpoint=<id>` in the address, of that one."""
        return super().get_queryset(request).defer("decision", "late_result")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """`endpoint` may be asked for by address: the lists of an endpoint's page link here."""
        return lookup in ("endpoint", "endpoint__id__exact") or super().lookup_allowed(lookup, value, request)

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        """By id, or by the names of at most 200 endpoints: the names of a million runs are not searched one by one."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            wanted = UUID(term)
        except ValueError:
            endpoints = Endpoint.objects.filter(name__icontains=term[:255])
            user: Any = request.user
            if not user.is_superuser:
                endpoints = endpoints.filter(owner=user.pk)
            return queryset.filter(endpoint__in=list(endpoints.values_list("pk", flat=True)[:_SEARCH_ENDPOINTS])), False
        return queryset.filter(models.Q(pk=wanted) | models.Q(endpoint=wanted)), False

    def complete_rows(self, request: HttpRequest, rows: list[Any]) -> list[Any]:
        """Gives the rows the time at which the page was read."""
        now = current_time()
        for row in rows:
            row.read_at = now
        return rows

    @admin.display(description="Due")
    def due(self, run: Any) -> SafeString:
        """When it was to start."""
        return moment(run.due_at, run.read_at)

    @admin.display(description="Endpoint")
    def endpoint_name(self, run: Run) -> str:
        """What was called."""
        return f"{run.endpoint.method} {run.endpoint.name}"

    @admin.display(description="Outcome")
    def outcome(self, run: Run) -> SafeString:
        """How it ended, and the kind of error."""
        if not run.error_kind:
            return badge(run.status)
        return format_html('{} <span class="cc-dim">{}</span>', badge(run.status), run.error_kind.replace("_", " "))

    @admin.display(description="Status code")
    def code(self, run: Run) -> str:
        """What HTTP said."""
        return str(run.status_code or NOTHING)

    @admin.display(description="Lateness")
    def lateness(self, run: Run) -> str:
        """From the due time to the start."""
        return ms_words(run.lateness_ms)

    @admin.display(description="Duration")
    def duration(self, run: Run) -> str:
        """The whole call."""
        return ms_words(run.duration_ms)

    @admin.display(description="Source")
    def why(self, run: Run) -> SafeString:
        """What made it due."""
        return badge(run.source)

    def page_context(self, request: HttpRequest, obj: Run) -> dict[str, Any]:
        """The call's phases, the answer as plain text, and the neighbours of the same slot."""
        response = RunResponse.objects.filter(pk=obj.pk).first()
        attempts = Run.objects.filter(endpoint=obj.endpoint_id, scheduled_for=obj.scheduled_for).exclude(pk=obj.pk)
        return {
            "title": f"Run of {obj.endpoint.name}",
            "now": current_time(),
            "run": obj,
            "endpoint": obj.endpoint,
            "decision": obj.decision or {},
            "phases": phases_of(obj),
            "response": response,
            "body": response.body[:_BODY_SHOWN] if response else "",
            "notes": response_notes(response.flags) if response else [],
            "body_cut": bool(response and len(response.body) > _BODY_SHOWN),
            "attempts": attempts.defer("decision").order_by("attempt")[:12],
        }


def response_notes(flags: list[str]) -> list[str]:
    """What was done to a body before it was stored, in words."""
    notes = []
    for flag in flags:
        name = flag.partition(":")[2]
        if flag in _FLAG_WORDS:
            notes.append(_FLAG_WORDS[flag])
        elif flag.startswith("decoded:"):
            notes.append(f"It came compressed with {name} and was decompressed.")
        elif flag.startswith(("not_decoded:", "incomplete:")):
            notes.append(unread_words(flag))
    return notes


def phases_of(run: Run) -> list[dict[str, Any]]:
    """The parts of a call, one after the other, with begin and share in percent of the whole.

    What the named parts leave is the body once the first byte was there, else the wait for it, which a hung server
    never ends. A call that failed before it was sent has no such rest: what is left is the clock's own noise.
    """
    total = run.total_ms or run.duration_ms
    parts = [(label, getattr(run, column)) for label, column in _PHASES]
    known = [(label, length) for label, length in parts if length is not None]
    if not total or not known:
        return []
    rest = max(0.0, total - sum(length for _, length in known))
    if run.first_byte_ms is not None:
        known.append(("Body", rest))
    elif run.error_kind not in _FAILED_UNSENT and rest > total * _NOISE:
        known.append((_WAIT, rest))
    places, begin = [], 0.0
    for label, length in known:
        share = round(min(100.0 - begin, 100 * length / total), 2)
        places.append(
            {"label": label, "ms": length, "begin": round(begin, 2), "share": share, "number": _LABELS.index(label)}
        )
        begin += share
    return places
