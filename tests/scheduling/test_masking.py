"""Echoes of secrets, in whatever form they come back, and what it costs to find them."""

from __future__ import annotations

import base64
import html
import json
import random
import string
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.exchange.masking import MASK, Masker

SECRET = "k3y+/=<&>\"'`z"


@pytest.mark.parametrize(
    ("text", "secrets", "masked"),
    [
        ("token=s3cret!", ["s3cret!"], f"token={MASK}"),
        ('{"auth": "Bearer abc123"}', ["Bearer abc123"], f'{{"auth": "{MASK}"}}'),
        ("token abc123 echoed", ["Bearer abc123"], f"token {MASK} echoed"),
        ('{"v": "a\\"b\\\\c12"}', ['a"b\\c12'], f'{{"v": "{MASK}"}}'),
        ("?k=a%2Fb%20c%3D1", ["a/b c=1"], f"?k={MASK}"),
        ("one two-long two", ["two-", "two-long"], f"one {MASK} two"),
        ("the body was cut at sk-12345678", ["sk-123456789abcdef"], f"the body was cut at {MASK}"),
        ("nothing to see", ["s3cret!"], "nothing to see"),
        ("yes or no", ["no", "", " "], "yes or no"),
        ("unchanged", [], "unchanged"),
        ("a+b a.b", ["a.b."], "a+b a.b"),
        ("a two-lo b two-longer c", ["two-", "two-long"], f"a {MASK} b {MASK}er c"),
        ("xs3cret-0123456789s3cret-0123456789x", ["s3cret-0123456789"], f"x{MASK}{MASK}x"),
        ("é: cl\\u00e9 clé!", ["clé!", "cl\\u00e9"], f"é: {MASK} {MASK}"),
    ],
)
def test_echo_of_a_secret_is_masked(text: str, secrets: list[str], masked: str) -> None:
    assert Masker(secrets)(text) == masked


@pytest.mark.parametrize(
    "echo",
    [
        pytest.param(SECRET, id="plain"),
        pytest.param(json.dumps(SECRET), id="JSON"),
        pytest.param(json.dumps(SECRET).replace("/", "\\/"), id="PHP"),
        pytest.param("k3y+/=\\u003c\\u0026\\u003e\\\"'`z", id="Go JSON"),
        pytest.param('k3y+/\\u003d\\u003c\\u0026\\u003e\\"\\u0027`z', id="Gson"),
        pytest.param("k3y\\u002B/=\\u003C\\u0026\\u003E\\u0022\\u0027\\u0060z", id=".NET JSON"),
        pytest.param("k3y+\\/=\\u003C\\u0026\\u003E\\u0022\\u0027`z", id="PHP with all flags"),
        pytest.param(html.escape(SECRET), id="Python HTML"),
        pytest.param("k3y+/=&lt;&amp;&gt;&quot;&#39;`z", id="PHP HTML"),
        pytest.param("k3y&#43;/=&lt;&amp;&gt;&#34;&#39;`z", id="Go HTML"),
        pytest.param(html.escape(SECRET).replace("+", "&#x2B;"), id=".NET HTML"),
        pytest.param(quote(SECRET, safe=""), id="URL"),
        pytest.param(quote(SECRET), id="path of a URL"),
        pytest.param(quote_plus(SECRET), id="form"),
        pytest.param(quote(SECRET, safe="").lower(), id="URL in lower case"),
        pytest.param(quote(SECRET, safe="!*'()"), id="encodeURIComponent"),
        pytest.param(base64.b64encode(SECRET.encode()).decode(), id="base64"),
        pytest.param(base64.urlsafe_b64encode(SECRET.encode()).decode(), id="base64url"),
        pytest.param(base64.b64encode(f"u:{SECRET}".encode()).decode(), id="base64 behind two others"),
        pytest.param(base64.b64encode(f"user:{SECRET};".encode()).decode(), id="base64 in the middle"),
    ],
)
def test_what_escaping_makes_of_a_secret_is_masked(echo: str) -> None:
    masked = Masker([f"Bearer {SECRET}"])(f"you sent {echo} to us")
    assert MASK in masked
    assert "k3y" not in masked
    assert len(masked) <= len(f"you sent {MASK} to us") + 12


def test_the_credentials_of_basic_are_masked_as_they_were_typed() -> None:
    masker = Masker(["Basic " + base64.b64encode(b"alice:s3cr3t-pass").decode()])
    assert masker("user alice with s3cr3t-pass") == f"user alice with {MASK}"
    assert masker("alice:s3cr3t-pass") == MASK
    assert Masker(["Basic not-base64"])("not-base64 not-b") == f"{MASK} not-b"


