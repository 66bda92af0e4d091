"""How much one tenant and one integration may send, counted for each alert and checked once for a whole batch."""

from collections import Counter
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.budgets import Budgets
from tocsin_kit.errors import TocsinError

from tocsin_ingest.app.alerts.commit_batch import Entry
from tocsin_ingest.app.alerts.rate_limit import REPEAT, RateLimit

ALERTS: Final = "alerts_per_second"


class Admission:
    """Counts alerts before they are committed."""

    def __init__(self, budgets: Budgets, limit: RateLimit) -> None:
        self._budgets = budgets
        self._limit = limit

    def admit(self, entry: Entry) -> None:
        """One alert. Raises RATE_LIMITED."""
        org_id, message = entry.org_id, entry.message
        self._budgets.require_rows(org_id)
        self._budgets.take(org_id, ALERTS, self._limit.cost(message.key))
        wait = self._limit.take(org_id, message.integration_id, message.key)
        if wait:
            raise TocsinError(
                ErrorReason.ERROR_REASON_RATE_LIMITED,
                "the integration sends faster than it may; send this alert again a little later",
                retry_after=wait,
            )

    def admit_all(self, entries: Sequence[Entry]) -> Sequence[TocsinError | None]:
        """Many alerts of one tenant, as if they came one by one: returns the error of each refused one. Empty when none is."""
        if not entries or self._take_all(entries):
            return ()
        return [self._refusal(entry) for entry in entries]

    def _refusal(self, entry: Entry) -> TocsinError | None:
        try:
            self.admit(entry)
        except TocsinError as error:
            return error
        return None

    def _take_all(self, entries: Sequence[Entry]) -> bool:
        """Takes the tokens for all of them, or none when there are not enough."""
        org_id = entries[0].org_id
        new: Counter[str] = Counter()
        repeats: Counter[str] = Counter()
        keys: dict[UUID, None] = {}
        for entry, times in Counter(entries).items():
            key, integration_id = entry.message.key, entry.message.integration_id
            if key not in keys and not self._limit.knows(key):
                new[integration_id] += 1
                times -= 1
            repeats[integration_id] += times
            keys[key] = None
        if any(not self._limit.has(org_id, each, new[each], repeats[each]) for each in repeats):
            return False
        cost = new.total() + REPEAT * repeats.total()
        if not self._budgets.has_room_for_rows(org_id) or not self._budgets.has(org_id, ALERTS, cost):
            return False
        self._budgets.take(org_id, ALERTS, cost)
        for each in repeats:
            self._limit.take_all(org_id, each, new[each], repeats[each])
        self._limit.admit(keys)
        return True
