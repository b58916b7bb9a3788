"""What the API takes: names and types. What the values may be is checked by the services."""

# ruff: noqa: N815  the names are those of the API

from functools import partial
from typing import Any

from rest_framework import serializers

from accounts.models import Scope
from jobs.api.fields import (
    BooleanField,
    CleanTextField,
    InstantField,
    JsonField,
    ShortListField,
    ShortListSerializer,
    StrictSerializer,
    TextField,
    WholeNumberField,
    shown_only,
)
from jobs.api.outputs import ApiKeyOutput, EndpointOutput, JobOutput
from jobs.authoring import MAX_ENDPOINTS_AT_ONCE
from jobs.models import EndpointStatus, JobStatus, RunStatus
from jobs.models.endpoint import MAX_INTERVAL_MS, MIN_INTERVAL_MS
from jobs.services import MAX_HINT_TTL_MS, REASON_LIMIT
from jobs.texts import clean_name, clean_paragraph
from scheduling.plan.decision import Source

MAX_PAGE = 200
MAX_OFFSET = 1_000_000
_OPTIONAL: dict[str, Any] = {"required": False, "allow_null": True}
_reason = partial(clean_paragraph, limit=REASON_LIMIT)


class ScheduleInput(StrictSerializer):
    """A baseline: exactly one of the first three, with its zone and window."""

    baselineIntervalMs = WholeNumberField(source="baseline_interval_ms", **_OPTIONAL)
    baselineCron = TextField(source="baseline_cron", **_OPTIONAL)
    runOnceAt = InstantField(source="run_once_at", **_OPTIONAL)
    timezone = TextField(**_OPTIONAL)
    startsAt = InstantField(source="starts_at", **_OPTIONAL)
    endsAt = InstantField(source="ends_at", **_OPTIONAL)


class EndpointInputs(ShortListSerializer):
    """The endpoints of a new job."""

    most = MAX_ENDPOINTS_AT_ONCE


class EndpointInput(ScheduleInput):
    """A new endpoint. Null means the default."""

    name = TextField()
    url = TextField()
    description = TextField(**_OPTIONAL)
    method = TextField(**_OPTIONAL)
    headers = JsonField(**_OPTIONAL)
    body = JsonField(**_OPTIONAL)
    timeoutMs = WholeNumberField(source="timeout_ms", **_OPTIONAL)
    maxResponseBytes = WholeNumberField(source="max_response_bytes", **_OPTIONAL)
    successCriteria = JsonField(source="success_criteria", **_OPTIONAL)
    jitterMs = WholeNumberField(source="jitter_ms", **_OPTIONAL)
    minIntervalMs = WholeNumberField(source="min_interval_ms", **_OPTIONAL)
    maxIntervalMs = WholeNumberField(source="max_interval_ms", **_OPTIONAL)
    recoveryCheckMs = WholeNumberField(source="recovery_check_ms", **_OPTIONAL)
    retryLimit = WholeNumberField(source="retry_limit", **_OPTIONAL)
    misfireGraceMs = WholeNumberField(source="misfire_grace_ms", **_OPTIONAL)
    onWorkerLoss = TextField(source="on_worker_loss", **_OPTIONAL)
    plannerMode = TextField(source="planner_mode", **_OPTIONAL)
    rules = JsonField(**_OPTIONAL)

    class Meta:
        list_serializer_class = EndpointInputs


EndpointInput.shown_only = shown_only(EndpointOutput, EndpointInput)


class EndpointChanges(EndpointInput):
    """What changes in an endpoint; null clears. `status` pauses without end, or resumes."""

    status = serializers.ChoiceField(choices=[EndpointStatus.ACTIVE, EndpointStatus.PAUSED], required=False)

    shown_only = shown_only(EndpointOutput, EndpointInput) - {"status"}


class JobChanges(StrictSerializer):
    """What changes in a job."""

    name = TextField()
    description = TextField(**_OPTIONAL)

    shown_only = frozenset(JobOutput._declared_fields) - {"name", "description"}


class JobInput(StrictSerializer):
    """A new job, with its endpoints if wanted."""

    name = TextField()
    description = TextField(**_OPTIONAL)
    isSynthetic = BooleanField(source="is_synthetic", **_OPTIONAL)
    endpoints = EndpointInput(many=True, required=False)

    shown_only = frozenset(JobOutput._declared_fields) - {"name", "description", "isSynthetic"}


class IntervalHintInput(StrictSerializer):
    """Run every intervalMs for ttlMinutes."""

    intervalMs = WholeNumberField(low=MIN_INTERVAL_MS, high=MAX_INTERVAL_MS)
    ttlMinutes = WholeNumberField(low=1, high=1440, default=60)
    reason = CleanTextField(_reason, default="")


class OneShotHintInput(StrictSerializer):
    """Run once at nextRunAt, or nextRunInMs from now; the hint holds for ttlMinutes."""

    nextRunAt = InstantField(required=False)
    nextRunInMs = WholeNumberField(low=0, high=MAX_HINT_TTL_MS, required=False)
    ttlMinutes = WholeNumberField(low=1, high=1440, default=30)
    reason = CleanTextField(_reason, default="")


class PauseInput(StrictSerializer):
    """Pause until a time; null resumes."""

    pausedUntil = InstantField(allow_null=True)
    reason = CleanTextField(_reason, default="")


class ApiKeyInput(StrictSerializer):
    """A new key."""

    name = CleanTextField(clean_name)
    scopes = ShortListField(
        child=serializers.ChoiceField(choices=Scope.choices),
        allow_empty=False,
        max_length=2,
        default=[Scope.READ.value],
    )
    expiresAt = InstantField(allow_null=True, default=None)

    shown_only = frozenset(ApiKeyOutput._declared_fields) - {"name", "scopes", "expiresAt"}


class NothingInput(StrictSerializer):
    """No fields: an empty object, or no body."""


class PageQuery(serializers.Serializer[dict[str, Any]]):
    """Which part of a list."""

    limit = serializers.IntegerField(min_value=1, max_value=MAX_PAGE, default=50)
    offset = serializers.IntegerField(min_value=0, max_value=MAX_OFFSET, default=0)


class JobQuery(PageQuery):
    """Which jobs; without a status all but archived ones."""

    status = serializers.ChoiceField(choices=JobStatus.choices, required=False)
    search = serializers.CharField(max_length=255, required=False, allow_blank=True)


class EndpointQuery(PageQuery):
    """Which endpoints; without a status all but archived ones."""

    status = serializers.ChoiceField(choices=EndpointStatus.choices, required=False)


class RunQuery(PageQuery):
    """Which runs."""

    status = serializers.ChoiceField(choices=RunStatus.choices, required=False)
    source = serializers.ChoiceField(  # type: ignore[assignment]
        choices=[source.value for source in Source], required=False
    )


class HealthQuery(serializers.Serializer[dict[str, Any]]):
    """How far back, in hours; at most 30 days."""

    sinceHours = serializers.IntegerField(min_value=1, max_value=720, default=24)
