"""Text from people: what names and descriptions may contain, and what PostgreSQL cannot store. Pure."""

import re
import unicodedata
from collections.abc import Iterator

from jobs.errors import Fault, InvalidInputError

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Marks that turn the direction of text, and tag characters: both make a name look like another one.
_DISGUISING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\U000e0000-\U000e007f]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_LINES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# Letters and symbols by category that draw nothing: Hangul fillers and the blank Braille pattern.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


def clean_name(field: str, value: object, *, limit: int = 255) -> str:
    """One visible line without spaces at its ends. Raises InvalidInputError."""
    text = _text(field, value).strip()
    if not text:
        raise InvalidInputError(Fault(field, "blank", "A name is needed."))
    _check_length(field, text, limit)
    if _CONTROL.search(text) or _DISGUISING.search(text):
        raise InvalidInputError(
            Fault(field, "invalid_characters", "Control, line-breaking and direction characters are not allowed.")
        )
    if not any(_is_visible(character) for character in text):
        raise InvalidInputError(Fault(field, "blank", "The name has no visible character."))
    return text


def clean_paragraph(field: str, value: object, *, limit: int) -> str:
    """Text of several lines, kept as it is. Raises InvalidInputError."""
    text = _text(field, value)
    _check_length(field, text, limit)
    if _CONTROL_BUT_LINES.search(text):
        raise InvalidInputError(
            Fault(field, "invalid_characters", "Control characters other than tab and line ends are not allowed.")
        )
    return text


def check_storable(field: str, value: object) -> None:
    """Raises InvalidInputError where a JSON value holds NUL or a lone surrogate, naming each place below `field`."""
    faults = [
        Fault(path, "invalid_characters", "NUL and lone surrogates are not allowed.")
        for path in unstorable_places(value, field)
    ]
    if faults:
        raise InvalidInputError(*faults[:20])


def unstorable_places(value: object, path: str = "") -> Iterator[str]:
    """The paths of texts in a JSON value, keys too, that hold NUL or a lone surrogate; `path` is that of the value."""
    waiting: list[tuple[str, object]] = [(path, value)]
    while waiting:
        at, item = waiting.pop()
        if isinstance(item, str):
            if _UNSTORABLE.search(item):
                yield at
        elif isinstance(item, list):
            waiting += [(f"{at}[{number}]", part) for number, part in enumerate(item)]
        elif isinstance(item, dict):
            for key, part in item.items():
                if _UNSTORABLE.search(key):
                    yield at
                else:
                    waiting.append((f"{at}.{key}" if at else key, part))


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(Fault(field, "invalid_type", "Give a text."))
    if _UNSTORABLE.search(value):
        raise InvalidInputError(Fault(field, "invalid_characters", "NUL and lone surrogates are not allowed."))
    return value


def _check_length(field: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise InvalidInputError(Fault(field, "too_long", f"At most {limit} characters."))


def _is_visible(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNPS" and character not in _BLANK_LETTERS
