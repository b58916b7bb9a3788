"""Makes text from outside safe to store, to parse and to show.

Pure. Everything that a response, or anybody else's text, brings in passes here once, at the edge.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import webencodings

REPLACEMENT = "\ufffd"
MAX_JSON_DEPTH = 32
MAX_JSON_KEYS = 1_000
MAX_JSON_CONTAINERS = 20_000
MAX_JSON_DIGITS = 64

# Python's codec for a label of the Encoding Standard, where that of `webencodings` has fewer characters.
_WIDER_CODECS = {"gbk": "gb18030"}
_JSON_BEGINS = frozenset(b'{["-0123456789tfn \t\r\n')
_SEVEN_BIT = frozenset({"iso-2022-jp", "replacement"})
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16le"), (codecs.BOM_UTF16_BE, "utf-16be"))
_CHARSET = re.compile(
    r";\s*charset\s*=\s*(?:\"\s*([^\";]{1,40}?)\s*\"|'\s*([^';]{1,40}?)\s*'|([^\s;\"']{1,40}))", re.IGNORECASE
)
# Also a line or a record of JSON after the other, which is UTF-8 as well (RFC 7464).
_JSON_TYPE = re.compile(
    r"\s*(?:(?:application|text)/(?:x-)?(?:json|ndjson|jsonl|jsonlines|json-seq)|[^\s;]+\+json)\s*(?:;|\Z)",
    re.IGNORECASE,
)
_MARKUP_TYPE = re.compile(
    r"\s*(?:text/html|application/xhtml\+xml|(?:text|application)/xml|[^\s;]+\+xml)\b", re.IGNORECASE
)
# Where browsers look for what a document says of itself: the XML declaration, and `meta` in the first 1,024 bytes.
_PRESCAN = 1_024
_XML_ENCODING = re.compile(rb"\A<\?xml[^>]{0,200}?\sencoding\s*=\s*[\"']([A-Za-z0-9._:-]{1,40})[\"']")
_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_META_CHARSET = re.compile(
    rb"<meta\s(?:[^>]{0,400}?(?<![\w-]))?charset\s*=\s*[\"']?\s*([A-Za-z0-9._:-]{1,40})", re.IGNORECASE
)
_ENCODED_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# The closing quote is optional so that an unterminated string costs one pass and not one per quote.
_JSON_MARK = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class CleanText:
    """Text that PostgreSQL stores and JSON carries. `flags` name what was changed, sorted.

    `nul_removed`, `surrogates_replaced`, `controls_replaced` (C0 but tab and line ends, DEL, C1), `not_utf8` (read in
    another charset, or not decodable throughout), `undecodable_replaced` and, beside it, `unknown_charset` (the
    label is none of the Encoding Standard; read as if none were given).
    """

    text: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unparsable:
    """Why a text is not usable JSON: one plain sentence that repeats nothing of the text."""

    reason: str


class _RefusedError(ValueError):
    """Carries the reason out of the hooks of the JSON parser."""


def clean_text(raw: bytes, content_type: str | None, *, truncated: bool = False) -> CleanText:
    """Decode `raw` by the Encoding Standard (https://encoding.spec.whatwg.org); never raises.

    A byte order mark wins. JSON is UTF-8 (RFC 8259) wherever its bytes are, or the UTF-16 that its first bytes show.
    Then the label of `content_type` counts, then what XML or HTML says of itself, then UTF-8.

    `truncated` says that bytes are missing at the end: a character cut in two is then dropped instead of replaced.
    """
    flags: set[str] = set()
    text = _decode(raw, _charset(raw, content_type, truncated), truncated, flags)
    if "undecodable_replaced" in flags and _is_unknown(content_type):
        flags.add("unknown_charset")
    if text.isprintable() and not flags:
        return CleanText(text)
    return CleanText(_scrub(text, flags), tuple(sorted(flags)))


def clean_str(text: str) -> str:
    """Return `text` without NUL, with lone surrogates and other control characters replaced by U+FFFD."""
    return text if text.isprintable() else _scrub(text, set())


def safe_json(text: str) -> object | Unparsable:
    """Parse JSON from outside, or say why not; never raises.

    Refused: deeper than 32, over 1,000 keys in one object, over 20,000 objects and arrays, the same key twice, NaN and
    infinities (also by overflow, `1e400`), integers of over 64 digits. NUL in strings is removed and lone surrogates
    are replaced, so that the value can be stored as jsonb.
    """
    try:
        _measure(text)
        value: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_finite,
            parse_int=_bounded,
            parse_constant=_constant,
        )
        return _clean_value(value)
    except _RefusedError as refusal:
        return Unparsable(str(refusal))
    except (ValueError, RecursionError):
        return Unparsable("The text is not JSON.")


def _is_unknown(content_type: str | None) -> bool:
    label = _told(content_type)[0]
    return label is not None and _encoding(label) is None


def _charset(raw: bytes, content_type: str | None, truncated: bool) -> str:
    """Return the name of the Encoding Standard for the encoding in which `raw` is read."""
    for mark, name in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            return name
    label, is_json, is_markup = _told(content_type)
    named = None if label is None else _encoding(label)
    if is_json and (found := _of_json(raw, named, truncated)) is not None:
        return found
    if named is None and is_markup:
        declared = _XML_ENCODING.match(raw) or _META_CHARSET.search(_COMMENT.sub(b"", raw[:_PRESCAN]))
        named = _encoding(declared[1].decode("ascii")) if declared is not None else None
        # Bytes that spell a declaration in ASCII are no UTF-16.
        named = "utf-8" if named in ("utf-16le", "utf-16be") else named
    return named or "utf-8"


@lru_cache(maxsize=256)
def _told(content_type: str | None) -> tuple[str | None, bool, bool]:
    """Return the label that a content type has, and whether it is JSON's, or XML's or HTML's."""
    text = content_type or ""
    found = _CHARSET.search(text)
    label = (found[1] or found[2] or found[3]) if found is not None else None
    return label, _JSON_TYPE.match(text) is not None, _MARKUP_TYPE.match(text) is not None


@lru_cache(maxsize=256)
def _encoding(label: str) -> str | None:
    found = webencodings.lookup(label)
    return None if found is None else found.name


def _of_json(raw: bytes, named: str | None, truncated: bool) -> str | None:
    """Return the encoding that the bytes of JSON show by themselves; None where they leave it open."""
    # JSON begins with an ASCII character, so that a zero beside it is the other half of UTF-16.
    if raw[1:2] == b"\0" and raw[0] in _JSON_BEGINS:
        return "utf-16le"
    if raw[:1] == b"\0" and raw[1:2] and raw[1] in _JSON_BEGINS:
        return "utf-16be"
    if named in _SEVEN_BIT and b"\x1b" in raw:
        return None
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(raw, final=not truncated)
    except UnicodeError:
        return None
    return "utf-8"


def _decode(raw: bytes, charset: str, truncated: bool, flags: set[str]) -> str:
    for mark, name in _BYTE_ORDER_MARKS:
        if charset == name and raw.startswith(mark):
            raw = raw[len(mark) :]
    if charset != "utf-8":
        flags.add("not_utf8")
    if charset == "replacement":
        # Encodings in which one text can hide another; the standard has them unread.
        flags.add("undecodable_replaced")
        return REPLACEMENT if raw else ""
    decoder = _decoder(charset)
    try:
        return decoder("strict").decode(raw, final=not truncated)
    except UnicodeError:
        flags.update(("not_utf8", "undecodable_replaced"))
    if charset == "utf-8" and _ENCODED_SURROGATE.search(raw):
        flags.add("surrogates_replaced")
        raw = _ENCODED_SURROGATE.sub(REPLACEMENT.encode(), raw)
    return decoder("replace").decode(raw, final=not truncated)


@lru_cache(maxsize=64)
def _decoder(charset: str) -> Callable[[str], codecs.IncrementalDecoder]:
    if charset in _WIDER_CODECS:
        return codecs.getincrementaldecoder(_WIDER_CODECS[charset])
    info = webencodings.lookup(charset).codec_info
    return cast("Callable[[str], codecs.IncrementalDecoder]", info.incrementaldecoder)


def _scrub(text: str, flags: set[str]) -> str:
    if "\x00" in text:
        flags.add("nul_removed")
        text = text.replace("\x00", "")
    if _SURROGATE.search(text):
        flags.add("surrogates_replaced")
        text = _SURROGATE.sub(REPLACEMENT, text)
    if _CONTROL.search(text):
        flags.add("controls_replaced")
        text = _CONTROL.sub(REPLACEMENT, text)
    return text


def _measure(text: str) -> None:
    """Refuse deep or crowded documents before the recursive parser sees them."""
    depth = containers = 0
    for mark in _JSON_MARK.finditer(text):
        match mark[0]:
            case "[" | "{":
                depth += 1
                containers += 1
                if depth > MAX_JSON_DEPTH:
                    raise _RefusedError(f"The JSON is nested deeper than {MAX_JSON_DEPTH} levels.")
                if containers > MAX_JSON_CONTAINERS:
                    raise _RefusedError(f"The JSON has more than {MAX_JSON_CONTAINERS} objects and arrays.")
            case "]" | "}":
                depth -= 1


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MAX_JSON_KEYS:
        raise _RefusedError(f"A JSON object has more than {MAX_JSON_KEYS} keys.")
    result = {_storable(key): value for key, value in pairs}
    if len(result) < len(pairs):
        raise _RefusedError("A JSON object has the same key twice.")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RefusedError("A JSON number is out of range.")
    return value


def _bounded(text: str) -> int:
    if len(text) > MAX_JSON_DIGITS:
        raise _RefusedError(f"A JSON integer has more than {MAX_JSON_DIGITS} digits.")
    return int(text)


def _constant(_name: str) -> float:
    raise _RefusedError("JSON has no NaN and no infinities.")


def _clean_value(value: object) -> object:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, list):
        return [_clean_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _clean_value(item) for key, item in value.items()}
    return value


def _storable(text: str) -> str:
    return _SURROGATE.sub(REPLACEMENT, text.replace("\x00", ""))
