"""Text from outside: always storable, never dangerous to parse, never an echo of a secret."""

from __future__ import annotations

import codecs
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webencodings.labels import LABELS

from scheduling.exchange.bodies import Unparsable, clean_str, clean_text, safe_json

STORABLE_CONTROLS = "\t\n\r"


def is_storable(text: str) -> bool:
    text.encode("utf-8")
    return all(ord(char) >= 32 or char in STORABLE_CONTROLS for char in text)


@pytest.mark.parametrize(
    ("raw", "content_type", "text", "flags"),
    [
        (b"plain\r\n\ttext", None, "plain\r\n\ttext", ()),
        ("héllo ☃".encode(), "text/plain; charset=utf-8", "héllo ☃", ()),
        (codecs.BOM_UTF8 + b"{}", "application/json", "{}", ()),
        (b"a\x00b\x00", None, "ab", ("nul_removed",)),
        (b"a\x1bb\x7f", None, "a\ufffdb\ufffd", ("controls_replaced",)),
        ("a\x9bb".encode(), None, "a\ufffdb", ("controls_replaced",)),
        (b"a\xffb", None, "a\ufffdb", ("not_utf8", "undecodable_replaced")),
        (b"\xed\xa0\x80!", None, "\ufffd!", ("not_utf8", "surrogates_replaced", "undecodable_replaced")),
        ("é".encode("latin-1"), "text/html; charset=ISO-8859-1", "é", ("not_utf8",)),
        ("é".encode("cp1252"), 'text/html; Charset="windows-1252"', "é", ("not_utf8",)),
        ("日本".encode("shift_jis"), "text/html;charset=Shift_JIS", "日本", ("not_utf8",)),
        ("hi".encode("utf-16"), "text/plain; charset=utf-16", "hi", ("not_utf8",)),
        (b"h\x00i\x00", "text/plain; charset=utf-16", "hi", ("not_utf8",)),
        (b"\xff\xfe\x00\xd8", "text/plain; charset=utf-16", "\ufffd", ("not_utf8", "undecodable_replaced")),
        (b"caf\xe9", "text/plain; charset=us-ascii", "café", ("not_utf8",)),
        (b"caf\xe9", "text/plain; charset=wtf", "caf\ufffd", ("not_utf8", "undecodable_replaced", "unknown_charset")),
        ("é".encode(), "text/plain; charset=nonsense", "é", ()),
        ("é".encode(), "text/plain; charset=rot13", "é", ()),
        (b"xn--a", "text/plain; charset=punycode", "xn--a", ()),
        (b"\\u0041", "text/plain; charset=unicode_escape", "\\u0041", ()),
        (b"", None, "", ()),
    ],
)
def test_bytes_become_text_with_flags(raw: bytes, content_type: str | None, text: str, flags: tuple[str, ...]) -> None:
    clean = clean_text(raw, content_type)
    assert (clean.text, clean.flags) == (text, flags)