def test_the_values_of_cookies_are_masked_without_their_names() -> None:
    masker = Masker(['session="Zk3jh5g2k3jh4g5k2j3h4"; theme=dark; note=plain-words-only-here; n=12345678'])
    body = '{"session": "Zk3jh5g2k3jh4g5k2j3h4", "theme": "dark", "note": "plain-words-only-here", "n": "12345678"}'
    assert masker.body(body) == body.replace("Zk3jh5g2k3jh4g5k2j3h4", MASK)


def test_short_values_are_left_alone_in_every_form() -> None:
    assert Masker(["<<", "Basic YTpi", "//"])("&lt;&lt; a:b %2F%2F") == "&lt;&lt; a:b %2F%2F"


@given(
    st.lists(st.text("abc <+", max_size=12).map("{}0123456789ab+cdef".format), max_size=6),
    st.lists(st.text("abc <+", max_size=8), max_size=8),
    st.booleans(),
)
def test_nothing_of_a_secret_is_left_however_they_overlap(secrets: list[str], around: list[str], many: bool) -> None:
    others = [f"{number:04}-unrelated" for number in range(200)] if many else []
    text = "".join(part + secret for part, secret in zip(around, secrets, strict=False))
    masked = Masker(secrets + others)(text)
    assert not any(secret.strip() in masked for secret in secrets if len(secret.strip()) >= 4)


def test_the_secrets_of_a_large_job_are_found_in_a_moment() -> None:
    chance = random.Random(7)
    letters = string.ascii_letters + string.digits + "+/"
    secrets = ["Bearer " + "".join(chance.choices(letters, k=155)) for _ in range(200 * 50)]
    body = "".join(chance.choices(letters, k=100_000)) + f" {secrets[77]} "
    begun = time.process_time()
    masked = Masker(secrets)(body)
    assert time.process_time() - begun < 5
    assert masked == f"{body[:100_000]} {MASK} "


@pytest.mark.parametrize("count", [1, 1_800])
def test_a_body_made_of_beginnings_of_a_secret_takes_no_longer(count: int) -> None:
    masker = Masker(["a" * 200 + "b", *("x" * (number + 4) for number in range(count))])
    begun = time.process_time()
    masker("a" * 100_000 + "x" * 100_000)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("body", "secret", "stored"),
    [
        pytest.param('{"queue_depth":1000}', "1000", '{"queue_depth":1000}', id="number"),
        pytest.param('{"a":-12345678.5e3}', "12345678", '{"a":-12345678.5e3}', id="part of a number"),
        pytest.param("12345678", "12345678", "12345678", id="nothing but a number"),
        pytest.param('{"ok": true,"b":null}', "true", '{"ok": true,"b":null}', id="literal"),
        pytest.param('{"ok": "true"}', "true", '{"ok": "true"}', id="literal as a text"),
        pytest.param('{"status" : "status"}', "status", f'{{"status" : "{MASK}"}}', id="key"),
        pytest.param('{"prod":{"prod-eu":1}}', "prod", '{"prod":{"prod-eu":1}}', id="part of a key"),
        pytest.param('["production", "prod"]', "prod", f'["production", "{MASK}"]', id="part of a word"),
        pytest.param('["a_prod","prod2","Oprod"]', "prod", '["a_prod","prod2","Oprod"]', id="part of a name"),
        pytest.param('{"pin": "1000"}', "1000", f'{{"pin": "{MASK}"}}', id="short number as a whole text"),
        pytest.param('{"say": "1000 items"}', "1000", '{"say": "1000 items"}', id="short number in a text"),
        pytest.param('{"say": "id 12345678."}', "12345678", f'{{"say": "id {MASK}."}}', id="long number as a token"),
        pytest.param('["token abc123 seen"]', "abc123", f'["token {MASK} seen"]', id="token"),
        pytest.param('["\\nabc123\\u0022"]', "abc123", f'["\\n{MASK}\\""]', id="token between escapes"),
        pytest.param(
            '[ 1.10,\n\t"\\u0041bc123-9",{"é":"ü"} ]', "Abc123-9", f'[ 1.10,\n\t"{MASK}",{{"é":"ü"}} ]', id="rest"
        ),
        pytest.param('["\\u0073\\u0033cr3t-value"]', "s3cr3t-value", f'["{MASK}"]', id="any character may be escaped"),
        pytest.param(
            '{"in": "{\\"k\\": \\"a\\\\\\"b12\\"}"}',
            'a"b12',
            f'{{"in": "{{\\"k\\": \\"{MASK}\\"}}"}}',
            id="JSON in JSON",
        ),
        pytest.param('{"a": "xx-s3cret-0123456789-xx"}', "s3cret-0123456789", f'{{"a": "xx-{MASK}-xx"}}', id="inside"),
        pytest.param('["x0s3cret-01234567890x"]', "s3cret-0123456789", f'["x0{MASK}0x"]', id="inside a word"),
        pytest.param('{"a": "s3cret-01234', "s3cret-0123456789", f'{{"a": "{MASK}', id="cut in a text"),
        pytest.param('{"a": "key s3cret-01234"}', "s3cret-0123456789", '{"a": "key s3cret-01234"}', id="not cut"),
        pytest.param('{"a": "s3cret!"', "s3cret!", f'{{"a": "{MASK}"', id="cut after a text"),
        pytest.param(
            '{"a": "\\ud83d\\ude00 s3cret!"}', "s3cret!", f'{{"a": "\\ud83d\\ude00 {MASK}"}}', id="surrogates"
        ),
        pytest.param('{"a":"abc123"}\n{"n":1}\n', "abc123", f'{{"a":"{MASK}"}}\n{{"n":1}}\n', id="lines of JSON"),
        pytest.param('{"open": NaN, "o": -Infinity}', "open", '{"open": NaN, "o": -Infinity}', id="not a number"),
        pytest.param("depth=1000", "1000", "depth=1000", id="short number in plain text"),
        pytest.param("<d>1000</d><s>open</s>", "open", f"<d>1000</d><s>{MASK}</s>", id="word in markup"),
        pytest.param("sum 3.12345678 or 12345678.5", "12345678", "sum 3.12345678 or 12345678.5", id="fraction"),
        pytest.param("opened reopen open_1", "open", "opened reopen open_1", id="part of a word in plain text"),
        pytest.param("a%20abc123%22x", "abc123", f"a%20{MASK}%22x", id="token in a URL"),
        pytest.param("it went away", "please go away", "it went away", id="last word of a sentence"),
        pytest.param("abc123def", "Bearer abc123", "abc123def", id="part of a longer word"),
        pytest.param("Bearer quiet", "Bearer quiet", MASK, id="a word as a token"),
    ],
)
def test_masking_leaves_unrelated_data_as_it_came(body: str, secret: str, stored: str) -> None:
    assert Masker([secret]).body(body) == stored


