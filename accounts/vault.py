"""Encryption at rest: a sealed value names the row that it belongs to, so that it cannot be moved to another."""

import json
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class SecretUnavailableError(Exception):
    """A sealed value cannot be opened: its key is gone, or it belongs to another row. It must not be used.

    The message goes to people, so it names no table and no row.
    """


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def seal(row: str, value: object) -> str:
    """Encrypts a JSON value for one row, named as `table:id`, with the newest key."""
    plain = json.dumps({"row": row, "value": value}, ensure_ascii=False, separators=(",", ":"))
    return _fernet(settings.ENV.encryption_keys).encrypt(plain.encode()).decode()


def unseal(row: str, token: str) -> object:
    """Decrypts what `seal` made for the same row. Raises SecretUnavailableError otherwise."""
    try:
        plain = json.loads(_fernet(settings.ENV.encryption_keys).decrypt(token.encode()))
    except (InvalidToken, UnicodeEncodeError) as error:
        raise SecretUnavailableError("A stored secret cannot be decrypted with ENCRYPTION_KEYS.") from error
    if plain["row"] != row:
        raise SecretUnavailableError("A stored secret was sealed for another row.")
    return plain["value"]
