"""How the query of an address is read: known parameters only, each at most once, all faults together."""

from typing import Any, cast

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

_SHOWN_NAME_LENGTH = 100


def read_parameters(query: QueryDict, shape: type[serializers.Serializer[Any]] | None) -> dict[str, Any]:
    """The parameters as `shape` reads them; None takes no parameters.

    Raises ValidationError that names every parameter that is unknown, repeated or has a bad value.
    """
    reader = shape(data=query.dict()) if shape is not None else None
    known = sorted(reader.fields) if reader is not None else []
    errors: dict[str, Any] = {}
    if reader is not None and not reader.is_valid():
        errors.update(reader.errors)
    for name, values in query.lists():
        if name not in known:
            there = f"Known are {', '.join(known)}." if known else "This address takes none."
            fault = ErrorDetail(f"This parameter is not known. {there}", code="unknown_parameter")
            errors[name[:_SHOWN_NAME_LENGTH]] = [fault]
        elif len(values) > 1:
            errors[name] = [ErrorDetail("Give this parameter once.", code="repeated_parameter")]
    if errors:
        raise serializers.ValidationError(errors)
    return cast(dict[str, Any], reader.validated_data) if reader is not None else {}
