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
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

MIN_SECRET_LENGTH = 4
# A shorter number is masked only where it is the whole of a JSON string; a longer one as a word of its own.
MIN_NUMBER_LENGTH = 8
# From here on a value that is no plain words or number stands nowhere by chance, so that it is masked inside words too.
MIN_DISTINCTIVE_LENGTH = 16
LEAST_BEGINNING = 8
MASK = "********"

# A regular expression is the quickest for the few secrets of one endpoint, and far too slow for those of many.
_MOST_ALTERNATIVES = 100
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")
_MARKUP = re.compile("[<>&'\"`+=]")
_LEFT_BY_JAVASCRIPT = tuple((f"%{ord(sign):02{case}}", sign) for sign in "!*'()" for case in "Xx")
_ESCAPED_BYTE = re.compile(r"%[0-9A-F]{2}")

_LITERALS = frozenset({"false", "nan", "none", "null", "off", "true", "undefined"})
_NUMBER = re.compile(r"[0-9][0-9.,:+-]*|[+-][0-9][0-9.,:+-]*")
_WORDS = re.compile(r"[A-Za-z]+(?:[^A-Za-z0-9]+[A-Za-z]+)*[^A-Za-z0-9]?")
_DATE = re.compile(
    r"(?:[A-Z][a-z]{2,8}, )?[0-9]{1,2}[ -][A-Z][a-z]{2}[ -][0-9]{2,4} [0-9:]{8}(?: GMT)?"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.]+(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_SCHEMES = frozenset({"apikey", "basic", "bearer", "digest", "hmac", "key", "negotiate", "token"})
# `name=value; name=value`, as in Cookie.
_COOKIES = re.compile(r"[^=;\s]++=[^;]*+(?:;\s*[^=;\s]++=[^;]*+)*+;?\s*")
_ESCAPE_BEFORE = re.compile(r"(?:%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\[abefnrtv])\Z")

# All tokens of JSON, and of what Python calls so, up to where it may have been cut; possessive: one pass decides.
_JSON = re.compile(
    r'(?:[ \t\r\n]*+(?:"(?:[^"\\]++|\\.)*+"|[-0-9][-+.0-9eE]*+|true|false|null|NaN|-?Infinity|[\[\]{},:]))*+'
    r'[ \t\r\n]*+(?:"(?:[^"\\]++|\\.)*+\\?|t[rue]*|f[alse]*|n[ul]*)?',
    re.DOTALL,
)
_JSON_STRING = re.compile(r'"((?:[^"\\]++|\\.)*+)(?:(")([ \t\r\n]*+:)?|\\?\Z)', re.DOTALL)
# Their values are words of the protocol: media types, dates and numbers. Only what is distinctive is masked in them.
_PROTOCOL_HEADERS = frozenset(
    {"content-encoding", "content-length", "content-type", "date", "last-modified", "retry-after"}
)


class Masker:
    """Replaces every echo of some secrets by asterisks.

    Found are the secret itself, the token of `Bearer token`, the credentials and the password of `Basic`, the values of
    cookies where they are distinctive, and of each
    what escaping for JSON, JavaScript, HTML and URLs, and base64 make of it; also a beginning of eight characters or
    more at the very end of the text, where a cut may have split it. What follows a secret is masked as far as it agrees
    with a longer one.

    A secret of 16 characters or more, unless it consists of plain words or is a number, is masked wherever it stands;
    any other as a whole token, with no letter, digit or underscore beside it. Left alone are secrets shorter than four
    characters, JSON's literals, and numbers shorter than eight characters where they are not the whole of a JSON
    string: masking them would hide nothing and damage unrelated data.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        anywhere: set[str] = set()
        tokens: dict[str, tuple[bool, bool]] = {}
        self._numbers: Final[set[str]] = set()
        for value in {value for secret in set(secrets) for value in _values(secret.strip())}:
            if len(value) < MIN_SECRET_LENGTH or value.lower() in _LITERALS:
                continue
            if _NUMBER.fullmatch(value) and len(value) < MIN_NUMBER_LENGTH:
                self._numbers.add(value)
                continue
            anywhere.update(_in_base64(value))
            if _is_distinctive(value):
                anywhere.update(_escaped(value))
                continue
            edges = (_joins(value[0]), _joins(value[-1]))
            for form in _escaped(value):
                before, after = tokens.get(form, edges)
                tokens[form] = (before and edges[0], after and edges[1])
        self._anywhere: Final = _Echoes(dict.fromkeys(anywhere, (False, False)))
        self._tokens: Final = _Echoes(tokens)
        self.longest: Final = max(self._anywhere.longest, self._tokens.longest)

    def __call__(self, text: str) -> str:
        """The text without what is secret; for text that is no JSON."""
        return self._tokens.replaced(self._anywhere.replaced(text))

    def body(self, text: str) -> str:
        """The same for a body: in JSON only strings are masked, never keys, and the rest stays as it came."""
        if not (self.longest or self._numbers) or not _JSON.fullmatch(text):
            return self(text)
        return _JSON_STRING.sub(self._in_json, text)

    def distinctive(self, text: str) -> str:
        """The text without the secrets that stand nowhere by chance; for words of a protocol."""
        return self._anywhere.replaced(text)

    def header(self, name: str, value: str) -> str:
        """The value of the response header `name`, in lower case, without what is secret."""
        if name == "content-type":
            kind, *parameters = value.split(";")
            return ";".join([self.distinctive(kind), *map(self._parameter, parameters)])
        if name in _PROTOCOL_HEADERS or "ratelimit" in name:
            return self.distinctive(value)
        return self(value)

    def _parameter(self, text: str) -> str:
        is_charset = text.partition("=")[0].strip().lower() == "charset"
        return self.distinctive(text) if is_charset else self(text)

    def _in_json(self, found: re.Match[str]) -> str:
        raw, closed, is_key = found.groups()
        if is_key:
            return found[0]
        text = raw
        if "\\" in raw:
            try:
                text = json.loads(f'"{raw}"', strict=False)
            except ValueError:
                # An escape that JSON does not have, or one that was cut.
                return found[0].replace(raw, self(raw), 1)
        masked = MASK if text.strip() in self._numbers else self._in_string(text, is_cut=closed is None)
        if masked == text:
            return found[0]
        if text is not raw:
            masked = json.dumps(masked, ensure_ascii=raw.isascii() or not masked.isprintable())[1:-1]
        return f'"{masked}"{is_key or ""}' if closed else f'"{masked}'

    def _in_string(self, text: str, *, is_cut: bool) -> str:
        return self._tokens.replaced(self._anywhere.replaced(text, is_cut=is_cut), is_cut=is_cut)


class _Echoes:
    """Replaces some forms of secrets. `edges` says of each form whether it needs a boundary before and after it."""

    def __init__(self, edges: Mapping[str, tuple[bool, bool]]) -> None:
        self._edges: Final = edges
        self._forms: Final = sorted(edges)
        self._shortest: Final = _shortest_of_chains(self._forms)
        self._unbound: Final = {
            shortest for form, shortest in zip(self._forms, self._shortest, strict=True) if not edges[form][0]
        }
        self.longest: Final = max(map(len, self._forms), default=0)
        self._heads: Final = {form[:MIN_SECRET_LENGTH] for form in self._forms}
        anchors = {form[:LEAST_BEGINNING] for form in self._forms}
        few = len(anchors) <= _MOST_ALTERNATIVES
        self._anchor: Final = re.compile("|".join(map(re.escape, sorted(anchors)))) if few else None

    def replaced(self, text: str, *, is_cut: bool = True) -> str:
        """The text without the forms; `is_cut` says that one may begin at its end and go on beyond."""
        if not self._forms:
            return text
        kept: list[str] = []
        done = 0
        for start in self._starts(text):
            if start < done:
                continue
            length = self._length_at(text, start, is_cut)
            if length:
                kept += (text[done:start], MASK)
                done = start + length
        return "".join((*kept, text[done:])) if kept else text

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

    def _length_at(self, text: str, start: int, is_cut: bool) -> int:
        """How many characters to mask from `start` on; 0 for none."""
        ahead = text[start : start + self.longest]
        place = bisect_right(self._forms, ahead)
        # Whatever form the text goes on with, the last one that sorts before the text begins with it.
        if place and ahead.startswith(self._shortest[place - 1]):
            if not self._is_whole(text, start, ahead, place):
                return 0
            return max(_agreement(ahead, form) for form in self._forms[place - 1 : place + 1])
        if not (is_cut and LEAST_BEGINNING <= len(ahead) == len(text) - start):
            return 0
        if place < len(self._forms) and self._forms[place].startswith(ahead):
            form = self._forms[place]
            whole = not self._edges[form][0] or _begins(text, start)
            return len(ahead) if whole and not _is_ordinary(form) else 0
        return 0

    def _is_whole(self, text: str, start: int, ahead: str, place: int) -> bool:
        """Whether one of the forms that the text goes on with has the boundaries that it needs."""
        shortest = self._shortest[place - 1]
        free = _begins(text, start)
        if not free and shortest not in self._unbound:
            return False
        while place and self._shortest[place - 1] == shortest:
            form = self._forms[place - 1]
            if ahead.startswith(form):
                before, after = self._edges[form]
                if (free or not before) and (not after or _ends(text, start + len(form))):
                    return True
                place -= 1
            else:
                # Those in between begin with more of this form than the text does.
                place = bisect_right(self._forms, ahead[: _agreement(ahead, form)], 0, place - 1)
        return False


def _begins(text: str, start: int) -> bool:
    """Whether a token may begin at `start`: the character before, or the escape that it ends, is no part of a word."""
    if not start:
        return True
    before = text[start - 1]
    if before in ".," and text[start].isdigit() and text[start - 2 : start - 1].isdigit():
        return False  # the fraction of a number
    return not _joins(before) or _ESCAPE_BEFORE.search(text[max(start - 6, 0) : start]) is not None


def _ends(text: str, end: int) -> bool:
    """Whether a token may end before `end`."""
    if end >= len(text):
        return True
    if text[end] in ".," and text[end - 1].isdigit() and text[end + 1 : end + 2].isdigit():
        return False
    return not _joins(text[end])


def _joins(character: str) -> bool:
    """Whether the character makes one word with a letter or digit beside it."""
    return character.isalnum() or character == "_"


def _is_ordinary(value: str) -> bool:
    """Whether the value consists of plain words, or is a number or a date: such values stand in unrelated data too."""
    if len(value) < 2 * MIN_DISTINCTIVE_LENGTH and _NUMBER.fullmatch(value):
        return True
    return _WORDS.fullmatch(value) is not None or _DATE.fullmatch(value) is not None


def _is_distinctive(value: str) -> bool:
    """Whether the value stands nowhere by chance."""
    return len(value) >= MIN_DISTINCTIVE_LENGTH and not _is_ordinary(value)


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


def _values(secret: str) -> Iterator[str]:
    """The parts of a header's value that are secret by themselves."""
    yield secret
    if _COOKIES.fullmatch(secret):
        values = (pair.partition("=")[2].strip(' "') for pair in secret.split(";"))
        yield from (value for value in values if _is_distinctive(value))
    first, _, word = secret.rpartition(" ")
    scheme = first.strip().lower()
    if not scheme or (_is_ordinary(word) and scheme not in _SCHEMES):
        return
    yield word
    if scheme == "basic":
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
