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
        ("xsecret1secret1x", ["secret1"], f"x{MASK}{MASK}x"),
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


def test_short_values_are_left_alone_in_every_form() -> None:
    assert Masker(["<<", "Basic YTpi", "//"])("&lt;&lt; a:b %2F%2F") == "&lt;&lt; a:b %2F%2F"


@given(
    st.lists(st.text("abc <+", min_size=4, max_size=12), max_size=6),
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
