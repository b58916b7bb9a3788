"""The table `job_endpoints`: what is called, how its schedule is bounded, what advice is in force, what comes next."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.ids import UuidV7
from jobs.models.job import Job
from jobs.models.stamps import UpdatedField
from jobs.written import MalformedJsonError, read_json
from scheduling.exchange.criteria import CriteriaError, parse_success_criteria
from scheduling.plan.decision import Source
from scheduling.plan.uncalled import NO_PLAN

MIN_INTERVAL_MS = 1_000
MAX_INTERVAL_MS = 366 * 86_400_000


class EndpointStatus(models.TextChoices):
    """A person's word on whether the endpoint runs; `paused` has no end."""

    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"


class Method(models.TextChoices):
    """The request methods that an endpoint may use."""

    GET = "GET", "GET"
    HEAD = "HEAD", "HEAD"
    POST = "POST", "POST"
    PUT = "PUT", "PUT"
    PATCH = "PATCH", "PATCH"
    DELETE = "DELETE", "DELETE"
    OPTIONS = "OPTIONS", "OPTIONS"


class BaselineKind(models.TextChoices):
    """Which of the three baselines an endpoint has."""

    INTERVAL = "interval"
    CRON = "cron"
    ONCE = "once"


class WorkerLossPolicy(models.TextChoices):
    """What happens to a slot whose worker was lost in the middle of the call."""

    RETRY = "retry"
    SKIP = "skip"


class PlannerMode(models.TextChoices):
    """How far the planner may go with an endpoint."""

    OFF = "off"
    SHADOW = "shadow"
    APPROVE = "approve"
    AUTO = "auto"


CALENDAR = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC))
INSTANTS = (
    "anchor_at",
    "schedule_changed_at",
    "created_at",
    "run_once_at",
    "starts_at",
    "ends_at",
    "ai_hint_interval_expires_at",
    "ai_hint_next_run_at",
    "ai_hint_next_run_expires_at",
    "paused_until",
    "planner_hold_until",
    "next_analysis_at",
    "rules_through_run_at",
    "next_run_at",
    "next_slot_at",
    "last_slot_at",
    "last_started_at",
    "last_run_at",
    "failing_since",
    "server_wait_since",
    "server_wait_until",
    "retry_at",
    "retry_slot_at",
    "manual_run_at",
)


class Author(models.TextChoices):
    """Who set a pause or a hint."""

    USER = "user"
    PLANNER = "planner"
    SYSTEM = "system"