@pytest.mark.parametrize(
    ("raw", "content_type", "text"),
    [
        pytest.param(codecs.BOM_UTF8 + "é".encode(), "text/plain; charset=latin1", "é", id="UTF-8 mark over a label"),
        pytest.param("\ufeffhi".encode("utf-16-be"), "text/plain; charset=utf-8", "hi", id="UTF-16BE mark"),
        pytest.param("\ufeffhi".encode("utf-16-le"), None, "hi", id="UTF-16LE mark without a label"),
        pytest.param(b"\x80\x93", "text/plain; charset=iso-8859-1", "€“", id="iso-8859-1 is windows-1252"),
        pytest.param(b"\x80", "text/plain; charset=latin1", "€", id="latin1 is windows-1252"),
        pytest.param("①髙".encode("cp932"), "text/plain; charset=x-sjis", "①髙", id="x-sjis"),
        pytest.param("①髙".encode("cp932"), "text/plain; charset=Windows-31J", "①髙", id="windows-31j"),
        pytest.param("สวัสดี".encode("cp874"), "text/plain; charset=windows-874", "สวัสดี", id="windows-874"),
        pytest.param("สวัสดี".encode("cp874"), "text/plain; charset=tis-620", "สวัสดี", id="tis-620"),
        pytest.param("Привет".encode("cp866"), "text/plain; charset=ibm866", "Привет", id="ibm866"),
        pytest.param("Привет".encode("koi8-r"), "text/plain; charset=koi", "Привет", id="koi"),
        pytest.param("똠방".encode("cp949"), "text/plain; charset=euc-kr", "똠방", id="euc-kr with its extension"),
        pytest.param("€䶮".encode("gb18030"), "text/plain; charset=gb2312", "€䶮", id="gb2312 is read as gb18030"),
        pytest.param("日本".encode("iso2022_jp"), "text/plain; charset=iso-2022-jp", "日本", id="iso-2022-jp"),
        pytest.param("é".encode("mac-roman"), "text/plain; charset=x-mac-roman", "é", id="macintosh"),
        pytest.param(b"\x0e$)C", "text/plain; charset=iso-2022-kr", "\ufffd", id="an encoding that hides text"),
        pytest.param("é".encode(), "text/plain; charset=' utf8 '", "é", id="label in single quotes"),
        pytest.param(
            "é".encode("cp1251", "replace"), 'text/plain; charset=" cp1251 "', "?", id="blanks around a label"
        ),
        pytest.param('{"a":"é"}'.encode(), "application/json; charset=latin1", '{"a":"é"}', id="UTF-8 JSON"),
        pytest.param('["é"]'.encode(), "application/problem+json; charset=cp1252", '["é"]', id="a kind of JSON"),
        pytest.param(b'["\xe9"]', "application/json; charset=latin1", '["é"]', id="JSON that really is latin1"),
        pytest.param('["é"]'.encode("utf-16-le"), "application/json", '["é"]', id="UTF-16 JSON without a mark"),
        pytest.param('["é"]'.encode("utf-16-be"), "application/json; charset=utf-8", '["é"]', id="mislabelled UTF-16"),
        pytest.param('["é"]'.encode(), "application/json; charset=utf-16", '["é"]', id="UTF-8 JSON called UTF-16"),
        pytest.param('["日"]'.encode("iso2022_jp"), "application/json; charset=iso-2022-jp", '["日"]', id="7-bit JSON"),
        pytest.param(
            '<?xml version="1.0" encoding="windows-1251"?><a>Да</a>'.encode("cp1251"),
            "application/xml",
            '<?xml version="1.0" encoding="windows-1251"?><a>Да</a>',
            id="XML declaration",
        ),
        pytest.param(
            '<meta http-equiv=x content="text/html; charset=koi8-r">Да'.encode("koi8-r"),
            "text/html",
            '<meta http-equiv=x content="text/html; charset=koi8-r">Да',
            id="HTML meta",
        ),
        pytest.param(
            '<meta charset="utf-16">é'.encode(), "text/html", '<meta charset="utf-16">é', id="meta that cannot be true"
        ),
        pytest.param(
            '<meta charset="koi8-r">é'.encode(),
            "text/html; charset=utf-8",
            '<meta charset="koi8-r">é',
            id="label first",
        ),
        pytest.param('<meta charset="koi8-r">é'.encode(), "text/plain", '<meta charset="koi8-r">é', id="no HTML"),
        pytest.param(
            "<!-- <meta charset=koi8-r> -->é".encode(), "text/html", "<!-- <meta charset=koi8-r> -->é", id="comment"
        ),
        pytest.param(
            '<meta data-charset="koi8-r">é'.encode(), "text/html", '<meta data-charset="koi8-r">é', id="other attribute"
        ),
        pytest.param(
            '{"a": "é"}\n'.encode(), "application/x-ndjson; charset=latin1", '{"a": "é"}\n', id="lines of JSON"
        ),
        pytest.param('"é"\n'.encode(), "application/json-seq; charset=latin1", '"é"\n', id="sequence of JSON"),
    ],
)
def test_text_is_read_by_the_encoding_standard(raw: bytes, content_type: str | None, text: str) -> None:
    assert clean_text(raw, content_type).text == text


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        ("a日".encode()[:3], "application/json; charset=latin1"),
        ("a日".encode("cp932")[:2], "text/plain; charset=x-sjis"),
        ("a日".encode("utf-16-le")[:3], "text/plain; charset=utf-16"),
        ("a😀".encode("gb18030")[:3], "text/plain; charset=gbk"),
        (codecs.BOM_UTF8 + "a日".encode()[:2], "text/plain; charset=latin1"),
    ],
)
def test_character_that_the_cap_cuts_is_dropped_in_every_charset(raw: bytes, content_type: str) -> None:
    assert clean_text(raw, content_type, truncated=True).text == "a"


