"""Make sure that notify has stopped what a person wanted stopped, before the person is told OK.

The cancellation is an outbox row of the same transaction, so it is delivered even if this fails. But an OK means that
no provider call starts any more, and only notify's own answer can promise that.
"""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.notify.v1 import internal_service_pb2
from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.incidents.jobs import CANCEL

_log = get_logger(__name__)


class Cancelling(Protocol):
    """Notify, as far as stopping goes."""

    async def cancel(self, cancellations: Sequence[internal_service_pb2.Cancellation]) -> None:
        """Returns once no provider call starts for them. Raises TocsinError when that is not certain."""


async def confirm_stopped(db: Database, org_id: str, notify: Cancelling, incident_ids: Sequence[UUID]) -> None:
    """Deliver each cancellation of these incidents that is still on its way; CANCEL_UNCONFIRMED when notify does not answer."""

    keys = [str(id) for id in incident_ids]
    rows = await db.run(org_id, lambda tx: outbox.pending_of(tx, CANCEL, keys))
    if not rows:
        return
    try:
        await notify.cancel([internal_service_pb2.Cancellation.FromString(payload) for _, payload in rows])
    except TocsinError as error:
        _log.warning("cancel_unconfirmed", org_id=org_id, incidents=keys, reason=str(error))
        raise TocsinError(
            reasons.ERROR_REASON_CANCEL_UNCONFIRMED,
            "the change is committed, but notify has not confirmed that earlier pages are stopped; repeat the call",
            retry_after=1.0,
        ) from error
    await db.run(org_id, lambda tx: outbox.confirm(tx, [id for id, _ in rows]))
