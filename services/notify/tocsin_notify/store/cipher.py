"""Webhook secrets at rest: AES-256-GCM, bound to the row they belong to."""

import hashlib
import hmac
import os
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES: Final = 12
_VERSION: Final = b"\x01"


class SecretLost(Exception):
    """None of the configured keys opens it: a key was dropped too early, or the row was tampered with."""


class Cipher:
    """The first key closes, all of them open: rotate by putting a new one first."""

    def __init__(self, keys: list[bytes]) -> None:
        """`keys`: secret bytes of any length, at least one."""
        self._boxes = [AESGCM(_derive(key, b"tocsin notify contact secrets")) for key in keys]
        self.code_key: Final = _derive(keys[0], b"tocsin notify verification codes")
        """What verification codes are computed with."""
        self.link_keys: Final = [_derive(key, b"tocsin notify answer links") for key in keys]
        """What links are signed with, the first, and opened with, each."""

    def close(self, org_id: str, method: UUID, secret: bytes) -> bytes:
        """What is stored for this contact method."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._boxes[0].encrypt(nonce, secret, _context(org_id, method))

    def open(self, org_id: str, method: UUID, stored: bytes) -> bytes:
        """The secret. Raises SecretLost, which names nothing secret."""
        nonce, closed = stored[1 : 1 + _NONCE_BYTES], stored[1 + _NONCE_BYTES :]
        for box in self._boxes:
            try:
                return box.decrypt(nonce, closed, _context(org_id, method))
            except InvalidTag:
                continue
        raise SecretLost(f"no configured key opens the secret of contactMethods/{method}")


def _context(org_id: str, method: UUID) -> bytes:
    return f"{org_id}/{method}".encode()


def _derive(key: bytes, purpose: bytes) -> bytes:
    """One key per purpose from one configured secret. That has full entropy, so the expand step of RFC 5869 is enough."""
    return hmac.digest(key, purpose, hashlib.sha256)
