"""Pages of lists (AIP-158): sizes, and tokens that cannot be read, changed, or used for another query.

A token is the encrypted position (AES-GCM) bound to tenant, method and every other field of the request. Its key is
derived from the signing keys, so every replica can read it, also across a key rotation.
"""

import base64
import binascii
import hashlib
import os
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from google.protobuf.message import Message
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.auth import SigningKeys
from tocsin_kit.errors import FieldViolation, TocsinError, invalid
from tocsin_kit.rpc.call import Call, current_call

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 500
_NONCE_BYTES: Final = 12
_SEPARATOR: Final = "\x1f"

CursorValue = str | int | datetime | uuid.UUID


def page_size(value: int, *, field: str = "page_size") -> int:
    """How many to give: 0 is 50, more than 500 is 500, below 0 is INVALID_FIELD."""
    if value < 0:
        raise invalid(field, "must not be negative; 0 stands for 50")
    return min(value or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


class PageTokens:
    """Makes and reads page tokens. The request message must have `page_size` and `page_token`."""

    def __init__(self, keys: SigningKeys) -> None:
        self._ciphers = [AESGCM(_derive(key)) for _, key in keys.keys]

    def encode(self, request: Message, position: Sequence[CursorValue], *, call: Call | None = None) -> str:
        """The token that continues `request` after `position`: the sort key of the last item given."""
        return self.seal(position, _binding(request, call or current_call()))

    def decode(self, request: Message, *, call: Call | None = None) -> tuple[CursorValue, ...] | None:
        """The position `request.page_token` stands for; None for the first page. Raises PAGE_TOKEN_INVALID."""
        token: str = request.page_token  # type: ignore[attr-defined]
        if not token:
            return None
        position = self.unseal(token, _binding(request, call or current_call()))
        if position is None:
            raise _invalid_token()
        return position

    def seal(self, position: Sequence[CursorValue], binding: bytes) -> str:
        """A token of `position` that can be read with the same `binding` only, which should name the tenant."""
        nonce = os.urandom(_NONCE_BYTES)
        text = _SEPARATOR.join(map(_write, position)).encode()
        sealed = self._ciphers[0].encrypt(nonce, text, binding)
        return base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def unseal(self, token: str, binding: bytes) -> tuple[CursorValue, ...] | None:
        """The position in a token of `seal`; None when it was not made so."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        for cipher in self._ciphers:
            try:
                text = cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], binding)
            except (InvalidTag, ValueError):
                continue
            return tuple(map(_read, text.decode().split(_SEPARATOR)))
        return None


def cursor_invalid() -> TocsinError:
    """CURSOR_INVALID, of a watch."""
    description = "is damaged, or belongs to another tenant or another kind of watch; list anew, and watch without one"
    return _leads_nowhere(ErrorReason.ERROR_REASON_CURSOR_INVALID, "cursor", description)


def _binding(request: Message, call: Call) -> bytes:
    filters = type(request)()
    filters.CopyFrom(request)
    filters.ClearField("page_token")
    filters.ClearField("page_size")
    digest = hashlib.sha256(filters.SerializeToString(deterministic=True)).digest()
    return f"{call.org_id}\0{call.method}\0".encode() + digest


def _derive(key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"tocsin page tokens").derive(key)


def _write(value: CursorValue) -> str:
    match value:
        case datetime():
            return f"t{value.isoformat()}"
        case uuid.UUID():
            return f"u{value}"
        case int():
            return f"i{value}"
        case str():
            if _SEPARATOR in value:
                raise ValueError("a position must not hold the unit separator")
            return f"s{value}"


def _read(text: str) -> CursorValue:
    body = text[1:]
    match text[0]:
        case "t":
            return datetime.fromisoformat(body)
        case "u":
            return uuid.UUID(body)
        case "i":
            return int(body)
        case _:
            return body


def _invalid_token() -> TocsinError:
    description = "is damaged or belongs to a query with other filters; start again without a token"
    return _leads_nowhere(ErrorReason.ERROR_REASON_PAGE_TOKEN_INVALID, "page_token", description)


def _leads_nowhere(reason: "ErrorReason.ValueType", field: str, description: str) -> TocsinError:
    return TocsinError(reason, f"{field} {description}", fields=(FieldViolation(field, description),))
