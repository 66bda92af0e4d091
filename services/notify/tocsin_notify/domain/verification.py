"""Codes that prove a contact method reaches its owner.

A code is never stored: it is computed from the verification's id with a key that only this service has, when it is sent
and when it is checked. It cannot be read from the database.
"""

import hashlib
import hmac
from typing import Final
from uuid import UUID

DIGITS: Final = 6
LIFETIME: Final = 600.0
"""Seconds a code holds."""
MAX_WRONG_TRIES: Final = 5
"""After these the code is over: guessing six digits succeeds once in 200,000."""
MAX_CODES_PER_HOUR: Final = 5


def code_for(key: bytes, verification: UUID) -> str:
    """Six digits. `key` is at least 32 secret bytes."""
    digest = hmac.digest(key, b"tocsin verification code\0" + verification.bytes, hashlib.sha256)
    return f"{int.from_bytes(digest[:8], 'big') % 10**DIGITS:0{DIGITS}d}"


def is_right(key: bytes, verification: UUID, code: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(code_for(key, verification).encode(), code.encode())
