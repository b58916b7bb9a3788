"""What the API shows. Every name is declared here; the user's own JSON is passed on as it is."""

# ruff: noqa: N815  the names are those of the API

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import ApiKey
from jobs.api.fields import JsonField, WrittenField
from jobs.api.stored import StoredField, StoredInstantField
from jobs.models import Endpoint, Job, Run, RunResponse
from jobs.slots import schedule_warnings
from jobs.standing import blocked_by, effective_status, next_note

EXCERPT_LENGTH = 16_384


class JobOutput(serializers.Serializer[Job]):
    """A job; the counts leave archived endpoints out, and no endpoint of a job that is not active counts as active."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField()
    status = serializers.CharField()
    isSynthetic = serializers.BooleanField(source="is_synthetic")
    endpointCount = serializers.IntegerField(source="endpoint_count")
    activeEndpointCount = serializers.IntegerField(source="active_endpoint_count")
    createdAt = serializers.DateTimeField(source="created_at")
    updatedAt = serializers.DateTimeField(source="updated_at")
    archivedAt = serializers.DateTimeField(source="archived_at")


class CandidateOutput(serializers.Serializer[Mapping[str, Any]]):
    """One time that could have been next, and what became of it."""

    source = serializers.CharField()  # type: ignore[assignment]
    at = StoredInstantField(allow_null=True)
    verdict = serializers.CharField()
    note = serializers.CharField()


class DecisionOutput(serializers.Serializer[Mapping[str, Any]]):
    """Why an endpoint runs when it runs."""

    runAt = StoredInstantField(source="run_at", allow_null=True)
    slotAt = StoredInstantField(source="slot_at", allow_null=True)
    source = serializers.CharField(allow_null=True)  # type: ignore[assignment]
    attempt = serializers.IntegerField()
    sentence = serializers.CharField()
    candidates = CandidateOutput(many=True)
    inputs = StoredField()


class WarningOutput(serializers.Serializer[Any]):
    """What may not be expected of a schedule that is accepted: `gaps` are the different ones, in `unit`."""

    code = serializers.CharField()
    text = serializers.CharField()
    unit = serializers.CharField()
    gaps = serializers.ListField(child=serializers.IntegerField())


class EndpointOutput(serializers.Serializer[Endpoint]):
    """An endpoint. The value of a secret header is null: sent back as it is, it keeps what is stored."""

    id = serializers.UUIDField()
    jobId = serializers.UUIDField(source="job_id")
    name = serializers.CharField()
    description = serializers.CharField()
    status = serializers.CharField()
    effectiveStatus = serializers.SerializerMethodField()
    blockedBy = serializers.SerializerMethodField()
    url = serializers.CharField()
    method = serializers.CharField()
    headers = JsonField()
    body = serializers.CharField()
    timeoutMs = serializers.IntegerField(source="timeout_ms")
    maxResponseBytes = serializers.IntegerField(source="max_response_bytes")
    successCriteria = WrittenField(source="success_criteria")
    baselineIntervalMs = serializers.IntegerField(source="baseline_interval_ms")
    baselineCron = serializers.CharField(source="baseline_cron")
    runOnceAt = serializers.DateTimeField(source="run_once_at")
    timezone = serializers.CharField()
    startsAt = serializers.DateTimeField(source="starts_at")
    endsAt = serializers.DateTimeField(source="ends_at")
    jitterMs = serializers.IntegerField(source="jitter_ms")
    minIntervalMs = serializers.IntegerField(source="min_interval_ms")
    maxIntervalMs = serializers.IntegerField(source="max_interval_ms")
    recoveryCheckMs = serializers.IntegerField(source="recovery_check_ms")
    retryLimit = serializers.IntegerField(source="retry_limit")
    misfireGraceMs = serializers.IntegerField(source="misfire_grace_ms")
    onWorkerLoss = serializers.CharField(source="on_worker_loss")
    plannerMode = serializers.CharField(source="planner_mode")
    rules = WrittenField()
    aiHintIntervalMs = serializers.IntegerField(source="ai_hint_interval_ms")
    aiHintIntervalExpiresAt = serializers.DateTimeField(source="ai_hint_interval_expires_at")
    aiHintIntervalReason = serializers.CharField(source="ai_hint_interval_reason")
    aiHintIntervalSetBy = serializers.CharField(source="ai_hint_interval_set_by")
    aiHintIntervalProposalId = serializers.UUIDField(source="ai_hint_interval_proposal_id")
    aiHintNextRunAt = serializers.DateTimeField(source="ai_hint_next_run_at")
    aiHintNextRunExpiresAt = serializers.DateTimeField(source="ai_hint_next_run_expires_at")
    aiHintNextRunReason = serializers.CharField(source="ai_hint_next_run_reason")
    aiHintNextRunSetBy = serializers.CharField(source="ai_hint_next_run_set_by")
    aiHintNextRunProposalId = serializers.UUIDField(source="ai_hint_next_run_proposal_id")
    pausedUntil = serializers.DateTimeField(source="paused_until")
    pauseReason = serializers.CharField(source="pause_reason")
    pausedBy = serializers.CharField(source="paused_by")
    pauseProposalId = serializers.UUIDField(source="pause_proposal_id")
    plannerHoldUntil = serializers.DateTimeField(source="planner_hold_until")
    nextRunAt = serializers.DateTimeField(source="next_run_at")
    nextSource = serializers.CharField(source="next_source")
    nextNote = serializers.SerializerMethodField()
    lastRunAt = serializers.DateTimeField(source="last_run_at")
    failureCount = serializers.IntegerField(source="failure_count")
    failingSince = serializers.DateTimeField(source="failing_since")
    serverWaitUntil = serializers.DateTimeField(source="server_wait_until")
    serverWaitReason = serializers.CharField(source="server_wait_reason")
    createdAt = serializers.DateTimeField(source="created_at")
    updatedAt = serializers.DateTimeField(source="updated_at")
    archivedAt = serializers.DateTimeField(source="archived_at")
    warnings = serializers.SerializerMethodField()

    @extend_schema_field(WarningOutput(many=True))
    def get_warnings(self, endpoint: Endpoint) -> Any:
        """The warnings of its schedule."""
        return WarningOutput(schedule_warnings(endpoint.baseline_cron), many=True).data

    def get_effectiveStatus(self, endpoint: Endpoint) -> str:  # noqa: N802  follows the field's name
        """The endpoint's own status, or its job's where that is stronger."""
        return effective_status(endpoint).value

    def get_nextNote(self, endpoint: Endpoint) -> str:  # noqa: N802  follows the field's name
        """What the plan says of the time it chose, as `backed off to every 20 min`."""
        return next_note(endpoint)

    def get_blockedBy(self, endpoint: Endpoint) -> str | None:  # noqa: N802  follows the field's name
        """`owner` (deactivated), `endpoint` or `job` (paused or archived); null where none of them is."""
        return blocked_by(endpoint)


class RunOutput(serializers.Serializer[Run]):
    """A run in a list. Lateness is from due to started, slot lateness from the slot to started."""

    id = serializers.UUIDField()
    endpointId = serializers.UUIDField(source="endpoint_id")
    scheduledFor = serializers.DateTimeField(source="scheduled_for")
    dueAt = serializers.DateTimeField(source="due_at")
    attempt = serializers.IntegerField()
    source = serializers.CharField()  # type: ignore[assignment]
    status = serializers.CharField()
    startedAt = serializers.DateTimeField(source="started_at")
    finishedAt = serializers.DateTimeField(source="finished_at")
    latenessMs = serializers.FloatField(source="lateness_ms")
    slotLatenessMs = serializers.FloatField(source="slot_lateness_ms")
    durationMs = serializers.FloatField(source="duration_ms")
    statusCode = serializers.IntegerField(source="status_code")
    errorKind = serializers.CharField(source="error_kind")
    errorMessage = serializers.CharField(source="error_message")
    coalescedSlots = serializers.IntegerField(source="coalesced_slots")
    coalescedUntil = serializers.DateTimeField(source="coalesced_until")
    coalescedCause = serializers.CharField(source="coalesced_cause")


class TimingsOutput(serializers.Serializer[Run]):
    """How long each phase took; null where it was not reached."""

    dnsMs = serializers.FloatField(source="dns_ms")
    connectMs = serializers.FloatField(source="connect_ms")
    tlsMs = serializers.FloatField(source="tls_ms")
    firstByteMs = serializers.FloatField(source="first_byte_ms")
    totalMs = serializers.FloatField(source="total_ms")


class ResponseOutput(serializers.Serializer[RunResponse]):
    """What came back. `body` is its beginning; `truncated`: bytes were not kept; `masked`: echoes of secrets too."""

    receivedAt = serializers.DateTimeField(source="received_at")
    contentType = serializers.CharField(source="content_type")
    headers = JsonField()
    body = serializers.SerializerMethodField()
    bodyLength = serializers.SerializerMethodField()
    truncated = serializers.BooleanField()
    masked = serializers.SerializerMethodField()
    flags = JsonField()
    sha256 = serializers.CharField()

    def get_body(self, response: RunResponse) -> str:
        """The excerpt."""
        return response.body[:EXCERPT_LENGTH]

    def get_masked(self, response: RunResponse) -> bool:
        """Whether echoes of secrets were replaced by asterisks."""
        return "masked" in response.flags

    def get_bodyLength(self, response: RunResponse) -> int:  # noqa: N802  follows the field's name
        """How many characters are stored."""
        return len(response.body)


class RunDetailOutput(RunOutput):
    """Everything about a run."""

    claimedAt = serializers.DateTimeField(source="claimed_at")
    worker = serializers.CharField()
    timings = TimingsOutput(source="*")
    decision = DecisionOutput()
    lateResult = StoredField(source="late_result")
    response = serializers.SerializerMethodField()

    def get_response(self, run: Run) -> dict[str, Any] | None:
        """The response; null when none came or it has left by age."""
        response = getattr(run, "response", None)
        return ResponseOutput(response).data if response is not None else None


class SlotOutput(serializers.Serializer[Mapping[str, Any]]):
    """A planned time, in UTC and on the clock of the endpoint's zone."""

    at = serializers.DateTimeField()
    local = serializers.CharField()


