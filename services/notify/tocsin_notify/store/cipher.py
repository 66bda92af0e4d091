"""Webhook secrets at rest, and what else is derived from their keys."""

from typing import Final
from uuid import UUID

from tocsin_kit.secret_boxes import Boxes, SecretLost, derive

__all__ = ["Cipher", "SecretLost"]


class Cipher:
    """The first key closes, all of them open: rotate by putting a new one first."""

    def __init__(self, keys: list[bytes]) -> None:
        """`keys`: secret bytes of any length, at least one."""
        self._boxes = Boxes(keys, b"tocsin notify contact secrets")
        self.code_key: Final = derive(keys[0], b"tocsin notify verification codes")
        """What verification codes are computed with."""
        self.link_keys: Final = [derive(key, b"tocsin notify answer links") for key in keys]
        """What links are signed with, the first, and opened with, each."""

    def close(self, org_id: str, method: UUID, secret: bytes) -> bytes:
        """What is stored for this contact method."""
        return self._boxes.close(f"{org_id}/{method}", secret)

    def open(self, org_id: str, method: UUID, stored: bytes) -> bytes:
        """The secret. Raises SecretLost, which names nothing secret."""
        try:
            return self._boxes.open(f"{org_id}/{method}", stored)
        except SecretLost as error:
            raise SecretLost(f"no configured key opens the secret of contactMethods/{method}") from error
