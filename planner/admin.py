"""The console's pages of the planner: sessions, and proposals to approve, reject and undo."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.safestring import SafeString

from accounts.ownership import OwnedModelAdmin
from jobs.admin.service import Button, ServiceModelAdmin
from jobs.admin.words import badge, moment, ms_words
from jobs.selectors import current_time
from planner.models import AnalysisSession, Proposal, ProposalStatus, Tool
from planner.proposals import verdicts
from planner.selectors import has_status
from planner.templatetags.provenance import advice_words


class AnalysisSessionAdmin(OwnedModelAdmin):
    """Analyses, newest first."""

    page_template = "admin/planner/session.html"
    list_display = ("analyzed", "endpoint", "outcome", "trigger", "backend", "tokens", "cost", "duration")
    list_filter = ("status", "backend")
    search_fields = ("endpoint__name",)
    list_select_related = ("endpoint",)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Newest first, each by an index."""
        user: Any = request.user
        return ("-id",) if user.is_superuser else ("-analyzed_at", "-id")

    def complete_rows(self, request: HttpRequest, rows: list[Any]) -> list[Any]:
        """Gives the rows the time at which the page was read."""
        now = current_time()
        for row in rows:
            row.read_at = now
        return rows

    @admin.display(description="Analysed")
    def analyzed(self, session: Any) -> SafeString:
        """When."""
        return moment(session.analyzed_at, session.read_at)

    @admin.display(description="Status")
    def outcome(self, session: AnalysisSession) -> SafeString:
        """How it ended."""
        return badge(session.status)

    @admin.display(description="Tokens")
    def tokens(self, session: AnalysisSession) -> str:
        """Prompt and completion together."""
        return f"{session.prompt_tokens + session.completion_tokens:,} tokens"

    @admin.display(description="Cost")
    def cost(self, session: AnalysisSession) -> str:
        """As estimated from the model's price."""
        return f"${session.estimated_cost_usd:.4f}"

    @admin.display(description="Duration")
    def duration(self, session: AnalysisSession) -> str:
        """The whole analysis."""
        return ms_words(session.duration_ms)

    def page_context(self, request: HttpRequest, obj: AnalysisSession) -> dict[str, Any]:
        """The session with what it proposed."""
        return {
            "title": f"Analysis of {obj.endpoint.name}",
            "session": obj,
            "endpoint": obj.endpoint,
            "now": current_time(),
            "proposals": obj.proposals.select_related("endpoint").order_by("created_at")[:20],
            "tokens": obj.prompt_tokens + obj.completion_tokens,
        }


def _approve(proposal: Proposal, request: HttpRequest) -> None:
    user: Any = request.user
    verdicts.approve(proposal_id=proposal.pk, by=user.pk)


def _reject(proposal: Proposal, request: HttpRequest) -> None:
    user: Any = request.user
    verdicts.reject(proposal_id=proposal.pk, by=user.pk)


def _undo(proposal: Proposal, request: HttpRequest) -> None:
    user: Any = request.user
    verdicts.undo(proposal_id=proposal.pk, by=user.pk)


_BUTTONS = {
    button.name: button
    for button in (
        Button("approve", "Approve", "check", _approve, "approved and applied."),
        Button("reject", "Reject", "close", _reject, "rejected."),
        Button("undo", "Undo", "undo", _undo, "undone."),
    )
}


class StatusFilter(admin.SimpleListFilter):
    """By what became of a proposal by now, stored so or not."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every status."""
        return [(value, str(label)) for value, label in ProposalStatus.choices]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """The proposals of that status."""
        value = self.value()
        return queryset.filter(has_status(value, current_time())) if value else queryset


class ProposalAdmin(ServiceModelAdmin):
    """Advice asked for, newest first."""

    page_template = "admin/planner/proposal.html"
    list_display = ("made", "endpoint", "advice", "outcome", "cause", "reason")
    list_filter = (StatusFilter, "cause", "tool")
    search_fields = ("endpoint__name", "reason")
    list_select_related = ("endpoint",)
    bulk = ("approve", "reject", "undo")

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Newest first, each by an index."""
        user: Any = request.user
        return ("-id",) if user.is_superuser else ("-created_at", "-id")

    def buttons(self) -> Mapping[str, Button]:
        """Approve, reject, undo."""
        return _BUTTONS

    def buttons_for(self, obj: Proposal) -> list[Button]:
        """What its status as of now allows."""
        status = obj.status_at(current_time())
        if status == ProposalStatus.PENDING:
            return [_BUTTONS["approve"], _BUTTONS["reject"]]
        in_force = status in (ProposalStatus.APPLIED, ProposalStatus.APPROVED) and obj.ended_at is None
        return [_BUTTONS["undo"]] if in_force and obj.tool != Tool.CLEAR_HINTS else []

    def complete_rows(self, request: HttpRequest, rows: list[Any]) -> list[Any]:
        """Gives the rows the time at which the page was read."""
        now = current_time()
        for row in rows:
            row.read_at = now
        return rows

    @admin.display(description="Made")
    def made(self, proposal: Any) -> SafeString:
        """When."""
        return moment(proposal.created_at, proposal.read_at)

    @admin.display(description="Advice")
    def advice(self, proposal: Proposal) -> str:
        """What it asks for, in words."""
        return advice_words(proposal)

    @admin.display(description="Status")
    def outcome(self, proposal: Any) -> SafeString:
        """What became of it by now."""
        return badge(proposal.status_at(proposal.read_at))

    def page_context(self, request: HttpRequest, obj: Proposal) -> dict[str, Any]:
        """The proposal, with what may be done about it."""
        now = current_time()
        status = obj.status_at(now)
        return {
            "title": advice_words(obj),
            "proposal": obj,
            "endpoint": obj.endpoint,
            "advice": advice_words(obj),
            "now": now,
            "status": status,
            "offer_expired": status == ProposalStatus.EXPIRED and obj.applied_at is None,
            "buttons": self.buttons_for(obj),
        }
