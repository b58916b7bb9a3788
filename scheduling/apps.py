"""The Django app `scheduling`."""

from django.apps import AppConfig
from django.conf import settings

from cronicorn.env import ConfigurationError
from scheduling.egress.policy import EgressSettingError, installation_policy


class SchedulingConfig(AppConfig):
    """Settings of the app."""

    name = "scheduling"

    def ready(self) -> None:
        """Raises ConfigurationError for egress settings that cannot be used: no process starts with them."""
        try:
            installation_policy(settings.ENV)
        except EgressSettingError as error:
            raise ConfigurationError(list(error.faults)) from None
