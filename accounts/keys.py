"""API keys as text: `cc_<id>_<secret>`. Pure: made here, taken apart here, and compared only as hashes.

The id is public and finds the row; the secret has 256 random bits, so a plain SHA-256 of it cannot be guessed.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH = 12
_KEY = re.compile(r"(cc_[a-z0-9]{12})_([A-Za-z0-9_-]{43})")

# Compared with where no row was found, so that an unknown id takes as long as a wrong secret.
DUMMY_HASH = hashlib.sha256(b"no key").hexdigest()


@dataclass(frozen=True, slots=True)
class KeyParts:
    """A key taken apart: `prefix` is stored and shown, `secret_hash` is stored, the secret is not kept."""

    prefix: str
    secret_hash: str = field(repr=False)


def make_key() -> tuple[str, KeyParts]:
    """A new key: the text that is shown once, and what is stored of it."""
    prefix = "cc_" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
    secret = secrets.token_urlsafe(32)
    return f"{prefix}_{secret}", KeyParts(prefix, hash_secret(secret))


def parse_key(text: str) -> KeyParts | None:
    """The parts of a key as sent; None where it is not one."""
    found = _KEY.fullmatch(text)
    return KeyParts(found[1], hash_secret(found[2])) if found else None


def hash_secret(secret: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def same_hash(one: str, other: str) -> bool:
    """Whether two hashes are equal, in a time that tells nothing."""
    return hmac.compare_digest(one, other)
