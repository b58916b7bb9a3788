"""How requests are read: strict JSON within limits, JSON out whatever Accept says."""

import json
import re
from collections.abc import Iterator, Mapping
from secrets import token_hex
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.utils.encoders import JSONEncoder

from jobs.api.refusals import RefusedError
from jobs.errors import Fault
from jobs.texts import unstorable_places
from jobs.written import MalformedJsonError, WrittenJson, read_json

MAX_BYTES = 1_048_576


class Negotiation(DefaultContentNegotiation):
    """Reads only JSON and always answers JSON."""

    def select_renderer(  # type: ignore[override]
        self, request: Request, renderers: list[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """The one renderer."""
        return renderers[0], renderers[0].media_type


class StrictJSONParser(BaseParser):
    """Refuses what two readers could take differently, and what PostgreSQL cannot store."""

    media_type = "application/json"

    def parse(  # type: ignore[override]
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> object:
        """The value. Raises RefusedError: 413 above 1 MiB, else 400."""
        raw = stream.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise RefusedError(413, Fault(None, "too_large", f"A request has at most {MAX_BYTES} bytes."))
        value = _load(raw)
        if places := list(_first(unstorable_places(value), 20)):
            faults = (
                Fault(_plain(at), "invalid_characters", "NUL and lone surrogates are not allowed.") for at in places
            )
            raise RefusedError(400, *faults)
        return value


class WrittenJSONRenderer(JSONRenderer):
    """JSON in which a `WrittenJson` stands as its text: no encoder can write a number as it was spelled."""

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """The bytes of the answer."""
        texts: list[str] = []
        # Nobody can guess it, so that no text of a client is taken for a place.
        token = token_hex(16)

        class Encoder(JSONEncoder):
            def default(self, obj: Any) -> Any:
                if isinstance(obj, WrittenJson):
                    texts.append(obj.text)
                    return f"{token}{len(texts) - 1}"
                return super().default(obj)

        # A renderer serves one request.
        self.encoder_class = Encoder  # type: ignore[misc]
        rendered: bytes = super().render(data, accepted_media_type, renderer_context)
        if not texts:
            return rendered
        return re.sub(rf'"{token}([0-9]+)"'.encode(), lambda found: texts[int(found[1])].encode(), rendered)


def json_body(request: Request) -> object:
    """The request's JSON; {} where there is no body. Raises RefusedError 411 for a body of unknown length."""
    if "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH"):
        raise RefusedError(411, Fault(None, "length_required", "Send the request with a Content-Length."))
    data = request.data
    return {} if hasattr(data, "getlist") else data


def _load(raw: bytes) -> object:
    try:
        return read_json(raw.decode())
    except UnicodeDecodeError:
        raise _malformed("The request is not UTF-8.") from None
    except MalformedJsonError as error:
        is_syntax = isinstance(error.__context__, json.JSONDecodeError)
        raise _malformed(f"The request is not JSON: {error}" if is_syntax else str(error), error.code) from None


def _malformed(message: str, code: str = "malformed") -> RefusedError:
    return RefusedError(400, Fault(None, code, message))


def _first(places: Iterator[str], count: int) -> Iterator[str]:
    for _, place in zip(range(count), places, strict=False):
        yield place


def _plain(place: str) -> str:
    """A path that can be sent back: a key given by the client may be of any length."""
    return place[:200]
