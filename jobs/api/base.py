"""What every view of the API shares."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from jobs.api.inputs import NothingInput
from jobs.api.outputs import ErrorsOutput
from jobs.api.protocol import json_body
from jobs.selectors import capped_count

Shape = type[serializers.Serializer[Any]]
Method = TypeVar("Method", bound=Callable[..., Response])


class ApiView(APIView):
    """A view for a known person, who is the owner of all it reads and writes."""

    @property
    def owner(self) -> User:
        """Who asks; the permission has made sure that somebody does."""
        return cast(User, self.request.user)

    def read(self, shape: Shape, *, partial: bool = False) -> dict[str, Any]:
        """The request's fields by the models' names. Raises ValidationError."""
        reader = shape(data=json_body(self.request), partial=partial)
        reader.is_valid(raise_exception=True)
        return cast(dict[str, Any], reader.validated_data)

    def read_nothing(self) -> None:
        """Refuses fields where none are taken."""
        self.read(NothingInput)

    def query(self, shape: Shape) -> dict[str, Any]:
        """The query's parameters; unknown ones are passed over. Raises ValidationError."""
        reader = shape(data=self.request.query_params.dict())
        reader.is_valid(raise_exception=True)
        return cast(dict[str, Any], reader.validated_data)


def show(shape: Shape, value: object, code: int = status.HTTP_200_OK) -> Response:
    """An answer with one value."""
    return Response(shape(value).data, status=code)


def cut(rows: QuerySet[Any, Any], query: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """One page of rows, and the total that goes with it."""
    total, is_capped = capped_count(rows)
    page = list(rows[query["offset"] : query["offset"] + query["limit"]])
    return page, {"total": total, "totalIsCapped": is_capped}


def described(
    name: str, takes: Shape | None = None, gives: Shape | None = None, code: int = 200, query: Shape | None = None
) -> Callable[[Method], Method]:
    """Tells the OpenAPI document what a method is called, takes and gives."""
    return extend_schema(
        operation_id=name,
        request=takes,
        parameters=[query] if query else None,
        responses={code: gives, "4XX": ErrorsOutput},
    )
