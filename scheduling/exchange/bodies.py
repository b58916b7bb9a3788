"""Makes text from outside safe to store, to parse and to show.

Pure. Everything that a response, or anybody else's text, brings in passes here once, at the edge.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache

REPLACEMENT = "\ufffd"
MAX_JSON_DEPTH = 32
MAX_JSON_KEYS = 1_000
MAX_JSON_CONTAINERS = 20_000
MAX_JSON_DIGITS = 64

# Codecs of Python that are linear in their input. `idna` and `punycode` are quadratic, `unicode_escape` is no charset.
_CHARSETS = {
    *("utf-8", "ascii", "utf-16", "utf-16-le", "utf-16-be", "koi8-r", "koi8-u"),
    *("shift_jis", "euc_jp", "euc_kr", "gb2312", "gbk", "gb18030", "big5", "mac-roman"),
    *(f"iso8859-{part}" for part in range(1, 17) if part != 12),
    *(f"cp{page}" for page in range(1250, 1259)),
}
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([A-Za-z0-9._:-]{1,40})", re.IGNORECASE)
_ENCODED_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# The closing quote is optional so that an unterminated string costs one pass and not one per quote.
_JSON_MARK = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class CleanText:
    """Text that PostgreSQL stores and JSON carries. `flags` name what was changed, sorted.

    `nul_removed`, `surrogates_replaced`, `controls_replaced` (C0 but tab and line ends, DEL, C1), `not_utf8` (read in
    another charset, or not decodable throughout) and `undecodable_replaced`.
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
    """Decode `raw` by the charset that `content_type` names, else UTF-8; never raises.

    `truncated` says that bytes are missing at the end: a character cut in two is then dropped instead of replaced.
    """
    flags: set[str] = set()
    text = _decode(raw, _charset(content_type), truncated, flags)
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


@lru_cache(maxsize=256)
def _charset(content_type: str | None) -> str:
    named = _CHARSET.search(content_type or "")
    if named is None:
        return "utf-8"
    try:
        name = codecs.lookup(named[1]).name
    except LookupError:
        return "utf-8"
    return name if name in _CHARSETS else "utf-8"


def _decode(raw: bytes, charset: str, truncated: bool, flags: set[str]) -> str:
    if raw.startswith(codecs.BOM_UTF8) and charset == "utf-8":
        raw = raw[len(codecs.BOM_UTF8) :]
    if charset == "utf-16" and not raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        # Python raises without a byte order mark, whatever the error handler; browsers read little-endian.
        charset = "utf-16-le"
    if charset not in ("utf-8", "ascii"):
        flags.add("not_utf8")
    try:
        if charset == "utf-8" and not truncated:
            return raw.decode()
        return codecs.getincrementaldecoder(charset)("strict").decode(raw, final=not truncated)
    except UnicodeError:
        flags.update(("not_utf8", "undecodable_replaced"))
    if charset == "utf-8" and _ENCODED_SURROGATE.search(raw):
        flags.add("surrogates_replaced")
        raw = _ENCODED_SURROGATE.sub(REPLACEMENT.encode(), raw)
    return codecs.getincrementaldecoder(charset)("replace").decode(raw, final=not truncated)


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
