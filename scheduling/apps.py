"""The Django app `scheduling`."""

from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    """Settings of the app."""

    name = "scheduling"
