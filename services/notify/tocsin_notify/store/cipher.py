"""Encryption of webhook secrets, and keys that are derived from the same keys."""

from typing import Final
from uuid import UUID

from tocsin_kit.secret_boxes import Boxes, SecretLost, derive

__all__ = ["Cipher", "SecretLost"]


class Cipher:
    """The first key encrypts, all of them decrypt: rotate by putting a new one first."""

    def __init__(self, keys: list[bytes]) -> None:
        """`keys`: secret bytes of any length, at least one."""
        self._boxes = Boxes(keys, b"tocsin notify contact secrets")
        self.code_key: Final = derive(keys[0], b"tocsin notify verification codes")
        """The key of verification codes."""
        self.link_keys: Final = [derive(key, b"tocsin notify answer links") for key in keys]
        """The keys of links: the first signs, each verifies."""

    def close(self, org_id: str, method: UUID, secret: bytes) -> bytes:
        """The encrypted secret of this contact method, as it is stored."""
        return self._boxes.close(f"{org_id}/{method}", secret)

    def open(self, org_id: str, method: UUID, stored: bytes) -> bytes:
        """The secret. Raises SecretLost, whose text contains no secret."""
        try:
            return self._boxes.open(f"{org_id}/{method}", stored)
        except SecretLost as error:
            raise SecretLost(f"no configured key opens the secret of contactMethods/{method}") from error
