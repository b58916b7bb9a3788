"""Instants that the database writes."""

from typing import Any

from django.db import models
from django.db.models.functions import Now


class UpdatedField(models.DateTimeField):  # type: ignore[type-arg]
    """When a row was last saved, by the clock of the statement: at the insert the instant of a default Now()."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "auto_now": True, "editable": False})

    @property
    def db_returning(self) -> bool:
        """An insert gives the instant back to the object; after an update the object keeps the former one."""
        return True

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """The database's own clock, in place of this process's."""
        return Now()

    def deconstruct(self) -> Any:
        """For migrations a plain DateTimeField: the column is the same."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, kwargs
