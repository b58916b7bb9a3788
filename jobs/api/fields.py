"""Serializer fields that convert nothing: a number is a number, a text a text. Ranges are `jobs.validation`'s."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.fields import SkipField
from rest_framework.settings import api_settings

from jobs.api.refusals import faults_of
from jobs.errors import InvalidInputError, Unreadable
from jobs.validation import EARLIEST, LATEST
from jobs.written import WrittenJson, text_of

# RFC 3339, seconds and fraction optional.
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
_SHOWN_KEY_LENGTH = 100


class WholeNumberField(serializers.IntegerField):
    """An integer; no float, text or boolean passes for one. `low` and `high` bound it where no service does."""

    default_error_messages = {
        "invalid_type": "Give a whole number.",
        "out_of_range": "Give a number from {low} to {high}.",
    }

    def __init__(self, *, low: int | None = None, high: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.low, self.high = low, high

    def to_internal_value(self, data: object) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid_type")
        if self.low is not None and self.high is not None and not self.low <= data <= self.high:
            self.fail("out_of_range", low=self.low, high=self.high)
        return data


class BooleanField(serializers.BooleanField):
    """true or false, nothing that looks like it."""

    default_error_messages = {"invalid_type": "Give true or false."}

    def to_internal_value(self, data: object) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid_type")
        return data


class TextField(serializers.CharField):
    """A text as it is; emptiness and length are checked later."""

    default_error_messages = {"invalid_type": "Give a text."}

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_blank": True, "trim_whitespace": False, **options})

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if data is not serializers.empty and data is not None and not isinstance(data, str):
            self.fail("invalid_type")
        return super().run_validation(data)


class CleanTextField(TextField):
    """A text that is judged here, because no service judges it beside the other fields."""

    def __init__(self, clean: Callable[[str, object], str], **options: Any) -> None:
        super().__init__(**options)
        self.clean = clean

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        try:
            return self.clean("", text)
        except InvalidInputError as error:
            raise serializers.ValidationError(
                [ErrorDetail(fault.message, code=fault.code) for fault in error.faults]
            ) from None


class InstantField(serializers.DateTimeField):
    """An RFC 3339 time with its zone, in the years 2000 to 2199."""

    default_error_messages = {
        "invalid_instant": "Give a time with its zone, as 2030-01-31T09:00:00Z.",
        "out_of_range": "Give a time in the years 2000 to 2199.",
    }

    def to_internal_value(self, data: object) -> datetime:
        if not isinstance(data, str) or not _INSTANT.fullmatch(data):
            self.fail("invalid_instant")
        try:
            instant = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", data.upper()))
        except ValueError:
            self.fail("invalid_instant")
        if not EARLIEST <= instant < LATEST:
            self.fail("out_of_range")
        # PostgreSQL takes no offset of 16 hours or more.
        return instant.astimezone(UTC)


@extend_schema_field(OpenApiTypes.ANY)
class JsonField(serializers.Field):  # type: ignore[type-arg]
    """JSON of the user's own, never renamed."""

    def to_internal_value(self, data: object) -> object:
        return data

    def to_representation(self, value: object) -> object:
        return value


class WrittenField(JsonField):
    """JSON of the user's own, shown as it was written."""

    def get_attribute(self, instance: Any) -> Any:
        return instance.as_written(self.source)

    def to_representation(self, value: object) -> object:
        text = text_of(value)
        return value if text is None else WrittenJson(text)


class ShortListField(serializers.ListField):
    """A list whose length is judged before its entries are read: a request has room for half a million of them."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


class ShortListSerializer(serializers.ListSerializer):  # type: ignore[type-arg]
    """A list of at most `most` objects; its length is judged before they are read, a third of a millisecond each."""

    most: ClassVar[int]

    def to_internal_value(self, data: Any) -> list[Any]:
        self._check_length(data)
        return cast(list[Any], super().to_internal_value(data))

    def attempt(self, data: Any) -> list[Any]:
        """One entry for each object, as `StrictSerializer.attempt` reads it. Raises ValidationError for the list."""
        self._check_length(data)
        if not isinstance(data, list):
            raise serializers.ValidationError([ErrorDetail("Give a list of objects.", code="not_a_list")])
        return [cast(StrictSerializer, self.child).attempt(item) for item in data]

    def _check_length(self, data: Any) -> None:
        if isinstance(data, list) and len(data) > self.most:
            fault = ErrorDetail(f"At most {self.most} entries at once.", code="too_many")
            raise serializers.ValidationError({api_settings.NON_FIELD_ERRORS_KEY: [fault]})


class StrictSerializer(serializers.Serializer):  # type: ignore[type-arg]
    """Refuses unknown fields, and by another name those that are only shown (`shown_only`)."""

    shown_only: ClassVar[frozenset[str]] = frozenset()

    def to_internal_value(self, data: Any) -> Any:
        """The values by the models' names. Raises ValidationError with every fault."""
        if not isinstance(data, Mapping):
            raise serializers.ValidationError({api_settings.NON_FIELD_ERRORS_KEY: [self._no_object()]})
        errors = self._unknown(data)
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError({**error.detail, **errors}) from None  # type: ignore[dict-item]
        if errors:
            raise serializers.ValidationError(errors)
        return value

    def attempt(self, data: Any) -> dict[str, Any] | Unreadable:
        """The values by the models' names, Unreadable in place of each that cannot be read, and of unknown fields."""
        if not isinstance(data, Mapping):
            return Unreadable(tuple(faults_of([self._no_object()])))
        # Under names that no field has: a client may send `timeout_ms` beside `timeoutMs`.
        values: dict[str, Any] = {
            f"unknown {name}": Unreadable(tuple(faults_of(faults, name)))
            for name, faults in self._unknown(data).items()
        }
        for field in self._writable_fields:
            given, source = field.get_value(data), str(field.source)
            try:
                if isinstance(field, ShortListSerializer) and given is not serializers.empty:
                    values[source] = field.attempt(given)
                else:
                    values[source] = field.run_validation(given)
            except serializers.ValidationError as error:
                values[source] = Unreadable(tuple(faults_of(error.detail, field.field_name or "")))
            except SkipField:
                continue
        return values

    def _no_object(self) -> ErrorDetail:
        return ErrorDetail("Give a JSON object.", code="invalid_type")

    def _unknown(self, data: Mapping[str, Any]) -> dict[str, list[ErrorDetail]]:
        faults = {}
        for key in data:
            if key in self.shown_only:
                faults[key] = [ErrorDetail("This field cannot be set.", code="read_only")]
            elif key not in self.fields:
                faults[key[:_SHOWN_KEY_LENGTH]] = [ErrorDetail("This field is not known.", code="unknown_field")]
        return faults


def shown_only(
    shown: type[serializers.BaseSerializer[Any]], written: type[serializers.BaseSerializer[Any]]
) -> frozenset[str]:
    """The fields of an output serializer that the input one does not take."""
    return frozenset(shown._declared_fields) - frozenset(written._declared_fields)  # type: ignore[attr-defined]