class ScheduleOutput(serializers.Serializer[Mapping[str, Any]]):
    """What comes next and why, and the slots of the baseline."""

    nextRunAt = serializers.DateTimeField(source="next_run_at")
    effectiveStatus = serializers.CharField(source="effective_status")
    blockedBy = serializers.CharField(source="blocked_by", allow_null=True)
    decision = DecisionOutput()
    timezone = serializers.CharField()
    slots = SlotOutput(many=True)
    warnings = WarningOutput(many=True)


class PreviewOutput(serializers.Serializer[Mapping[str, Any]]):
    """The slots of a schedule that is not saved."""

    timezone = serializers.CharField()
    slots = SlotOutput(many=True)
    warnings = WarningOutput(many=True)


class HealthOutput(serializers.Serializer[Mapping[str, Any]]):
    """How an endpoint has fared. Rates are of finished calls, percentiles of calls that started."""

    sinceHours = serializers.IntegerField(source="since_hours")
    total = serializers.IntegerField()
    success = serializers.IntegerField()
    failed = serializers.IntegerField()
    abandoned = serializers.IntegerField()
    missed = serializers.IntegerField()
    running = serializers.IntegerField()
    successRate = serializers.FloatField(source="success_rate", allow_null=True)
    failureStreak = serializers.IntegerField(source="failure_streak")
    durationP50Ms = serializers.FloatField(source="duration_p50_ms", allow_null=True)
    durationP95Ms = serializers.FloatField(source="duration_p95_ms", allow_null=True)
    latenessP50Ms = serializers.FloatField(source="lateness_p50_ms", allow_null=True)
    latenessP95Ms = serializers.FloatField(source="lateness_p95_ms", allow_null=True)
    lastRunAt = serializers.DateTimeField(source="last_run_at", allow_null=True)


