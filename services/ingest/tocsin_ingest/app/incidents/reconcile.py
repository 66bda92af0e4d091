"""Compare the open incidents of ingest and escalation, and repair differences.

Events carry every change from ingest to escalation. So the two differ only when one database was restored from a backup, or an
event was lost or refused for good. Then no user is paged for an open incident, or people are paged for one that is over, and no
event will ever change that. The comparison runs continuously, over a part of the incidents at a time.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.lasting_differences import LastingDifferences
from tocsin_kit.logging import get_logger

from tocsin_ingest.app.tenant_by_tenant import tenant_by_tenant
from tocsin_ingest.domain.differences import Difference, Standing, of_open_here, of_open_there
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.alerts.snapshot import lock_integrations
from tocsin_ingest.store.incidents import differences, resolving

_log = get_logger(__name__)

BATCH: Final = 500
_BATCHES_A_ROUND: Final = 10
_MENDED_TOGETHER: Final = 100
_BECAUSE: Final = {
    Difference.NOT_ESCALATED: "escalation did not know the incident",
    Difference.BEHIND: "escalation lacked events of the incident",
    Difference.AHEAD: "ingest had lost events of the incident",
    Difference.RESOLVED_IN_INGEST: "it is resolved in ingest, and escalation had not heard of it",
    Difference.UNKNOWN_IN_INGEST: "ingest does not know the incident any more; what still fires opens a new one",
}
_ACTOR: Final = "services/escalation"


@dataclass(frozen=True, slots=True)
class OpenThere:
    """An incident that is not resolved in escalation."""

    org_id: str
    id: UUID
    sequence: int


@dataclass(frozen=True, slots=True)
class Differing:
    """An incident with a difference. The numbers are those of the last events known: None for unknown.

    The numbers are not part of its identity: they change while the difference stays the same.
    """

    org_id: str
    id: UUID
    difference: Difference
    here: int | None = field(compare=False)
    there: int | None = field(compare=False)
    resolved_there: datetime | None = field(compare=False, default=None)


class Standings(Protocol):
    """The port to escalation. Every call raises SERVICE_UNAVAILABLE when it does not answer."""

    async def standings(self, wanted: Sequence[tuple[str, UUID]]) -> list[Standing | None]:
        """The states of these incidents (tenant, id) in escalation, in their order; None: unknown."""

    async def open_after(self, after: UUID | None, limit: int) -> list[OpenThere]:
        """Incidents that are not resolved there, by id, behind `after`."""


@dataclass(slots=True)
class Report:
    """The result of one whole comparison, and which differences were repaired."""

    compared: int = 0
    found: list[Differing] = field(default_factory=list)
    mended: set[tuple[str, UUID]] = field(default_factory=set)


class Reconciler:
    """Compares and repairs. `grace`: seconds for which a difference must last before the background rounds repair it."""

    def __init__(
        self,
        database: Database,
        escalation: Standings,
        metrics: IngestMetrics,
        nudge: Callable[[], None],
        *,
        grace: float,
    ) -> None:
        self._database = database
        self._escalation = escalation
        self._metrics = metrics
        self._nudge = nudge
        self._here = _Cursor(self._open_here, LastingDifferences(grace))
        self._there = _Cursor(self._open_there, LastingDifferences(grace))

    async def round(self) -> None:
        """One round in the background: up to 5,000 incidents of each side, after those of the last round.

        Raises SERVICE_UNAVAILABLE, DATABASE_UNAVAILABLE.
        """
        for cursor in (self._here, self._there):
            for _ in range(_BATCHES_A_ROUND):
                _, found = await cursor.step()
                await self._mend(cursor.differences.due(found), cursor.differences.tried)
                if cursor.position is None:
                    cursor.differences.forget_others()
                    break
        lasting = Counter(
            each.difference for cursor in (self._here, self._there) for each in cursor.differences.lasting()
        )
        for difference in Difference:
            self._metrics.differing.labels(difference.name.lower()).set(lasting[difference])

    async def all_now(self, *, mend: bool) -> Report:
        """Everything at once, without a grace. Raises SERVICE_UNAVAILABLE, DATABASE_UNAVAILABLE."""
        report = Report()
        for read in (self._open_here, self._open_there):
            cursor = _Cursor(read, LastingDifferences(0.0))
            while True:
                compared, found = await cursor.step()
                report.compared += compared
                report.found += found
                if mend:
                    report.mended |= await self._mend(found, cursor.differences.tried)
                if cursor.position is None:
                    break
        return report

    async def _open_here(self, after: UUID | None) -> "_Page":
        async with self._database.system() as tx:
            page = await differences.open_after(tx, after, BATCH)
        # Read before escalation is asked: escalation knows by now what was delivered by then.
        idle = [each for each in page if not each.waiting]
        there = await self._escalation.standings([(each.org_id, each.id) for each in idle]) if idle else []
        found = [
            Differing(
                each.org_id,
                each.id,
                difference,
                each.sequence,
                standing.sequence if standing else None,
                standing.resolve_time if standing else None,
            )
            for each, standing in zip(idle, there, strict=True)
            if (difference := of_open_here(each.sequence, standing)) is not None
        ]
        return _Page(len(page), found, page[-1].group_key if len(page) == BATCH else None)

    async def _open_there(self, after: UUID | None) -> "_Page":
        page = await self._escalation.open_after(after, BATCH)
        async with self._database.system() as tx:
            known = await differences.standings(tx, [(each.org_id, each.id) for each in page])
        found = []
        for each in page:
            here, waiting = known.get((each.org_id, each.id), (None, False))
            difference = of_open_there(here)
            if difference is not None and not waiting:
                found.append(
                    Differing(each.org_id, each.id, difference, here.sequence if here else None, each.sequence)
                )
        return _Page(len(page), found, page[-1].id if len(page) == BATCH else None)

    async def _mend(
        self, found: Sequence[Differing], tried: Callable[[Sequence[Differing]], None]
    ) -> set[tuple[str, UUID]]:
        """Which were repaired. A difference that cannot be repaired at the moment does not delay other tenants, and does not
        count as `tried`."""
        mended: set[tuple[str, UUID]] = set()

        async def work(org_id: str, differing: list[Differing]) -> None:
            for first in range(0, len(differing), _MENDED_TOGETHER):
                some = differing[first : first + _MENDED_TOGETHER]
                mended.update(await self._mend_some(org_id, some))
                tried(some)

        await tenant_by_tenant(found, work, name="reconcile", failures=self._metrics.tenant_failures)
        return mended

    async def _mend_some(self, org_id: str, differing: Sequence[Differing]) -> set[tuple[str, UUID]]:
        async def work(tx: Tx) -> set[UUID]:
            known = await resolving.find(tx, [each.id for each in differing])
            await lock_integrations(tx, {each.integration_id for each in known.values()})
            return await _mend_in(tx, differing)

        done = await self._database.run(org_id, work)
        for each in differing:
            if each.id in done:
                self._metrics.mended.labels(each.difference.name.lower()).inc()
                _log.error(
                    "incident_differed",
                    org_id=org_id,
                    incident=str(each.id),
                    difference=each.difference.name,
                    ingest=each.here,
                    escalation=each.there,
                    mended=True,
                )
        if done:
            self._nudge()
        return {(org_id, each) for each in done}


async def _mend_in(tx: Tx, differing: Sequence[Differing]) -> set[UUID]:
    """Repairs those that are unchanged since they were seen; returns which incidents. Their integrations must be locked."""
    done: set[UUID] = set()
    for difference in (Difference.NOT_ESCALATED, Difference.BEHIND):
        seen = [(each.id, each.here or 0) for each in differing if each.difference is difference]
        if seen:
            done |= await differences.open_anew(tx, seen, _BECAUSE[difference])
    ahead = [(each.id, (each.there or 0) + 1) for each in differing if each.difference is Difference.AHEAD]
    if ahead:
        counted = await differences.count_on(tx, ahead)
        seen = [(each, number) for each, number in ahead if each in counted]
        done |= await differences.open_anew(tx, seen, _BECAUSE[Difference.AHEAD])
    over = [each for each in differing if each.difference is Difference.RESOLVED_IN_ESCALATION]
    if over:
        # A trigger that joined the incident after its end was answered OK, and its sender may not repeat it.
        await resolving.spare(tx, [(each.id, each.resolved_there) for each in over if each.resolved_there])
        done |= (await resolving.resolve(tx, [each.id for each in over], _ACTOR)).keys()
    closing = [each for each in differing if each.difference in _CLOSED_THERE]
    if closing:
        known = await resolving.find(tx, [each.id for each in closing])
        # An incident that is open here by now is none of these any more.
        closing = [each for each in closing if each.id not in known or not known[each.id].open]
        rows = [(each.id, max(each.here or 0, (each.there or 0) + 1), _BECAUSE[each.difference]) for each in closing]
        await differences.close_there(tx, rows)
        done |= {each.id for each in closing}
    return done


_CLOSED_THERE: Final = (Difference.RESOLVED_IN_INGEST, Difference.UNKNOWN_IN_INGEST)


@dataclass(frozen=True, slots=True)
class _Page:
    compared: int
    found: list[Differing]
    position: UUID | None
    """Where the next page begins; None at the end."""


_Read = Callable[[UUID | None], Awaitable[_Page]]


class _Cursor:
    """Reads one side's open incidents page by page, again and again."""

    def __init__(self, read: _Read, differences: "LastingDifferences[Differing]") -> None:
        self._read = read
        self.differences = differences
        self.position: UUID | None = None

    async def step(self) -> tuple[int, list[Differing]]:
        """The next page: how many incidents were compared, and those that differ."""
        page = await self._read(self.position)
        self.position = page.position
        return page.compared, page.found
