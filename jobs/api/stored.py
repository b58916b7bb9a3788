"""How stored JSON of our own is shown: names in camelCase, instants in the one format of the API.

Rows keep it as the modules that write it name things. The user's own JSON does not pass through here.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

_SNAKE = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")
_INSTANT_NAME = re.compile(r"(?:.*_)?(?:at|since|until|now)")


def instant_text(instant: datetime) -> str:
    """An aware instant as serializers write it too (REST_FRAMEWORK in the settings): RFC 3339, UTC, six digits."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class JsonEncoder(DjangoJSONEncoder):
    """Writes instants outside serializers in the same format."""

    def default(self, o: Any) -> Any:
        """The text of an instant; all else as Django has it."""
        return instant_text(o) if isinstance(o, datetime) and o.utcoffset() is not None else super().default(o)


def shown_form(value: object) -> object:
    """Stored JSON with its names in camelCase; under the names of instants, texts that are instants in our format."""
    if isinstance(value, Mapping):
        return {
            _SNAKE.sub(lambda part: part[1].upper(), name): _shown_instant(item)
            if isinstance(item, str) and _INSTANT_NAME.fullmatch(name)
            else shown_form(item)
            for name, item in value.items()
        }
    return [shown_form(item) for item in value] if isinstance(value, list) else value


def _shown_instant(text: str) -> str:
    """The instant in our format; what is not an instant with a zone, as it stands."""
    try:
        instant = datetime.fromisoformat(text)
        return instant_text(instant) if instant.utcoffset() is not None else text
    except (ValueError, OverflowError):
        return text


@extend_schema_field(OpenApiTypes.ANY)
class StoredField(serializers.Field):  # type: ignore[type-arg]
    """Stored JSON of our own."""

    def to_representation(self, value: object) -> object:
        return shown_form(value)


@extend_schema_field(OpenApiTypes.DATETIME)
class StoredInstantField(serializers.CharField):
    """An instant that is stored as a text."""

    def to_representation(self, value: str) -> str:
        return _shown_instant(value)