class ApiKeyOutput(serializers.Serializer[ApiKey]):
    """A key without its secret."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    createdAt = serializers.DateTimeField(source="created_at")
    expiresAt = serializers.DateTimeField(source="expires_at")
    lastUsedAt = serializers.DateTimeField(source="last_used_at")
    revokedAt = serializers.DateTimeField(source="revoked_at")


class NewApiKeyOutput(ApiKeyOutput):
    """A key just made: the only time that `key` is shown."""

    key = serializers.CharField()


class CreatedJobOutput(JobOutput):
    """A job just made, with its endpoints."""

    endpoints = EndpointOutput(many=True, source="created_endpoints")


class JobPage(serializers.Serializer[Mapping[str, Any]]):
    """A page of jobs; `total` counts at most 10 000, `totalIsCapped` says that there are more."""

    jobs = JobOutput(many=True)
    total = serializers.IntegerField()
    totalIsCapped = serializers.BooleanField()


class EndpointPage(serializers.Serializer[Mapping[str, Any]]):
    """A page of endpoints."""

    endpoints = EndpointOutput(many=True)
    total = serializers.IntegerField()
    totalIsCapped = serializers.BooleanField()


class RunPage(serializers.Serializer[Mapping[str, Any]]):
    """A page of runs, the newest first."""

    runs = RunOutput(many=True)
    total = serializers.IntegerField()
    totalIsCapped = serializers.BooleanField()


class ApiKeyPage(serializers.Serializer[Mapping[str, Any]]):
    """All keys of the caller."""

    apiKeys = ApiKeyOutput(many=True)


class ErrorOutput(serializers.Serializer[Mapping[str, Any]]):
    """One fault."""

    code = serializers.CharField()
    field = serializers.CharField(allow_null=True, help_text="A path like endpoints[0].name.")
    message = serializers.CharField()


class ErrorsOutput(serializers.Serializer[Mapping[str, Any]]):
    """Every answer that is not 2xx."""

    errors = ErrorOutput(many=True)  # type: ignore[assignment]
