"""The table `worker_heartbeats`."""

from django.db import models
from django.db.models.functions import Now

from accounts.ids import UuidV7


class WorkerKind(models.TextChoices):
    """Which of the two workers a heartbeat is of."""

    SCHEDULER = "scheduler"
    PLANNER = "planner"


class WorkerHeartbeat(models.Model):
    """The last sign of life of one worker process."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    worker = models.CharField(max_length=128, unique=True)
    kind = models.CharField(max_length=16, choices=WorkerKind.choices)
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    stopped_at = models.DateTimeField(null=True)
    facts = models.JSONField(default=dict)

    class Meta:
        db_table = "worker_heartbeats"
        indexes = [models.Index(fields=["kind", "-seen_at"], name="heartbeats_by_kind")]

    def __str__(self) -> str:
        return self.worker
