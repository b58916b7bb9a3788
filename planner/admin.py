"""The console's pages of the planner: sessions, and proposals to approve, reject and undo."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from accounts.ownership import OwnedModelAdmin
from jobs.admin.reads import current_time
from jobs.admin.service import Button, ServiceModelAdmin
from jobs.admin.words import badge, moment, ms_words
from planner.models import AnalysisSession, Proposal, ProposalStatus, Tool
from planner.proposals import verdicts
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


class ProposalAdmin(ServiceModelAdmin):
    """Advice asked for, newest first."""

    page_template = "admin/planner/proposal.html"
    list_display = ("made", "endpoint", "advice", "outcome", "cause", "reason")
    list_filter = ("status", "cause", "tool")
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
        """What its status allows."""
        if obj.status == ProposalStatus.PENDING:
            return [_BUTTONS["approve"], _BUTTONS["reject"]]
        in_force = obj.status in (ProposalStatus.APPLIED, ProposalStatus.APPROVED) and obj.ended_at is None
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
    def outcome(self, proposal: Proposal) -> SafeString:
        """What became of it."""
        return badge(proposal.status)

    def page_context(self, request: HttpRequest, obj: Proposal) -> dict[str, Any]:
        """The proposal, with what may be done about it."""
        return {
            "title": advice_words(obj),
            "proposal": obj,
            "endpoint": obj.endpoint,
            "advice": advice_words(obj),
            "now": current_time(),
            "buttons": self.buttons_for(obj),
        }
