"""The addresses that mails to integrations go to.

An address contains a word that is derived from the integration's key, and from which the key cannot be derived: addresses are in
the logs of every mail server on their way. Like the key it is stored as a hash. It works as long as the key does.
"""

import base64
import hmac
import re
from typing import Final

from tocsin_kit.auth import Principal, invalid_credential
from tocsin_kit.db.pool import Database
from tocsin_kit.fresh_cache import FreshCache
from tocsin_kit.keys.secret import key_hash

from tocsin_ingest.app.integrations.directory import TTL, Directory
from tocsin_ingest.store.integrations import integrations

_BYTES: Final = 20
_PURPOSE: Final = b"tocsin ingest mail address"
_WORD: Final = re.compile(r"[a-z2-7]{32}")
_SIZE: Final = 10_000
_UNKNOWN: Final = "there is no such address here, or its integration's key was rotated"


def word_of(key: str) -> str:
    """The part before the `@`: 160 bits, in letters of one case, since mail servers may change the case."""
    return base64.b32encode(hmac.digest(key.encode(), _PURPOSE, "sha256")[:_BYTES]).decode().lower()


def address_of(key: str, domain: str) -> str:
    """The address of the integration with this key. Empty without a key, and where no mails are accepted."""
    return f"{word_of(key)}@{domain}" if key and domain else ""


class MailAddresses:
    """The integrations of mail addresses, at most `TTL` seconds old."""

    def __init__(self, database: Database, directory: Directory, *, ttl: float = TTL) -> None:
        self._database = database
        self._directory = directory
        self._known: FreshCache[bytes, Principal] = FreshCache(self._find, ttl=ttl, size=_SIZE)

    async def authenticate(self, token: str) -> Principal:
        """The integration whose address has this word in front of its `@`. Raises CREDENTIAL_INVALID."""
        word = token.lower()
        # What cannot be one costs no query.
        if not _WORD.fullmatch(word):
            raise invalid_credential(_UNKNOWN)
        return await self._known.get(key_hash(word))

    async def _find(self, digest: bytes) -> Principal:
        # The address itself tells the tenant, so the tenant is not known before.
        async with self._database.system() as tx:
            row = await integrations.find_mail_address(tx, digest)
        return await self._directory.holder_of(row, _UNKNOWN)
