"""How requests are read: strict JSON within limits, JSON out whatever Accept says."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from jobs.api.refusals import RefusedError
from jobs.errors import Fault
from jobs.texts import unstorable_places
from scheduling.exchange.bodies import MAX_JSON_DEPTH, MAX_JSON_DIGITS, MAX_JSON_KEYS

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
        if _is_too_deep(value):
            raise _malformed(f"The JSON is nested deeper than {MAX_JSON_DEPTH} levels.", code="too_deep")
        if places := list(_first(unstorable_places(value), 20)):
            faults = (
                Fault(_plain(at), "invalid_characters", "NUL and lone surrogates are not allowed.") for at in places
            )
            raise RefusedError(400, *faults)
        return value


def json_body(request: Request) -> object:
    """The request's JSON; {} where there is no body. Raises RefusedError 411 for a body of unknown length."""
    if "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH"):
        raise RefusedError(411, Fault(None, "length_required", "Send the request with a Content-Length."))
    data = request.data
    return {} if hasattr(data, "getlist") else data


def _load(raw: bytes) -> object:
    try:
        return json.loads(
            raw.decode(),
            object_pairs_hook=_object,
            parse_float=_finite,
            parse_int=_bounded,
            parse_constant=_constant,
        )
    except RecursionError:
        raise _malformed(f"The JSON is nested deeper than {MAX_JSON_DEPTH} levels.", code="too_deep") from None
    except UnicodeDecodeError:
        raise _malformed("The request is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise _malformed(
            f"The request is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None


def _malformed(message: str, code: str = "malformed") -> RefusedError:
    return RefusedError(400, Fault(None, code, message))


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MAX_JSON_KEYS:
        raise _malformed(f"A JSON object has more than {MAX_JSON_KEYS} keys.", code="too_many_keys")
    result = dict(pairs)
    if len(result) < len(pairs):
        raise _malformed("A JSON object has the same key twice.", code="duplicate_key")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _malformed("A JSON number is out of range.")
    return value


def _bounded(text: str) -> int:
    if len(text) > MAX_JSON_DIGITS:
        raise _malformed(f"A JSON integer has more than {MAX_JSON_DIGITS} digits.")
    return int(text)


def _constant(name: str) -> float:
    raise _malformed("JSON has no NaN and no infinities.")


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [part for item in level for part in _parts(item)]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)


def _parts(item: object) -> list[object]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []


def _first(places: Iterator[str], count: int) -> Iterator[str]:
    for _, place in zip(range(count), places, strict=False):
        yield place


def _plain(place: str) -> str:
    """A path that can be sent back: a key given by the client may be of any length."""
    return place[:200]
