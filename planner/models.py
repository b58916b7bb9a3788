"""Advice asked for: analysis sessions and the append-only history of proposals."""

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.ids import UuidV7
from jobs.models import Endpoint, PlannerMode


class SessionStatus(models.TextChoices):
    """How an analysis ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    BUDGET_EXCEEDED = "budget_exceeded"


class Backend(models.TextChoices):
    """Who analysed."""

    RULES = "rules"
    OPENAI = "openai"


class AnalysisSession(models.Model):
    """One analysis of one endpoint; failed ones too, so that tokens spent are never forgotten."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="sessions")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    trigger = models.CharField(max_length=64)
    analyzed_at = models.DateTimeField(db_default=Now())
    backend = models.CharField(max_length=16, choices=Backend.choices)
    model = models.CharField(max_length=255, null=True)
    prompt_version = models.CharField(max_length=32, null=True)
    status = models.CharField(max_length=24, choices=SessionStatus.choices)
    error_kind = models.CharField(max_length=64, null=True)
    reasoning = models.TextField(blank=True)
    confidence = models.FloatField(null=True)
    tool_calls = models.JSONField(default=list)
    prompt_tokens = models.IntegerField(default=0)
    completion_tokens = models.IntegerField(default=0)
    estimated_cost_usd = models.DecimalField(max_digits=12, decimal_places=6, default=0)
    duration_ms = models.FloatField(null=True)
    warnings = models.JSONField(default=list)
    next_analysis_at = models.DateTimeField(null=True)
    endpoint_failure_count = models.IntegerField(default=0)
    body_shape = models.CharField(max_length=32, null=True)
    body_numbers = models.JSONField(null=True)

    class Meta:
        db_table = "sessions"
        ordering = ["-analyzed_at", "-id"]
        verbose_name = "planner session"
        constraints = [
            models.CheckConstraint(condition=Q(status__in=SessionStatus.values), name="session_status_is_known"),
            models.CheckConstraint(
                condition=Q(prompt_tokens__gte=0, completion_tokens__gte=0), name="session_tokens_not_negative"
            ),
        ]
        indexes = [
            models.Index(fields=["endpoint", "-analyzed_at"], name="sessions_by_endpoint"),
            models.Index(
                fields=["endpoint", "-analyzed_at"], condition=Q(backend=Backend.OPENAI), name="sessions_of_the_model"
            ),
            models.Index(fields=["owner", "-analyzed_at"], name="sessions_by_owner"),
            models.Index(fields=["analyzed_at"], name="sessions_by_time"),
            models.Index(
                fields=["analyzed_at"], condition=Q(backend=Backend.OPENAI), name="sessions_of_the_model_by_time"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.trigger.replace('_', ' ').capitalize()}, {self.analyzed_at:%Y-%m-%d %H:%M:%S} UTC"


class Tool(models.TextChoices):
    """What a proposal asks for."""

    PROPOSE_INTERVAL = "propose_interval"
    PROPOSE_NEXT_TIME = "propose_next_time"
    PAUSE_UNTIL = "pause_until"
    CLEAR_HINTS = "clear_hints"


class Cause(models.TextChoices):
    """Who asked. Precedence where several speak: person, rule, model, heuristic."""

    PERSON = "person"
    RULE = "rule"
    MODEL = "model"
    HEURISTIC = "heuristic"


class ProposalStatus(models.TextChoices):
    """What became of a proposal."""

    APPLIED = "applied"
    SHADOW = "shadow"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    REFUSED = "refused"
    HELD = "held"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CLEARED = "cleared"
    UNDONE = "undone"


class Proposal(models.Model):
    """One piece of advice: what was asked, what was left of it after clamping, and what became of it."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    session = models.ForeignKey(AnalysisSession, on_delete=models.SET_NULL, null=True, related_name="proposals")
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="proposals")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(db_default=Now())
    cause = models.CharField(max_length=16, choices=Cause.choices)
    cause_key = models.CharField(max_length=255, null=True)
    tool = models.CharField(max_length=32, choices=Tool.choices)
    arguments_asked = models.JSONField(default=dict)
    arguments = models.JSONField(default=dict)
    mode = models.CharField(max_length=8, choices=PlannerMode.choices)
    status = models.CharField(max_length=16, choices=ProposalStatus.choices)
    status_reason = models.CharField(max_length=500, null=True)
    ttl_ms = models.BigIntegerField(null=True)
    reason = models.CharField(max_length=1000, blank=True)
    offer_expires_at = models.DateTimeField(null=True)
    decided_by = models.UUIDField(null=True)
    decided_at = models.DateTimeField(null=True)
    applied_at = models.DateTimeField(null=True)
    hint_expires_at = models.DateTimeField(null=True)
    renewals = models.IntegerField(default=0, db_default=0)
    own_only = models.BooleanField(default=False, db_default=False)
    ended_at = models.DateTimeField(null=True)
    ended_by = models.CharField(max_length=32, null=True)
    next_run_before = models.DateTimeField(null=True)
    next_run_after = models.DateTimeField(null=True)
    replaced_hint = models.JSONField(null=True)
    scorecard = models.JSONField(null=True)

    class Meta:
        db_table = "proposals"
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=ProposalStatus.values), name="proposal_status_is_known"),
            models.CheckConstraint(condition=Q(tool__in=Tool.values), name="proposal_tool_is_known"),
            models.CheckConstraint(
                condition=Q(cause__in=Cause.values) & Q(mode__in=PlannerMode.values),
                name="proposal_cause_and_mode_are_known",
            ),
            models.UniqueConstraint(
                fields=["endpoint", "tool"],
                condition=Q(status=ProposalStatus.PENDING),
                name="proposal_one_pending_per_endpoint_and_tool",
            ),
        ]
        indexes = [
            models.Index(fields=["endpoint", "-created_at"], name="proposals_by_endpoint"),
            models.Index(fields=["owner", "-created_at"], name="proposals_by_owner"),
            models.Index(
                fields=["hint_expires_at"],
                condition=Q(status=ProposalStatus.APPLIED, ended_at__isnull=True),
                name="proposals_in_force",
            ),
            models.Index(
                fields=["offer_expires_at"], condition=Q(status=ProposalStatus.PENDING), name="proposals_on_offer"
            ),
            models.Index(
                fields=["created_at"],
                condition=Q(scorecard__isnull=True, ttl_ms__isnull=False)
                & (Q(status=ProposalStatus.SHADOW) | Q(applied_at__isnull=False, ended_at__isnull=False)),
                name="proposals_unscored",
            ),
        ]

    def __str__(self) -> str:
        # Without the status: the stored one may have been overtaken, see `status_at`.
        return self.tool.replace("_", " ").capitalize()

    def status_at(self, now: datetime) -> ProposalStatus:
        """The status as of `now`: an offer that nobody took, or a hint that ran out, has expired, stored so or not.

        The planner's worker stores it when it passes by; it may be stopped.
        """
        ends_at = {
            ProposalStatus.PENDING: self.offer_expires_at,
            ProposalStatus.APPLIED: self.hint_expires_at if self.ended_at is None else None,
        }.get(ProposalStatus(self.status))
        return ProposalStatus.EXPIRED if ends_at is not None and ends_at <= now else ProposalStatus(self.status)
