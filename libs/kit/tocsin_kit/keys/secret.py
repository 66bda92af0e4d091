"""Keys that are shown once and stored as a hash."""

import base64
import hashlib
import secrets
from typing import Final

_RANDOM_BYTES: Final = 32
CHARACTERS: Final = 43
"""Of a key behind its prefix."""
SHOWN: Final = 8
"""Characters of a key that tell it from others, a prefix of four included; the 39 that are left cannot be guessed."""


def new_key(prefix: str) -> str:
    """A key of 256 random bits."""
    return prefix + base64.urlsafe_b64encode(secrets.token_bytes(_RANDOM_BYTES)).decode().rstrip("=")


def key_hash(key: str) -> bytes:
    """The stored hash of a key: SHA-256. It has 256 random bits, so nothing slower is needed."""
    return hashlib.sha256(key.encode()).digest()
