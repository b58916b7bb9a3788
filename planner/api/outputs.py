"""What the planner's routes show. Tool calls are texts, passed on as the model wrote them."""

# ruff: noqa: N815  the names are those of the API

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from jobs.api.stored import StoredField
from jobs.selectors import current_time
from planner.models import AnalysisSession, Proposal


class ProposalOutput(serializers.Serializer[Proposal]):
    """A proposal: who asked for what, what was left of it inside the bounds, and what became of it."""

    id = serializers.UUIDField()
    endpointId = serializers.UUIDField(source="endpoint_id")
    sessionId = serializers.UUIDField(source="session_id")
    createdAt = serializers.DateTimeField(source="created_at")
    cause = serializers.CharField()
    causeKey = serializers.CharField(source="cause_key")
    tool = serializers.CharField()
    argumentsAsked = StoredField(source="arguments_asked")
    arguments = StoredField()
    mode = serializers.CharField()
    status = serializers.SerializerMethodField()
    statusReason = serializers.CharField(source="status_reason")
    reason = serializers.CharField()
    ttlMs = serializers.IntegerField(source="ttl_ms")
    offerExpiresAt = serializers.DateTimeField(source="offer_expires_at")
    decidedBy = serializers.UUIDField(source="decided_by")
    decidedAt = serializers.DateTimeField(source="decided_at")
    appliedAt = serializers.DateTimeField(source="applied_at")
    hintExpiresAt = serializers.DateTimeField(source="hint_expires_at")
    endedAt = serializers.DateTimeField(source="ended_at")
    endedBy = serializers.CharField(source="ended_by")
    nextRunBefore = serializers.DateTimeField(source="next_run_before")
    nextRunAfter = serializers.DateTimeField(source="next_run_after")
    replacedHint = StoredField(source="replaced_hint")

    def get_status(self, proposal: Proposal) -> str:
        """The status as of now; the clock is read once for an answer."""
        known: dict[str, Any] = self.context  # type: ignore[assignment]  # a dictionary of the whole answer
        if "now" not in known:
            known["now"] = current_time()
        return proposal.status_at(known["now"]).value


class ProposalPage(serializers.Serializer[Mapping[str, Any]]):
    """A page of proposals, newest first."""

    proposals = ProposalOutput(many=True)
    total = serializers.IntegerField()
    totalIsCapped = serializers.BooleanField()


class SessionOutput(serializers.Serializer[AnalysisSession]):
    """One analysis in a list. The cost is estimated, in US dollars."""

    id = serializers.UUIDField()
    endpointId = serializers.UUIDField(source="endpoint_id")
    analyzedAt = serializers.DateTimeField(source="analyzed_at")
    trigger = serializers.CharField()
    backend = serializers.CharField()
    model = serializers.CharField()
    promptVersion = serializers.CharField(source="prompt_version")
    status = serializers.CharField()
    errorKind = serializers.CharField(source="error_kind")
    reasoning = serializers.CharField()
    confidence = serializers.FloatField()
    promptTokens = serializers.IntegerField(source="prompt_tokens")
    completionTokens = serializers.IntegerField(source="completion_tokens")
    estimatedCostUsd = serializers.FloatField(source="estimated_cost_usd")
    durationMs = serializers.FloatField(source="duration_ms")
    warnings = serializers.ListField(child=serializers.CharField())
    nextAnalysisAt = serializers.DateTimeField(source="next_analysis_at")
    endpointFailureCount = serializers.IntegerField(source="endpoint_failure_count")


class ToolCallOutput(serializers.Serializer[Mapping[str, Any]]):
    """One tool call: what was asked, and the result or the error that answered it."""

    name = serializers.CharField()
    arguments = serializers.CharField()
    result = serializers.CharField(required=False)
    error = serializers.CharField(required=False)


class SessionDetailOutput(SessionOutput):
    """One analysis with what it did."""

    toolCalls = ToolCallOutput(many=True, source="tool_calls")
    proposals = ProposalOutput(many=True, source="proposals.all")


class SessionPage(serializers.Serializer[Mapping[str, Any]]):
    """A page of sessions, newest first."""

    sessions = SessionOutput(many=True)
    total = serializers.IntegerField()
    totalIsCapped = serializers.BooleanField()
