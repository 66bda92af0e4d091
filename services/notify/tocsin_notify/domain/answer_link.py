"""Signed links by which a person answers a page without a login.

A link stands for one page, that is for one person and one incident, until it expires. It is used once: after its use, a
new link with the next number takes its place. Nothing is stored when one is made. A caller who has the link acts as the
person.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from tocsin_notify.domain.proofs import is_any

_PURPOSE: Final = b"tocsin answer link\x001\x00"
_MAC_BYTES: Final = 16
"""128 bits: guessing takes longer than the lifetime of any link."""
_HEAD_BYTES: Final = 16 + 5 + 2
_LONGEST: Final = 400
_MOST_TURNS: Final = 32_767
_PERSONAL: Final = 1 << 15
"""The top bit of the two bytes of the turn."""


@dataclass(frozen=True, slots=True)
class AnswerLink:
    """`expire`: unix seconds. `turn`: how many links of this page were used before it.

    `personal`: the link was sent through a channel that only this person reads, not to a chat. Then more than one
    incident can be acted on.
    """

    org_id: str
    page: UUID
    expire: int
    turn: int = 0
    personal: bool = False

    def next(self) -> "AnswerLink":
        """The link that replaces this one after its use."""
        return replace(self, turn=min(self.turn + 1, _MOST_TURNS))

    def of_page(self, page: UUID) -> "AnswerLink":
        """The first link of another page that was sent with this one."""
        return replace(self, page=page, turn=0)


def seal(key: bytes, link: AnswerLink) -> str:
    """The text that goes into a URL: letters, digits, hyphen and underscore."""
    turn = link.turn | (_PERSONAL if link.personal else 0)
    content = link.page.bytes + link.expire.to_bytes(5, "big") + turn.to_bytes(2, "big") + link.org_id.encode()
    return base64.urlsafe_b64encode(_mac(key, content) + content).rstrip(b"=").decode()


def unseal(keys: Sequence[bytes], token: str) -> AnswerLink | None:
    """The link that one of these keys signed, expired or not; None for anything else. Compares in constant time."""
    if len(token) > _LONGEST or not token.isascii():
        return None
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    given, content = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not is_any((_mac(key, content) for key in keys), given) or len(content) <= _HEAD_BYTES:
        return None
    turn = int.from_bytes(content[21:23], "big")
    return AnswerLink(
        content[_HEAD_BYTES:].decode(),
        UUID(bytes=content[:16]),
        int.from_bytes(content[16:21], "big"),
        turn & _MOST_TURNS,
        bool(turn & _PERSONAL),
    )


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + content, hashlib.sha256)[:_MAC_BYTES]
