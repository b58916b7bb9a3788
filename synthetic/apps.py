"""The Django app `synthetic`."""

from django.apps import AppConfig


class SyntheticConfig(AppConfig):
    """Settings of the app."""

    name = "synthetic"
