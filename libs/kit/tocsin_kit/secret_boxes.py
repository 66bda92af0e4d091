"""Secrets at rest: AES-256-GCM, bound to what they belong to."""

import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Annotated, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import AfterValidator, SecretStr

from tocsin_kit.auth import SigningKeys

_NONCE_BYTES: Final = 12
_VERSION: Final = b"\x01"
_SHORTEST: Final = 32


def _checked(value: SecretStr) -> SecretStr:
    if any(len(key) < _SHORTEST for key in _parts(value)):
        raise ValueError(f"each key must be at least {_SHORTEST} characters of random text")
    return value


SecretKeys = Annotated[SecretStr, AfterValidator(_checked)]
"""A setting: keys separated by commas."""


class SecretLost(Exception):
    """None of the configured keys opens it: a key was dropped too early, or the row was tampered with."""


class Boxes:
    """The first key closes, all of them open: rotate by putting a new one first."""

    def __init__(self, keys: Sequence[bytes], purpose: bytes) -> None:
        """`keys`: secret bytes of any length, at least one. What was closed for another purpose is not opened."""
        self._boxes = [AESGCM(derive(key, purpose)) for key in keys]

    def close(self, context: str, secret: bytes) -> bytes:
        """What is stored of it. `context`: the row that it belongs to."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._boxes[0].encrypt(nonce, secret, context.encode())

    def open(self, context: str, stored: bytes) -> bytes:
        """The secret. Raises SecretLost, which names nothing secret."""
        nonce, closed = stored[1 : 1 + _NONCE_BYTES], stored[1 + _NONCE_BYTES :]
        for box in self._boxes:
            try:
                return box.decrypt(nonce, closed, context.encode())
            except InvalidTag:
                continue
        raise SecretLost(f"no configured key opens the secret of {context}")


def secret_keys(configured: SecretStr, otherwise: SigningKeys) -> list[bytes]:
    """What closes and opens secrets, in order."""
    return [key.encode() for key in _parts(configured)] or [key for _, key in otherwise.keys]


def derive(key: bytes, purpose: bytes) -> bytes:
    """One key per purpose from one configured secret. That has full entropy, so the expand step of RFC 5869 is enough."""
    return hmac.digest(key, purpose, hashlib.sha256)


def _parts(value: SecretStr) -> list[str]:
    return [part for part in (each.strip() for each in value.get_secret_value().split(",")) if part]