def test_character_cut_in_two_is_dropped_from_a_truncated_body() -> None:
    assert clean_text("aé".encode()[:2], None, truncated=True) == clean_text(b"a", None)
    assert clean_text("aé".encode()[:2], None).text == "a\ufffd"


@given(
    st.binary(max_size=300),
    st.sampled_from([None, "utf-8", "utf-16", "utf-32", "gb18030", "latin-1", "idna"]),
    st.booleans(),
)
def test_any_bytes_become_storable_text(raw: bytes, charset: str | None, truncated: bool) -> None:
    content_type = None if charset is None else f"text/plain; charset={charset}"
    assert is_storable(clean_text(raw, content_type, truncated=truncated).text)


@given(st.text(st.characters(), max_size=50))
def test_any_str_becomes_storable(text: str) -> None:
    assert is_storable(clean_str(text + "\ud800\x00\x07"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5, true, false, null, "x"]}', {"a": [1, -2.5, True, False, None, "x"]}),
        (" 7 ", 7),
        ('"a\\u0000b"', "ab"),
        ('"\\ud800"', "\ufffd"),
        ('"\\ud83d\\ude00"', "😀"),
        ('{"k\\u0000": ["\\udfff"]}', {"k": ["\ufffd"]}),
        ("9" * 64, int("9" * 64)),
        ('"[[[[ \\" {{{{"', '[[[[ " {{{{'),
        ("[" * 32 + "]" * 32, json.loads("[" * 32 + "]" * 32)),
        (json.dumps([{str(key): key for key in range(1000)}] * 3), [{str(key): key for key in range(1000)}] * 3),
    ],
)
def test_json_is_read_and_made_storable(text: str, value: Any) -> None:
    assert safe_json(text) == value


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="unfinished"),
        pytest.param("{} {}", id="two values"),
        pytest.param("{'a': 1}", id="single quotes"),
        pytest.param("NaN", id="NaN"),
        pytest.param("[Infinity]", id="Infinity"),
        pytest.param("[-Infinity]", id="-Infinity"),
        pytest.param("1e400", id="overflow"),
        pytest.param("9" * 65, id="65 digits"),
        pytest.param("9" * 100_000, id="100,000 digits"),
        pytest.param('{"a": 1, "a": 2}', id="same key"),
        pytest.param('{"a": 1, "a\\u0000": 2}', id="same key after cleaning"),
        pytest.param("[" * 33 + "]" * 33, id="33 deep"),
        pytest.param("[" * 100_000, id="100,000 deep"),
        pytest.param('{"a":' * 100_000, id="100,000 objects deep"),
        pytest.param(json.dumps({str(key): 0 for key in range(1001)}), id="1,001 keys"),
        pytest.param("[" + "{}," * 20_000 + "{}]", id="20,001 objects"),
        pytest.param('"' + '\\"' * 300_000, id="unterminated string"),
        pytest.param('"a\nb"', id="line end in a string"),
        pytest.param("\ufeff{}", id="byte order mark"),
    ],
)
def test_unusable_json_is_refused_quickly_with_a_reason(text: str) -> None:
    begun = time.process_time()
    answer = safe_json(text)
    assert isinstance(answer, Unparsable)
    assert answer.reason.endswith(".")
    assert time.process_time() - begun < 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_ordinary_json_survives_unchanged(value: Any) -> None:
    text = json.dumps(value)
    parsed = safe_json(text)
    if "\\u0000" not in text:
        assert parsed == value


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_raise(text: str) -> None:
    safe_json(text)


@pytest.mark.parametrize("label", sorted(LABELS))
def test_every_label_of_the_standard_is_read_without_a_fault(label: str) -> None:
    for raw in (b"abc\x80\xff\xa4\xa2{}\x1b$B", b"", bytes(range(256))):
        for kind in ("text/plain", "application/json", "text/html"):
            for truncated in (False, True):
                clean = clean_text(raw, f"{kind}; charset={label}", truncated=truncated)
                assert is_storable(clean.text)
                assert "unknown_charset" not in clean.flags
