"""Stop the pages of incidents: once this has returned, no call starts for them (I5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1.internal_service_pb2 import Cancellation
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.pages.bundle_message import GENERATION
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.delivery.gate import incident_key, wait_for_started_calls
from tocsin_notify.store.delivery.gatekeeper import Gatekeeper, is_unhindered
from tocsin_notify.store.named import Named
from tocsin_notify.store.pages import bundles, pages
from tocsin_notify.store.pages.pages import NOTHING, Fence, OwnStop

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stopped:
    """How many notifications this cancelled, and how many calls were under way and go on."""

    cancelled: int
    crossed: int


def fences_of(cancellations: Sequence[Cancellation]) -> list[Fence]:
    """What escalation's cancellations ask for. Raises INVALID_FIELD."""
    fences = []
    for index, each in enumerate(cancellations):
        incident = parse_uuid_name(each.incident, "incidents", field=f"cancellations[{index}].incident")
        reason = each.reason.replace("\0", " ")[:1024]
        if each.HasField("own"):
            own = {each.own.user: OwnStop(each.own.generation, reason)}
            fences.append(Fence(each.org_id, incident, NOTHING, "", NOTHING, own))
        else:
            final = NOTHING if each.spares_lasting else each.generation
            fences.append(Fence(each.org_id, incident, each.generation, reason, final))
    return fences


class Cancel:
    """Two transactions. The first sets the fences: from then on no claim takes these pages. The second waits until
    every call that an earlier claim took has started (`store.delivery.gate` has the proof). Then it cancels the
    notifications that wait, including those that such a claim left waiting. A crash between them loses nothing: the
    fence is set, and the caller, who got no answer, repeats the call.
    """

    def __init__(self, db: Database, gatekeeper: Gatekeeper, hints: Hints, metrics: NotifyMetrics) -> None:
        self._db = db
        self._gatekeeper = gatekeeper
        self._hints = hints
        self._metrics = metrics

    async def __call__(self, fences: Sequence[Fence]) -> Stopped:
        """Raises CANCEL_UNCONFIRMED when a sender neither starts its calls nor dies: the caller must repeat the call."""
        highest: dict[Named, Fence] = {}
        for fence in fences:
            key = fence.org_id, fence.incident
            highest[key] = highest[key].together(fence) if key in highest else fence
        incidents = sorted(highest)
        try:
            async with self._gatekeeper.watching():
                async with self._db.autocommit() as tx:
                    touched = await pages.raise_fences(tx, [highest[incident] for incident in incidents])
                stopped = list[UUID]()
                if touched:
                    stopped, told = await self._stop_bundles(touched, incidents)
                    incidents = sorted({*incidents, *told})
                done = await self._stop_at_once(incidents)
                cancelled, crossed = await self._stop_waiting(incidents) if done is None else done
        except TocsinError as error:
            if error.code is not grpc.StatusCode.ABORTED:
                raise
            _log.error("cancel_unconfirmed", incidents=[str(incident) for _, incident in incidents])
            raise TocsinError(
                ErrorReason.ERROR_REASON_CANCEL_UNCONFIRMED,
                "a process neither starts the calls it took before nor lets go of them; send it again",
                retry_after=0.5,
            ) from error
        cancelled += stopped
        self._hints.disarm(cancelled)
        self._metrics.cancelled.inc(len(cancelled))
        self._metrics.crossed.inc(crossed)
        for fence in highest.values():
            _tell(fence)
        return Stopped(len(cancelled), crossed)

    async def _stop_at_once(self, incidents: Sequence[Named]) -> tuple[list[UUID], int] | None:
        """None if a call is about to start, or a session was ended just now. Otherwise the second transaction, as two statements
        in place of six: a person waits for them. The locks are let go of between the two: a claim that comes then reads the
        fences."""
        async with self._db.autocommit() as tx:
            if not await is_unhindered(tx, (incident_key(*incident) for incident in incidents)):
                return None
        async with self._db.autocommit() as tx:
            return await notifications.cancel_fenced(tx, incidents)

    async def _stop_waiting(self, incidents: Sequence[Named]) -> tuple[list[UUID], int]:
        async with self._db.system() as tx:
            await wait_for_started_calls(tx, (incident_key(*incident) for incident in incidents))
            done = await notifications.cancel_fenced(tx, incidents)
        await self._gatekeeper.confirm()
        return done

    async def _stop_bundles(
        self, touched: Sequence[Named], incidents: Sequence[Named]
    ) -> tuple[list[UUID], list[Named]]:
        """Pages of these incidents that wait in a bundle are cancelled. A bundle that was sent and has no open page
        left is fenced like an incident. Also returned: those bundles, and others whose message may be about to leave
        and to name these incidents."""
        async with self._db.system() as tx:
            found = await bundles.stop(tx, touched, incidents)
            stopped, over = found.cancelled, found.over
            if over:
                reason = "every page in it was answered"
                fences = [Fence(org_id, id, GENERATION, reason, GENERATION) for org_id, id in sorted(over)]
                await pages.raise_fences(tx, fences)
                cancelled, _ = await notifications.cancel_fenced(tx, over)
                stopped += cancelled
        return stopped, over + found.told


def _tell(fence: Fence) -> None:
    about = {"org_id": fence.org_id, "incident": str(fence.incident)}
    if fence.generation != NOTHING:
        _log.info("pages_stopped", **about, generation=fence.generation, reason=fence.reason)
    for user, own in fence.own.items():
        _log.info("pages_stopped", **about, user=user, generation=own.generation, reason=own.reason)
