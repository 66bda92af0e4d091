"""Wait until notify has stopped the pages that a person's command stops, before the person gets OK.

The cancellation is an outbox row of the same transaction, so the relay delivers it a second later, even if this fails. But an OK
means that no provider call starts any more, and only notify's own answer can promise that.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.notify.v1 import internal_service_pb2
from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.beside import tell_service

from tocsin_escalation.app.incidents.effects import Nudging
from tocsin_escalation.app.incidents.jobs import CANCEL

_log = get_logger(__name__)


class Cancelling(Protocol):
    """Notify, for cancellations."""

    async def cancel(self, cancellations: Sequence[internal_service_pb2.Cancellation]) -> None:
        """Returns once no provider call starts for them. Raises TocsinError when that is not confirmed."""


@dataclass(frozen=True, slots=True)
class Stops:
    """Cancellations of some incidents of a tenant that were in the outbox at the end of a transaction: ids and payloads."""

    incidents: Sequence[str]
    rows: Sequence[tuple[int, bytes]]

    @classmethod
    async def of(cls, tx: Tx, incident_ids: Iterable[UUID]) -> "Stops":
        """Those of these incidents, including those of earlier commands that were not confirmed. Read them when the incidents are
        locked."""
        keys = [str(id) for id in incident_ids]
        return cls(keys, await outbox.pending_of(tx, CANCEL, keys))


class Confirming:
    """Sends cancellations to notify; each caller waits for its own answer only."""

    def __init__(self, db: Database, notify: Cancelling, relay: Nudging) -> None:
        self._notify = notify
        self._relay = relay
        self._confirmed = outbox.Confirmed(db, relay.nudge)

    async def confirm(self, org_id: str, stops: Stops) -> None:
        """Return when notify has stopped them. Raises CANCEL_UNCONFIRMED when notify does not answer.

        It is not waited for if only pages of users are stopped who have passed an incident on: an OK promises nothing of these.

        Notify itself, when it calls for a person who answers a page, gets them beside its answer, and stops them before it
        answers that person: a call back would only cost time. The relay then delivers them to it once more.
        """
        cancellations = [internal_service_pb2.Cancellation.FromString(payload) for _, payload in stops.rows]
        if all(each.HasField("own") for each in cancellations):
            return
        if tell_service(internal_service_pb2.CancelNotificationsRequest(cancellations=cancellations)):
            return
        try:
            await self._notify.cancel(cancellations)
        except TocsinError as error:
            _log.warning("cancel_unconfirmed", org_id=org_id, incidents=stops.incidents, error=error.message)
            self._relay.nudge()
            raise TocsinError(
                reasons.ERROR_REASON_CANCEL_UNCONFIRMED,
                "the change is committed, but notify has not confirmed that earlier pages are stopped; repeat the call",
                retry_after=1.0,
            ) from error
        self._confirmed.note([(id, org_id) for id, _ in stops.rows])

    async def drain(self) -> None:
        """Return when the outbox rows of all confirmed cancellations are deleted."""
        await self._confirmed.drain()
