"""Masks echoes of secrets in text from outside. Pure.

A masker is compiled once for a set of secrets; what it costs then hardly depends on how many there are.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

MIN_SECRET_LENGTH = 4
LEAST_BEGINNING = 8
MASK = "********"

# A regular expression is the quickest for the few secrets of one endpoint, and far too slow for those of many.
_MOST_ALTERNATIVES = 100
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")
_MARKUP = re.compile("[<>&'\"`+=]")
_LEFT_BY_JAVASCRIPT = tuple((f"%{ord(sign):02{case}}", sign) for sign in "!*'()" for case in "Xx")
_ESCAPED_BYTE = re.compile(r"%[0-9A-F]{2}")


class Masker:
    """Replaces every echo of some secrets by asterisks.

    Found are the secret itself, its last word (the token of `Bearer token`), the credentials and the password of
    `Basic`, and of each what escaping for JSON, JavaScript, HTML and URLs, and base64 make of it; also a beginning of
    eight characters or more at the very end of the text, where a cut may have split it. What follows a secret is masked
    as far as it agrees with a longer one. Secrets shorter than four characters are left alone: they would blank out
    ordinary words.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: Final = sorted(_forms(secrets))
        self._shortest: Final = _shortest_of_chains(self._forms)
        self.longest: Final = max(map(len, self._forms), default=0)
        self._heads: Final = {form[:MIN_SECRET_LENGTH] for form in self._forms}
        anchors = {form[:LEAST_BEGINNING] for form in self._forms}
        few = len(anchors) <= _MOST_ALTERNATIVES
        self._anchor: Final = re.compile("|".join(map(re.escape, sorted(anchors)))) if few else None

    def __call__(self, text: str) -> str:
        """The text without what is secret."""
        if not self._forms:
            return text
        kept: list[str] = []
        done = 0
        for start in self._starts(text):
            if start < done:
                continue
            length = self._length_at(text, start)
            if length:
                kept += (text[done:start], MASK)
                done = start + length
        return "".join((*kept, text[done:]))

    def _starts(self, text: str) -> Iterator[int]:
        """Where a form may begin."""
        if self._anchor is None:
            last = len(text) - MIN_SECRET_LENGTH
            return (at for at in range(last + 1) if text[at : at + MIN_SECRET_LENGTH] in self._heads)
        return self._anchors_in(text, self._anchor)

    @staticmethod
    def _anchors_in(text: str, anchor: re.Pattern[str]) -> Iterator[int]:
        found = anchor.search(text)
        while found is not None:
            yield found.start()
            found = anchor.search(text, found.start() + 1)

    def _length_at(self, text: str, start: int) -> int:
        """How many characters to mask from `start` on; 0 for none."""
        ahead = text[start : start + self.longest]
        place = bisect_right(self._forms, ahead)
        # Whatever form the text goes on with, the last one that sorts before the text begins with it.
        if place and ahead.startswith(self._shortest[place - 1]):
            return max(_agreement(ahead, form) for form in self._forms[place - 1 : place + 1])
        is_cut = LEAST_BEGINNING <= len(ahead) == len(text) - start
        if is_cut and place < len(self._forms) and self._forms[place].startswith(ahead):
            return len(ahead)
        return 0


def _agreement(left: str, right: str) -> int:
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _shortest_of_chains(forms: list[str]) -> list[str]:
    """For each of the sorted forms the shortest one that it begins with, which may be itself."""
    shortest: list[str] = []
    for form in forms:
        before = shortest[-1] if shortest else ""
        shortest.append(before if before and form.startswith(before) else form)
    return shortest


def _forms(secrets: Iterable[str]) -> set[str]:
    forms: set[str] = set()
    for secret in set(secrets):
        values = [value for value in _values(secret.strip()) if len(value) >= MIN_SECRET_LENGTH]
        forms.update(form for value in values for form in _escaped(value))
        # Base64 of the whole holds that of its last word.
        forms.update(form for value in values[1:] or values for form in _in_base64(value))
    return forms


def _values(secret: str) -> Iterator[str]:
    """The parts of a header's value that are secret by themselves."""
    yield secret
    scheme, _, word = secret.rpartition(" ")
    if not scheme:
        return
    yield word
    if scheme.strip().lower() == "basic":
        try:
            credentials = base64.b64decode(word, validate=True).decode()
        except (binascii.Error, UnicodeError):
            return
        yield credentials
        yield credentials.partition(":")[2]


def _escaped(value: str) -> Iterator[str]:
    yield value
    if _PLAIN.fullmatch(value):
        return
    in_url = quote(value, safe="")
    for form in (in_url, _ESCAPED_BYTE.sub(lambda found: found[0].lower(), in_url)):
        yield from (form, form.replace("%2F", "/").replace("%2f", "/"), form.replace("%20", "+"))
        for code, sign in _LEFT_BY_JAVASCRIPT:
            form = form.replace(code, sign)
        yield form
    in_json = json.dumps(value)[1:-1]
    yield in_json
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield in_json.replace("/", "\\/")  # PHP
    if not _MARKUP.search(value):
        return
    yield _in_unicode(in_json, "<>&")  # Go
    yield _in_unicode(in_json, "<>&'")  # Python's filters for templates
    yield _in_unicode(in_json, "<>&'=")  # Gson
    strict = json.dumps(value.replace('"', "\x00"))[1:-1].replace("\\u0000", "\\u0022")
    yield _in_unicode(strict, "<>&'", upper=True).replace("/", "\\/")  # PHP with all of its flags
    yield _in_unicode(strict, "<>&'+`", upper=True)  # .NET
    in_html = html.escape(value)
    yield from (in_html, html.escape(value, quote=False), in_html.replace("&#x27;", "&#39;"))
    yield in_html.replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    yield in_html.replace("&#x27;", "&#39;").replace("&quot;", "&#34;").replace("+", "&#43;")  # Go
    yield in_html.replace("+", "&#x2B;")  # .NET


def _in_unicode(text: str, signs: str, *, upper: bool = False) -> str:
    for sign in signs:
        code = f"{ord(sign):04X}" if upper else f"{ord(sign):04x}"
        text = text.replace(sign, f"\\u{code}")
    return text


def _in_base64(value: str) -> Iterator[str]:
    """What base64 of a text that holds the value surely holds, wherever in it the value begins."""
    raw = value.encode("utf-8", "replace")
    for before in range(3):
        # The first characters depend on what stands before too, the last ones on what comes after.
        whole = base64.b64encode(b"\0" * before + raw).decode()
        sure = whole[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]
        if len(sure) >= LEAST_BEGINNING:
            yield sure
            yield sure.replace("+", "-").replace("/", "_")


NO_SECRETS: Final = Masker()
