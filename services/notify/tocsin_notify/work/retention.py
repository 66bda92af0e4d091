"""Deletes old rows, a few at a time."""

from functools import partial
from typing import Final

from tocsin_kit.db.pool import Database
from tocsin_kit.db.requests import sweep_requests
from tocsin_kit.db.retention import delete_in_batches
from tocsin_kit.logging import get_logger

from tocsin_notify.store import retention

_log = get_logger(__name__)

_ROUNDS: Final = 40

_DAY: Final = 86_400.0
_VERIFICATIONS_KEPT: Final = _DAY
_TEXTS_KEPT: Final = 2 * _DAY
"""Longer than a page can be answered by text message: a repeat that comes later finds no page."""
_PACES_KEPT: Final = 2 * _DAY
"""Longer than a storm's window can be."""
_FORMER_KEPT: Final = _DAY
"""Former addresses of methods, and addresses of messages: as long as a notification may take."""


class Retention:
    """Deletes in small transactions, oldest first; a round ends after a while, and the next round goes on."""

    def __init__(self, db: Database, *, days: float, fence_days: float, event_days: float) -> None:
        """`days`: pages with their notifications and attempts, and dead letters. `fence_days`: longer than a job may
        take to arrive. `event_days`: deliveries to subscriptions, after they ended.
        """
        self._db = db
        self._kept = {
            "pages": days * _DAY,
            "cancel_fences": fence_days * _DAY,
            "dead_letters": days * _DAY,
            "messages": days * _DAY,
            "recurring_messages": days * _DAY,
            "verifications": _VERIFICATIONS_KEPT,
            "sms_senders": days * _DAY,
            "texts_received": _TEXTS_KEPT,
            "paces": _PACES_KEPT,
            "contact_methods": _FORMER_KEPT,
            "deleted_contact_methods": days * _DAY,
            "event_deliveries": event_days * _DAY,
        }

    async def __call__(self) -> int:
        """One round; returns how many rows were deleted."""
        gone = 0
        for what, statement in retention.STATEMENTS.items():
            gone += await delete_in_batches(
                self._db, partial(retention.delete_old, statement=statement, seconds=self._kept[what]), rounds=_ROUNDS
            )
        gone += await sweep_requests(self._db)
        if gone:
            _log.info("retention", rows=gone)
        return gone
