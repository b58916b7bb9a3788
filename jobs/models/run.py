"""The tables `runs` and `run_responses`: high-volume, inserted and settled in batches, referenced by no foreign key."""

from django.conf import settings
from django.db import models

from accounts.ids import UuidV7
from jobs.models.endpoint import Endpoint
from scheduling.plan.decision import Source
from scheduling.plan.uncalled import Cause


class RunStatus(models.TextChoices):
    """How a run stands; all but `running` are final."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    ABANDONED = "abandoned"
    MISSED = "missed"
    CANCELED = "canceled"


class CoalescedCause(models.TextChoices):
    """Why the slots that a run stands for beside its own were not called; the one behind most of them."""

    LONG_CALL = Cause.LONG_CALL.value, "an earlier call of the endpoint was under way"
    PAUSE = Cause.PAUSE.value, "the endpoint was paused"
    WORKER_LOST = Cause.WORKER_LOST.value, "a worker was lost, and its lease ran on"
    NO_WORKER = Cause.NO_WORKER.value, "no worker was free, or the database was away"
    RESULT_WAITED = Cause.RESULT_WAITED.value, "the result of the call before could not be stored at once"
    SERVER_ASKED = Cause.SERVER_ASKED.value, "the server had asked to be left alone"


class Run(models.Model):
    """One execution of one slot. The slot and the endpoint identify the delivery; attempts repeat it."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    endpoint = models.ForeignKey(
        Endpoint, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="runs"
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    scheduled_for = models.DateTimeField()
    due_at = models.DateTimeField()
    attempt = models.SmallIntegerField(db_default=1)
    source = models.CharField(max_length=24)
    status = models.CharField(max_length=16, choices=RunStatus.choices)
    claimed_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    duration_ms = models.FloatField(null=True)
    dns_ms = models.FloatField(null=True)
    connect_ms = models.FloatField(null=True)
    tls_ms = models.FloatField(null=True)
    first_byte_ms = models.FloatField(null=True)
    total_ms = models.FloatField(null=True)
    status_code = models.SmallIntegerField(null=True)
    error_kind = models.CharField(max_length=32, null=True)
    error_message = models.CharField(max_length=500, null=True)
    worker = models.CharField(max_length=128, null=True)
    fence = models.BigIntegerField(null=True)
    late_result = models.JSONField(null=True)
    coalesced_slots = models.IntegerField(db_default=0)
    coalesced_until = models.DateTimeField(null=True)
    coalesced_cause = models.CharField(max_length=16, choices=CoalescedCause.choices, null=True)
    decision = models.JSONField(null=True)

    class Meta:
        db_table = "runs"
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "scheduled_for", "attempt"], name="run_slot_attempt_is_unique"),
            models.UniqueConstraint(
                fields=["endpoint"], condition=models.Q(status=RunStatus.RUNNING), name="run_one_running_per_endpoint"
            ),
            models.CheckConstraint(condition=models.Q(status__in=RunStatus.values), name="run_status_is_known"),
            models.CheckConstraint(
                condition=models.Q(source__in=[source.value for source in Source]), name="run_source_is_known"
            ),
            models.CheckConstraint(
                condition=models.Q(coalesced_cause__isnull=True) | models.Q(coalesced_cause__in=CoalescedCause.values),
                name="run_coalesced_cause_is_known",
            ),
            models.CheckConstraint(condition=models.Q(attempt__gte=1), name="run_attempt_counts_from_one"),
            models.CheckConstraint(
                condition=models.Q(status__in=[RunStatus.RUNNING, RunStatus.MISSED])
                | models.Q(finished_at__isnull=False),
                name="run_finished_has_a_time",
            ),
        ]
        indexes = [
            models.Index(fields=["endpoint", "-due_at"], name="runs_by_endpoint"),
            models.Index(fields=["owner", "-due_at"], name="runs_by_owner"),
            models.Index(fields=["finished_at"], name="runs_by_finish", condition=models.Q(finished_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.scheduled_for:%Y-%m-%d %H:%M:%S} #{self.attempt}"

    @property
    def lateness_ms(self) -> float | None:
        """How long after its due time the call started, in milliseconds; None when it did not start."""
        if self.started_at is None:
            return None
        return (self.started_at - self.due_at).total_seconds() * 1000

    @property
    def slot_lateness_ms(self) -> float | None:
        """How long after its slot the call started, in milliseconds; None when it did not start.

        More than the lateness where jitter, a pause, a retry or the loss of a worker moved the due time; less where
        slots were folded, of which the run serves the latest.
        """
        if self.started_at is None:
            return None
        return (self.started_at - self.scheduled_for).total_seconds() * 1000


class RunResponse(models.Model):
    """What came back, insert-only; apart from the run so that lists stay lean and bodies can leave sooner."""

    run = models.OneToOneField(
        Run, primary_key=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="response"
    )
    endpoint = models.ForeignKey(
        Endpoint, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    received_at = models.DateTimeField()
    body = models.TextField(blank=True)
    truncated = models.BooleanField(db_default=False)
    flags = models.JSONField(default=list)
    content_type = models.CharField(max_length=255, null=True)
    sha256 = models.CharField(max_length=64, null=True)
    headers = models.JSONField(default=dict)
    # What the owner's conditions found before the body was masked, where the masked one would answer otherwise.
    rule_verdicts = models.JSONField(null=True)

    class Meta:
        db_table = "run_responses"
        indexes = [models.Index(fields=["endpoint", "-received_at"], name="responses_by_endpoint")]
