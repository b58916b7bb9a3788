"""The table `jobs`."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from accounts.ids import UuidV7
from jobs.models.stamps import UpdatedField


class JobStatus(models.TextChoices):
    """Whether the endpoints of a job run at all."""

    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"


class Job(models.Model):
    """A group of endpoints that belong together; pausing or archiving it stops all of them."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs", editable=False)
    name = models.CharField(max_length=255)
    description = models.CharField(max_length=1000, blank=True)
    status = models.CharField(max_length=16, choices=JobStatus.choices, default=JobStatus.ACTIVE)
    is_synthetic = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = UpdatedField()
    archived_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "jobs"
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=models.Q(status__in=JobStatus.values), name="job_status_is_known"),
            models.CheckConstraint(condition=~models.Q(name=""), name="job_has_a_name"),
            models.CheckConstraint(
                condition=models.Q(status=JobStatus.ARCHIVED, archived_at__isnull=False)
                | (~models.Q(status=JobStatus.ARCHIVED) & models.Q(archived_at__isnull=True)),
                name="job_archived_at_iff_archived",
            ),
        ]
        indexes = [models.Index(fields=["owner", "-created_at"], name="jobs_by_owner")]

    def __str__(self) -> str:
        return self.name
