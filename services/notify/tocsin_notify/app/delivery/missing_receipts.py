"""Messages whose receipt does not come: the person's next method is used before its own time."""

from typing import Final

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery.failures import Failed, Failures, Followed
from tocsin_notify.domain.page import WAKING, DeathReason, Kind
from tocsin_notify.store.delivery import receipts
from tocsin_notify.store.delivery.rows import Unreceipted

_log = get_logger(__name__)

_MOST: Final = 200


class MissingReceipts:
    """Finds messages whose receipt is overdue. Any number of replicas may run it."""

    def __init__(self, db: Database, failures: Failures, timeout: float) -> None:
        """`timeout`: seconds between the provider's yes and the latest receipt."""
        self._db = db
        self._failures = failures
        self._timeout = timeout

    async def __call__(self) -> None:
        """For each page whose message has no receipt in time, make the next method due now. One that has no other
        method stays sent.

        Raises DATABASE_UNAVAILABLE.
        """
        while True:
            found, followed = await self._db.run(None, self._round)
            self._failures.hint(followed)
            for id in followed.dead:
                _log.warning("receipt_missing", notification=str(id), timeout=self._timeout)
            if found < _MOST:
                return

    async def _round(self, tx: Tx) -> tuple[int, Followed]:
        rows = await receipts.overdue(tx, self._timeout, _MOST)
        if not rows:
            return 0, Followed()
        await receipts.settle(tx, [(row.org_id, row.id) for row in rows])
        reason = f"no receipt within {self._timeout:g} s of the provider's yes"
        missing = [_failed(row, reason) for row in rows if row.matters and Kind(row.type) in WAKING]
        followed = await self._failures.follow(tx, missing)
        for each in missing:
            if each.id in followed.dead:
                await receipts.mark_failed_of(tx, each.org_id, each.id, reason)
        return len(rows), followed


def _failed(row: Unreceipted, reason: str) -> Failed:
    """Given up only if another method takes its page now."""
    return Failed.of(row, DeathReason.ATTEMPTS_EXHAUSTED, reason, waits=True)
