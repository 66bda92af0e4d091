"""What a service adds so that it accepts API keys, and refuses credentials that were revoked anywhere."""

import asyncio
import time
from typing import Final, TypeVar

from tocsin_kit import wall_clock
from tocsin_kit.errors import TocsinError
from tocsin_kit.keys.api_keys import ApiKeys
from tocsin_kit.keys.record import PAGE, KeyRecord
from tocsin_kit.keys.revocations import Revocations
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_or_stop
from tocsin_kit.rpc.health import HealthCheck
from tocsin_kit.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)

_log = get_logger(__name__)

EVERY: Final = 1.0
"""Seconds between two looks at the record."""
_NOTE_EVERY: Final = 5.0
_LATE_SECONDS: Final = 30.0


def serve_keys(runtime: Runtime[S], record: KeyRecord) -> None:
    """The authenticator, the loop that follows the record, and a health check for it."""
    keys = ApiKeys(record)
    # First: the other authenticators would try to parse a key as a token.
    runtime.authenticators.insert(0, keys)
    follower = Follower(record, runtime.rpc.credentials.revocations, keys)
    runtime.loops.add("credentials", follower.run, everywhere=True)
    runtime.health.add(HealthCheck("credentials", follower.check, critical=False))


class Follower:
    """Reads new revocations, and reports the use of keys: in batches, never within a call."""

    def __init__(self, record: KeyRecord, revocations: Revocations, keys: ApiKeys) -> None:
        self._record = record
        self._revocations = revocations
        self._keys = keys
        self._after = 0
        self._read = time.monotonic()
        self._note = time.monotonic() + _NOTE_EVERY

    async def run(self, stop: asyncio.Event) -> None:
        """The loop. Without the record the known state stays valid; revocations made meanwhile are read when it is back."""
        away = False
        while not stop.is_set():
            try:
                await self.round()
            except TocsinError as error:
                if not away:
                    _log.warning("credentials_not_followed", reason=error.reason_name, error=error.message)
                away = True
            else:
                away = False
            await wait_or_stop(stop, EVERY)
        try:
            await self.note_uses()
        except TocsinError as error:
            _log.warning("key_uses_lost", reason=error.reason_name, error=error.message)

    async def round(self) -> None:
        """Once. Raises SERVICE_UNAVAILABLE, DATABASE_UNAVAILABLE."""
        after = self._after
        while True:
            page, settled = await self._record.revocations_after(after)
            for each in page:
                self._revocations.add(each.revocation)
            if len(page) < PAGE:
                break
            after = page[-1].number
        self._after = settled
        self._read = time.monotonic()
        self._revocations.forget_expired(wall_clock.now())
        if time.monotonic() >= self._note:
            self._note = time.monotonic() + _NOTE_EVERY
            await self.note_uses()

    async def note_uses(self) -> None:
        """Raises SERVICE_UNAVAILABLE, DATABASE_UNAVAILABLE; then the uses are reported the next time."""
        uses = self._keys.take_uses()
        for start in range(0, len(uses), PAGE):
            try:
                await self._record.note_uses(uses[start : start + PAGE])
            except TocsinError:
                self._keys.put_back(uses[start:])
                raise

    async def check(self) -> None:
        """Raises while the record was not read for long: credentials that were revoked since may still be accepted here."""
        age = time.monotonic() - self._read
        if age > _LATE_SECONDS:
            raise RuntimeError(f"revoked credentials were not read for {age:.0f} s and may be taken here")
