"""The text form of API keys."""

import pytest

from accounts.keys import hash_secret, make_key, parse_key, same_hash


def test_a_made_key_parses_to_what_is_stored() -> None:
    text, parts = make_key()
    assert parse_key(text) == parts
    assert text.startswith(parts.prefix + "_")
    assert len(parts.prefix) <= 16


def test_the_secret_has_256_bits_and_is_kept_only_as_its_hash() -> None:
    text, parts = make_key()
    secret = text.removeprefix(parts.prefix + "_")
    assert len(secret) == 43
    assert parts.secret_hash == hash_secret(secret)
    assert secret not in repr(parts)
    assert parts.secret_hash not in repr(parts)


def test_two_keys_differ() -> None:
    assert make_key()[0] != make_key()[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cc_",
        "cc__",
        "abc",
        "cc_abc_def",
        "CC_" + "a" * 12 + "_" + "b" * 43,
        "cc_" + "a" * 12 + "_" + "b" * 42,
        "cc_" + "a" * 12 + "_" + "b" * 44,
        "cc_" + "\u0661" * 12 + "_" + "b" * 43,
        "cc_" + "a" * 12 + "_" + "b" * 43 + "\n",
    ],
)
def test_a_text_that_is_no_key_has_no_parts(text: str) -> None:
    assert parse_key(text) is None


def test_hashes_are_compared_whole() -> None:
    assert same_hash("ab", "ab")
    assert not same_hash("ab", "ac")
