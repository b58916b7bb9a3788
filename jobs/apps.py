"""The Django app `jobs`."""

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_save


class JobsConfig(AppConfig):
    """Settings of the app."""

    name = "jobs"
    verbose_name = "Schedules"

    def ready(self) -> None:
        """Plans the endpoints of an owner at once when the owner is saved as active again."""
        post_save.connect(_plan_reactivated, sender=settings.AUTH_USER_MODEL, dispatch_uid="jobs.plan_reactivated")


def _plan_reactivated(instance: Any, created: bool, update_fields: frozenset[str] | None, **facts: Any) -> None:
    from jobs.owners import plan_reactivated  # models are not loaded yet when this module is

    if not created and instance.is_active and (update_fields is None or "is_active" in update_fields):
        plan_reactivated(owner_id=instance.pk)