class Endpoint(models.Model):
    """One HTTP call on a schedule."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="endpoints")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False)
    name = models.CharField(max_length=255)
    description = models.CharField(max_length=2000, blank=True)
    key = models.CharField(max_length=255, null=True, editable=False)
    status = models.CharField(max_length=16, choices=EndpointStatus.choices, default=EndpointStatus.ACTIVE)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = UpdatedField()
    archived_at = models.DateTimeField(null=True, editable=False)
    # False from the moment when the owner is deactivated until `jobs.owners` plans the endpoint anew. Written by
    # triggers, so that it holds for every way to deactivate a user.
    owner_active = models.BooleanField(db_default=True, editable=False)

    # The request. `headers` is a list of {"name", "secret", "value"}, where the value of a secret one is null and
    # stands in `headers_sealed`, encrypted for this row as {name: value}.
    url = models.CharField(max_length=2048)
    host = models.CharField(max_length=255, editable=False)
    method = models.CharField(max_length=8, choices=Method.choices, default=Method.GET)
    headers = models.JSONField(default=list, blank=True)
    headers_sealed = models.TextField(null=True, editable=False)
    body = models.TextField(null=True, blank=True)
    timeout_ms = models.IntegerField(default=30_000)
    max_response_bytes = models.IntegerField(default=102_400)
    success_criteria = models.JSONField(null=True, blank=True)
    # What the owner wrote: jsonb keeps neither the order of keys nor the spelling of numbers. Null: the value says all.
    success_criteria_text = models.TextField(null=True, editable=False)

    # The baseline: exactly one of the first three.
    baseline_interval_ms = models.BigIntegerField(null=True, blank=True)
    baseline_cron = models.CharField(max_length=255, null=True, blank=True)
    run_once_at = models.DateTimeField(null=True, blank=True)
    timezone = models.CharField(max_length=64, default="UTC")
    starts_at = models.DateTimeField(null=True, blank=True)
    ends_at = models.DateTimeField(null=True, blank=True)
    jitter_ms = models.BigIntegerField(default=0)

    # Guardrails and policies.
    min_interval_ms = models.BigIntegerField(null=True, blank=True)
    max_interval_ms = models.BigIntegerField(null=True, blank=True)
    recovery_check_ms = models.BigIntegerField(null=True, blank=True)
    retry_limit = models.SmallIntegerField(default=0)
    misfire_grace_ms = models.BigIntegerField(null=True, blank=True)
    on_worker_loss = models.CharField(max_length=8, choices=WorkerLossPolicy.choices, default=WorkerLossPolicy.RETRY)

    # Hints. Each kind has its own time to live and its own provenance. `..._author` says in words who it was ("the rule
    # "busy""), where it was the planner; it counts only while the hint or pause itself stands.
    ai_hint_interval_ms = models.BigIntegerField(null=True, editable=False)
    ai_hint_interval_expires_at = models.DateTimeField(null=True, editable=False)
    ai_hint_interval_reason = models.CharField(max_length=1000, null=True, editable=False)
    ai_hint_interval_set_by = models.CharField(max_length=16, choices=Author.choices, null=True, editable=False)
    ai_hint_interval_author = models.CharField(max_length=600, null=True, editable=False)
    ai_hint_interval_proposal_id = models.UUIDField(null=True, editable=False)
    ai_hint_next_run_at = models.DateTimeField(null=True, editable=False)
    ai_hint_next_run_expires_at = models.DateTimeField(null=True, editable=False)
    ai_hint_next_run_reason = models.CharField(max_length=1000, null=True, editable=False)
    ai_hint_next_run_set_by = models.CharField(max_length=16, choices=Author.choices, null=True, editable=False)
    ai_hint_next_run_author = models.CharField(max_length=600, null=True, editable=False)
    ai_hint_next_run_proposal_id = models.UUIDField(null=True, editable=False)
    paused_until = models.DateTimeField(null=True, editable=False)
    pause_reason = models.CharField(max_length=1000, null=True, editable=False)
    paused_by = models.CharField(max_length=16, choices=Author.choices, null=True, editable=False)
    pause_author = models.CharField(max_length=600, null=True, editable=False)
    pause_proposal_id = models.UUIDField(null=True, editable=False)
    planner_hold_until = models.DateTimeField(null=True, editable=False)

    # The planner's own state.
    planner_mode = models.CharField(max_length=8, choices=PlannerMode.choices, default=PlannerMode.AUTO)
    rules = models.JSONField(default=list, blank=True)
    rules_text = models.TextField(null=True, editable=False)
    next_analysis_at = models.DateTimeField(null=True, editable=False)
    rules_through_run_at = models.DateTimeField(null=True, editable=False)
    rules_state = models.JSONField(null=True, editable=False)
    analysis_lease_owner = models.CharField(max_length=128, null=True, editable=False)
    analysis_lease_until = models.DateTimeField(null=True, editable=False)

    # The plan: written by `jobs.replan` and by the settling of a run, nowhere else.
    next_run_at = models.DateTimeField(null=True, editable=False)
    next_slot_at = models.DateTimeField(null=True, editable=False)
    next_attempt = models.SmallIntegerField(db_default=1, editable=False)
    next_source = models.CharField(max_length=24, null=True, editable=False)
    next_decision = models.JSONField(null=True, editable=False)

    # What has happened.
    anchor_at = models.DateTimeField(db_default=Now(), editable=False)
    last_slot_at = models.DateTimeField(null=True, editable=False)
    last_started_at = models.DateTimeField(null=True, editable=False)
    last_run_at = models.DateTimeField(null=True, editable=False)
    failure_count = models.IntegerField(db_default=0, editable=False)
    failing_since = models.DateTimeField(null=True, editable=False)
    server_wait_since = models.DateTimeField(null=True, editable=False)
    server_wait_until = models.DateTimeField(null=True, editable=False)
    server_wait_reason = models.CharField(max_length=200, null=True, editable=False)
    retry_at = models.DateTimeField(null=True, editable=False)
    retry_slot_at = models.DateTimeField(null=True, editable=False)
    retry_attempt = models.SmallIntegerField(null=True, editable=False)
    retries_used = models.SmallIntegerField(db_default=0, editable=False)
    manual_run_at = models.DateTimeField(null=True, editable=False)
    manual_run_by = models.UUIDField(null=True, editable=False)
    loss_count = models.SmallIntegerField(db_default=0, editable=False)
    config_version = models.IntegerField(db_default=1, editable=False)
    # When the schedule was last changed, by an edit or a reset of its grid; None: never since creation.
    schedule_changed_at = models.DateTimeField(null=True, editable=False)

    # The claim. `lane` is where a due row waits while its owner or host is at its share, as `scheduling.ledger` says.
    lane = models.CharField(max_length=300, db_default="", db_collation="C", editable=False)
    lease_owner = models.CharField(max_length=128, null=True, editable=False)
    lease_until = models.DateTimeField(null=True, editable=False)
    fence = models.BigIntegerField(db_default=0, editable=False)

    class Meta:
        db_table = "job_endpoints"
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(
                fields=["lane", "next_run_at"],
                condition=Q(lease_owner__isnull=True, next_run_at__isnull=False),
                name="endpoints_due",
            ),
            models.Index(fields=["lease_until"], condition=Q(lease_owner__isnull=False), name="endpoints_leased"),
            models.Index(fields=["owner", "-created_at"], name="endpoints_by_owner"),
            models.Index(fields=["last_run_at"], name="endpoints_by_last_run"),
            models.Index(fields=["owner"], condition=Q(owner_active=False), name="endpoints_of_inactive_owners"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=EndpointStatus.values), name="endpoint_status_is_known"),
            models.CheckConstraint(condition=Q(method__in=Method.values), name="endpoint_method_is_known"),
            models.CheckConstraint(condition=Q(planner_mode__in=PlannerMode.values), name="endpoint_mode_is_known"),
            models.CheckConstraint(
                condition=Q(on_worker_loss__in=WorkerLossPolicy.values), name="endpoint_worker_loss_is_known"
            ),
            models.CheckConstraint(condition=~Q(name=""), name="endpoint_has_a_name"),
            models.CheckConstraint(
                condition=Q(status=EndpointStatus.ARCHIVED, archived_at__isnull=False)
                | (~Q(status=EndpointStatus.ARCHIVED) & Q(archived_at__isnull=True)),
                name="endpoint_archived_at_iff_archived",
            ),
            models.CheckConstraint(
                condition=Q(next_source__isnull=True) | Q(next_source__in=[source.value for source in Source]),
                name="endpoint_source_is_known",
            ),
            models.CheckConstraint(
                condition=(Q(ai_hint_interval_set_by__isnull=True) | Q(ai_hint_interval_set_by__in=Author.values))
                & (Q(ai_hint_next_run_set_by__isnull=True) | Q(ai_hint_next_run_set_by__in=Author.values))
                & (Q(paused_by__isnull=True) | Q(paused_by__in=Author.values)),
                name="endpoint_authors_are_known",
            ),
            models.CheckConstraint(
                condition=Q(baseline_interval_ms__isnull=False, baseline_cron__isnull=True, run_once_at__isnull=True)
                | Q(baseline_interval_ms__isnull=True, baseline_cron__isnull=False, run_once_at__isnull=True)
                | Q(baseline_interval_ms__isnull=True, baseline_cron__isnull=True, run_once_at__isnull=False),
                name="endpoint_has_one_baseline",
            ),
            models.CheckConstraint(
                condition=Q(baseline_interval_ms__isnull=True)
                | Q(baseline_interval_ms__range=(MIN_INTERVAL_MS, MAX_INTERVAL_MS)),
                name="endpoint_interval_in_range",
            ),
            models.CheckConstraint(
                condition=Q(min_interval_ms__isnull=True)
                | Q(min_interval_ms__range=(MIN_INTERVAL_MS, MAX_INTERVAL_MS)),
                name="endpoint_min_interval_in_range",
            ),
            models.CheckConstraint(
                condition=Q(max_interval_ms__isnull=True)
                | Q(max_interval_ms__range=(MIN_INTERVAL_MS, MAX_INTERVAL_MS)),
                name="endpoint_max_interval_in_range",
            ),
            models.CheckConstraint(
                condition=Q(min_interval_ms__isnull=True)
                | Q(max_interval_ms__isnull=True)
                | Q(min_interval_ms__lte=F("max_interval_ms")),
                name="endpoint_bounds_are_ordered",
            ),
            models.CheckConstraint(
                condition=Q(recovery_check_ms__isnull=True)
                | Q(recovery_check_ms__range=(MIN_INTERVAL_MS, MAX_INTERVAL_MS)),
                name="endpoint_recovery_check_in_range",
            ),
            models.CheckConstraint(
                condition=Q(server_wait_since__isnull=True, server_wait_until__isnull=True)
                | Q(server_wait_since__isnull=False, server_wait_until__isnull=False),
                name="endpoint_server_wait_is_whole",
            ),
            models.CheckConstraint(condition=Q(timeout_ms__range=(1_000, 900_000)), name="endpoint_timeout_in_range"),
            models.CheckConstraint(
                condition=Q(max_response_bytes__range=(0, 1_048_576)), name="endpoint_response_cap_in_range"
            ),
            models.CheckConstraint(condition=Q(retry_limit__range=(0, 10)), name="endpoint_retry_limit_in_range"),
            models.CheckConstraint(condition=Q(jitter_ms__range=(0, 86_400_000)), name="endpoint_jitter_in_range"),
            models.CheckConstraint(
                condition=Q(misfire_grace_ms__isnull=True) | Q(misfire_grace_ms__range=(0, MAX_INTERVAL_MS)),
                name="endpoint_grace_in_range",
            ),
            models.CheckConstraint(
                condition=Q(starts_at__isnull=True) | Q(ends_at__isnull=True) | Q(starts_at__lt=F("ends_at")),
                name="endpoint_window_is_ordered",
            ),
            models.CheckConstraint(
                condition=Q(ai_hint_interval_ms__isnull=True, ai_hint_interval_expires_at__isnull=True)
                | Q(ai_hint_interval_ms__gte=MIN_INTERVAL_MS, ai_hint_interval_expires_at__isnull=False),
                name="endpoint_interval_hint_has_an_end",
            ),
            models.CheckConstraint(
                condition=Q(ai_hint_next_run_at__isnull=True, ai_hint_next_run_expires_at__isnull=True)
                | Q(ai_hint_next_run_at__isnull=False, ai_hint_next_run_expires_at__isnull=False),
                name="endpoint_oneshot_hint_has_an_end",
            ),
            models.CheckConstraint(
                condition=Q(paused_until__isnull=True, paused_by__isnull=True)
                | Q(paused_until__isnull=False, paused_by__isnull=False),
                name="endpoint_pause_has_an_author",
            ),
            models.CheckConstraint(
                condition=Q(next_run_at__isnull=True, next_slot_at__isnull=True, next_source__isnull=True)
                | Q(next_run_at__isnull=False, next_slot_at__isnull=False, next_source__isnull=False),
                name="endpoint_plan_is_whole",
            ),
            models.CheckConstraint(
                condition=Q(status=EndpointStatus.ACTIVE) | Q(next_run_at__isnull=True),
                name="endpoint_stopped_has_no_plan",
            ),
            models.CheckConstraint(
                condition=Q(retry_at__isnull=True, retry_slot_at__isnull=True, retry_attempt__isnull=True)
                | Q(retry_at__isnull=False, retry_slot_at__isnull=False, retry_attempt__isnull=False),
                name="endpoint_retry_is_whole",
            ),
            models.CheckConstraint(
                condition=Q(lease_owner__isnull=True, lease_until__isnull=True)
                | Q(lease_owner__isnull=False, lease_until__isnull=False),
                name="endpoint_lease_is_whole",
            ),
            models.CheckConstraint(
                condition=Q(
                    failure_count__range=(0, 10**9),
                    loss_count__range=(0, 10**4),
                    retries_used__range=(0, 10**4),
                    next_attempt__range=(1, 10**4),
                    config_version__range=(1, 10**9),
                    fence__range=(0, 2**62),
                )
                & (Q(retry_attempt__isnull=True) | Q(retry_attempt__range=(1, 10**4))),
                name="endpoint_counters_in_range",
            ),
            # No arithmetic on them leaves the calendar, so that no row can stop a worker; infinity is none of them.
            *(
                models.CheckConstraint(
                    condition=Q(**{f"{column}__isnull": True}) | Q(**{f"{column}__range": CALENDAR}),
                    name=f"endpoint_{column}_in_calendar",
                )
                for column in INSTANTS
            ),
            models.UniqueConstraint(
                fields=["job", "key"], condition=Q(key__isnull=False), name="endpoint_key_is_unique_in_its_job"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def as_written(self, name: str) -> object:
        """The value of `rules` or `success_criteria` with the text that the owner wrote, where there is one.

        The text counts as long as it means what the column says, which decides alone.
        """
        value, text = getattr(self, name), getattr(self, f"{name}_text")
        if text is None:
            return value
        try:
            known = read_json(text)
            meant = parse_success_criteria(known).to_json() if name == "success_criteria" else known
        except (MalformedJsonError, CriteriaError):
            return value
        return known if meant == value else value

    @property
    def uncalled(self) -> dict[str, Any] | None:
        """The count of slots that passed uncalled, as the plan in force keeps it."""
        decision = self.next_decision or {}
        nothing_due = decision and decision.get("run_at") is None
        return decision.get("uncalled") or (NO_PLAN if nothing_due else None)

    @property
    def baseline_kind(self) -> BaselineKind:
        """Which of the three baseline columns is set."""
        if self.baseline_interval_ms is not None:
            return BaselineKind.INTERVAL
        return BaselineKind.CRON if self.baseline_cron is not None else BaselineKind.ONCE