@pytest.mark.parametrize(
    ("name", "value", "secret", "stored"),
    [
        ("content-type", "application/json", "application/json", "application/json"),
        ("content-type", "text/html; charset=utf-8", "utf-8", "text/html; charset=utf-8"),
        ("content-type", "text/plain; said=abc123", "abc123", f"text/plain; said={MASK}"),
        ("content-type", "text/s3cret-0123456789", "s3cret-0123456789", f"text/{MASK}"),
        ("date", "Wed, 21 Oct 2015 07:28:00 GMT", "2015", "Wed, 21 Oct 2015 07:28:00 GMT"),
        (
            "last-modified",
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "Wed, 21 Oct 2015 07:28:00 GMT",
        ),
        ("retry-after", "12345678", "12345678", "12345678"),
        ("content-length", "1000", "1000", "1000"),
        ("x-ratelimit-remaining", "12345678", "12345678", "12345678"),
        ("content-encoding", "gzip", "gzip", "gzip"),
        ("etag", '"abc123"', "abc123", f'"{MASK}"'),
        ("location", "https://x.test/?key=abc123&n=1", "abc123", f"https://x.test/?key={MASK}&n=1"),
    ],
)
def test_words_of_the_protocol_stay_in_headers(name: str, value: str, secret: str, stored: str) -> None:
    assert Masker([secret]).header(name, value) == stored


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    ),
    st.sampled_from(["1000", "true", "null", "abc1", "s3cret-0123456789", "-1", "0.5e1", "{}[]", '":"']),
    st.booleans(),
)
def test_masked_json_stays_json_of_the_same_shape(value: object, secret: str, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    masked = json.loads(Masker([secret]).body(text))
    assert shape(masked) == shape(value)


def shape(value: object) -> object:
    """The value with every text replaced by one."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value]
    return "text" if isinstance(value, str) else value


def test_body_that_looks_like_json_for_long_is_judged_in_a_moment() -> None:
    begun = time.process_time()
    for body in ('{"a":' * 50_000 + "!", '"' + "\\" * 200_000, "[1,2" * 50_000 + "x", '"a" ' * 50_000 + "?"):
        Masker(["s3cret!"]).body(body)
    assert time.process_time() - begun < 3
