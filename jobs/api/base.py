"""What every view of the API shares."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from jobs.api.fields import StrictSerializer
from jobs.api.inputs import NothingInput
from jobs.api.outputs import ErrorsOutput
from jobs.api.parameters import read_parameters
from jobs.api.protocol import json_body
from jobs.api.refusals import RefusedError
from jobs.errors import Fault, Unreadable
from jobs.selectors import capped_count

Shape = type[serializers.Serializer[Any]]
Method = TypeVar("Method", bound=Callable[..., Response])


class ApiView(APIView):
    """A view for a known person, who is the owner of all it reads and writes.

    `parameters` are those of the query, read as the method describes them.
    """

    parameters: dict[str, Any]

    @property
    def owner(self) -> User:
        """Who asks; the permission has made sure that somebody does."""
        return cast(User, self.request.user)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Checks the caller, then the query of every method, also of one that takes no parameters."""
        super().initial(request, *args, **kwargs)
        handler = getattr(self, (request.method or "").lower(), None)
        if handler is not None:
            shape: Shape | None = getattr(handler, "query_shape", None)
            self.parameters = read_parameters(request.query_params, shape)

    def read(
        self, shape: Shape, *, further: Callable[[Mapping[str, Any]], Sequence[Fault]] = lambda values: ()
    ) -> dict[str, Any]:
        """The request's fields, for routes whose fields are judged by `shape` and by `further`.

        `further` has the values, Unreadable ones too, and names fields as the API does. Raises RefusedError with the
        faults of both.
        """
        values = self.read_for_service(shape)
        faults = [fault for value in values.values() if isinstance(value, Unreadable) for fault in value.faults]
        faults += further(values)
        if faults:
            raise RefusedError(400, *faults)
        return values

    def read_for_service(self, shape: Shape, *, partial: bool = False) -> dict[str, Any]:
        """The request's fields by the models' names, for a service that judges all of them and takes Unreadable ones.

        Raises RefusedError where the request is no object.
        """
        reader = cast(StrictSerializer, shape(data=json_body(self.request), partial=partial))
        values = reader.attempt(reader.initial_data)
        if isinstance(values, Unreadable):
            raise RefusedError(400, *values.faults)
        return values

    def read_nothing(self) -> None:
        """Refuses fields where none are taken."""
        self.read(NothingInput)


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
    """Tells the OpenAPI document what a method is called, takes and gives, and the view which parameters it knows."""
    in_the_document = extend_schema(
        operation_id=name,
        request=takes,
        parameters=[query] if query else None,
        responses={code: gives, "4XX": ErrorsOutput},
    )

    def describe(method: Method) -> Method:
        described_method: Method = in_the_document(method)
        described_method.query_shape = query  # type: ignore[attr-defined]
        return described_method

    return describe
