"""The Django app `planner`."""

from django.apps import AppConfig


class PlannerConfig(AppConfig):
    """Settings of the app."""

    name = "planner"
