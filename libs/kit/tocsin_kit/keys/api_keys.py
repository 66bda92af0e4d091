"""API keys as credentials: looked up once, then cached for a while, since revocations are followed separately.

A revoked key is refused as soon as this process reads the revocation. So a key may be cached for `_KNOWN_SECONDS` while the
service that keeps the record is away, and machines keep working.
"""

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit import wall_clock
from tocsin_kit.auth import Principal, invalid_credential
from tocsin_kit.batches import Batches
from tocsin_kit.errors import TocsinError
from tocsin_kit.fresh_cache import FreshCache
from tocsin_kit.keys.record import PAGE, FoundKey, KeyRecord, Use
from tocsin_kit.keys.secret import CHARACTERS, key_hash
from tocsin_kit.keys.sources import read_ranges

PREFIX: Final = "tak_"
_KEY: Final = re.compile(PREFIX + rf"[A-Za-z0-9_-]{{{CHARACTERS}}}")
KNOWN_SECONDS: Final = 3600.0
"""How long a key is accepted without asking the record again."""
_RENEW_SECONDS: Final = 60.0
_SIZE: Final = 10_000
_UNKNOWN: Final = "the API key was never made, was revoked or has expired"


@dataclass(frozen=True, slots=True)
class _Known:
    id: str
    principal: Principal
    ends: float | None


class ApiKeys:
    """An `Authenticator`. Notes when keys were used, until the caller takes these notes."""

    def __init__(self, record: KeyRecord) -> None:
        self._record = record
        self._lookups: Batches[bytes, FoundKey | None] = Batches(self._look_up, most=PAGE)
        self._keys: FreshCache[bytes, _Known] = FreshCache(
            self._find, ttl=KNOWN_SECONDS, renew_after=_RENEW_SECONDS, size=_SIZE
        )
        self._used: dict[tuple[str, str], float] = {}

    async def authenticate(self, token: str) -> Principal | None:
        """See `Authenticator`. Raises SERVICE_UNAVAILABLE for a key that was not seen lately while the record is away."""
        if not token.startswith(PREFIX):
            return None
        # Text that cannot be a key costs no look-up.
        if not _KEY.fullmatch(token):
            raise invalid_credential(_UNKNOWN)
        known = await self._keys.get(key_hash(token))
        now = asyncio.get_running_loop().time()
        if known.ends is not None and now >= known.ends:
            raise TocsinError(ErrorReason.ERROR_REASON_CREDENTIAL_EXPIRED, "the API key has expired; make a new one")
        used = known.principal.org_id, known.id
        if used in self._used or len(self._used) < _SIZE:
            self._used[used] = now
        return known.principal

    def take_uses(self) -> list[Use]:
        """The last use of each key since the last call of this."""
        now = asyncio.get_running_loop().time()
        used, self._used = self._used, {}
        return [Use(org_id, id, now - time) for (org_id, id), time in used.items()]

    def put_back(self, uses: Sequence[Use]) -> None:
        """Uses that could not be stored."""
        now = asyncio.get_running_loop().time()
        for use in uses:
            self._used.setdefault((use.org_id, use.id), now - use.ago)

    async def _find(self, digest: bytes) -> _Known:
        """Raises CREDENTIAL_INVALID. Errors are not cached: wrong keys cannot push right ones out."""
        begin = asyncio.get_running_loop().time()
        found = await self._lookups.submit(digest)
        if found is None:
            self._keys.forget(digest)
            raise invalid_credential(_UNKNOWN)
        principal = Principal(
            found.org_id,
            found.subject,
            found.scopes,
            found.id,
            found.created,
            read_ranges(found.source_ranges),
            math.inf if found.remaining is None else wall_clock.now() + found.remaining,
        )
        return _Known(found.id, principal, None if found.remaining is None else begin + found.remaining)

    async def _look_up(self, hashes: list[bytes]) -> list[FoundKey | None]:
        found = await self._record.find_keys(hashes)
        return [found.get(digest) for digest in hashes]
