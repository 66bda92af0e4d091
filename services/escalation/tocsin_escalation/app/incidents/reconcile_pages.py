"""Compares the pages whose outcome is open with those that notify knows, and sends the missing ones again.

Notify commits each page before escalation deletes its outbox row. So the two differ only while pages are being sent, and after
notify's database was restored from a backup. Without this, such pages would not be sent, and the next page would be that of the
next level. The comparison runs continuously, over a part of the incidents at a time.

The same comparison shows when escalation has lost an answer of a person. An answer stops the pages of a generation and begins the
next one in one transaction. If the pages of the present generation are stopped in notify, that transaction was lost: a standby
that lacked it took over. No page of the incident could be sent any more, so the incident begins a generation that was never used.
Stopped pages of earlier generations are those of users who passed the incident on. No outcome of them follows.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.lasting_differences import LastingDifferences
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.bisection import bisect, run_transaction
from tocsin_escalation.app.incidents.advance import Advanced, advance
from tocsin_escalation.app.incidents.decision_data import Step
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.incidents.jobs import PAGE
from tocsin_escalation.domain.escalation import PageState
from tocsin_escalation.domain.events import PageStopped, StopForgotten
from tocsin_escalation.store.incidents import pages, timeline
from tocsin_escalation.store.incidents.pages import OpenPage

_log = get_logger(__name__)

BATCH: Final = 500
_BATCHES_A_ROUND: Final = 10
_HANDED_TOGETHER: Final = 100
_YOUNGER: Final = 86_400.0
"""Seconds. A page without any outcome for longer may have been deleted by notify because of its age."""
_ONCE_IN: Final = 3600.0
"""Seconds. A page that notify refuses for good is a dead message by then, and must not become another one in each round."""


class Knowing(Protocol):
    """The port to notify. Raises SERVICE_UNAVAILABLE when it does not answer."""

    async def knows(self, pages: Sequence[tuple[str, UUID]]) -> list[int | None]:
        """Of each of these pages (tenant, id): None if it does not know it; the generation up to which pages of its incident are
        stopped, if it is one of them; otherwise 0."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """An incident whose pages are stopped in notify, up to this generation, while some of them are not heard of here."""

    org_id: str
    incident_id: UUID
    generation: int


@dataclass(frozen=True, slots=True)
class _Page:
    compared: int
    unknown: list[OpenPage]
    stopped: list[Stopped]
    over: list[OpenPage]
    """Stopped, of earlier generations."""
    position: UUID | None
    """Where the next page begins; None at the end."""


@dataclass(slots=True)
class Report:
    """The result of one whole comparison, the pages that were sent again, and the incidents that were paged again."""

    compared: int = 0
    found: list[OpenPage] = field(default_factory=list)
    handed: set[UUID] = field(default_factory=set)
    stopped: list[Stopped] = field(default_factory=list)


class PageReconciler:
    """Compares and sends again. `grace`: seconds for which notify must not know a page before the background rounds send it
    again."""

    def __init__(
        self, database: Database, notify: Knowing, effects: Effects, nudge: Callable[[], None], *, grace: float
    ) -> None:
        """`nudge`: tells the relay of pages that the outbox has more rows.

        Incidents whose pages are stopped are paged again after twice the grace: ingest closes within its own those that are over.
        """
        self._database = database
        self._notify = notify
        self._effects = effects
        self._nudge = nudge
        self._grace = grace
        self._differences = LastingDifferences[OpenPage](grace)
        self._stops = LastingDifferences[Stopped](2 * grace)
        self._over = LastingDifferences[OpenPage](grace)
        self._position: UUID | None = None

    async def round(self) -> None:
        """One round in the background: the pages of up to 5,000 incidents, after those of the last round.

        Raises SERVICE_UNAVAILABLE, DATABASE_UNAVAILABLE.
        """
        for _ in range(_BATCHES_A_ROUND):
            page = await self._look(self._position)
            self._position = page.position
            due = self._differences.due(await self._handed_before(page.unknown))
            await self._hand_over(due)
            self._differences.tried(due)
            stopped = self._stops.due(page.stopped)
            await self._begin_beyond(stopped)
            self._stops.tried(stopped)
            over = self._over.due(page.over)
            await self._settle(over)
            self._over.tried(over)
            if self._position is None:
                self._differences.forget_others()
                self._stops.forget_others()
                self._over.forget_others()
                break

    async def all_now(self, *, mend: bool) -> Report:
        """Everything at once, without a grace. Raises SERVICE_UNAVAILABLE, DATABASE_UNAVAILABLE."""
        report, position = Report(), None
        while True:
            page = await self._look(position)
            position = page.position
            report.compared += page.compared
            report.found += page.unknown
            if mend:
                report.handed |= await self._hand_over(page.unknown)
                report.stopped += await self._begin_beyond(page.stopped)
                await self._settle(page.over)
            if position is None:
                return report

    async def _look(self, after: UUID | None) -> _Page:
        async with self._database.system() as tx:
            found, position = await pages.open_after(tx, after, BATCH)
        known = await self._notify.knows([(each.org_id, each.page) for each in found]) if found else []
        both = list(zip(found, known, strict=True))
        stopped = {
            Stopped(each.org_id, each.incident_id, up_to): None
            for each, up_to in both
            if up_to is not None and up_to >= each.generation
        }
        over = [each for each, up_to in both if up_to and up_to < each.generation]
        return _Page(len(found), [each for each, up_to in both if up_to is None], list(stopped), over, position)

    async def _handed_before(self, unknown: Sequence[OpenPage]) -> list[OpenPage]:
        """Without those of tenants whose pages wait in the outbox: notify may not have got them yet, and will get them from
        there."""
        if not unknown:
            return []
        async with self._database.system() as tx:
            waiting = await outbox.held_up(tx, PAGE, {each.org_id for each in unknown}, self._grace)
        return [each for each in unknown if each.org_id not in waiting]

    async def _hand_over(self, unknown: Sequence[OpenPage]) -> set[UUID]:
        """Which pages were sent again. A page that fails delays no other one. Raises DATABASE_UNAVAILABLE."""
        handed: set[UUID] = set()

        async def work(some: Sequence[OpenPage]) -> None:
            handed.update(await run_transaction(self._database, None, self._again(some)))

        def failed(each: OpenPage) -> None:
            _log.exception("page_not_handed_again", org_id=each.org_id, incident=str(each.incident_id))

        for first in range(0, len(unknown), _HANDED_TOGETHER):
            await bisect(unknown[first : first + _HANDED_TOGETHER], work, failed)
        if handed:
            self._nudge()
        for each in unknown:
            if each.page in handed:
                _log.error(
                    "page_forgotten",
                    org_id=each.org_id,
                    incident=str(each.incident_id),
                    page=str(each.page),
                    remedy="none: it was handed to notify again",
                )
        return handed

    def _again(self, some: Sequence[OpenPage]) -> Callable[[Tx], Awaitable[set[UUID]]]:
        async def work(tx: Tx) -> set[UUID]:
            # Locked first: what another replica sent again meanwhile is then visible in the timeline.
            runs = await pages.lock(tx, list({each.incident_id for each in some}))
            wanted = [
                (each.org_id, each.incident_id, each.page)
                for each in some
                if (run := runs.get(each.incident_id)) is not None
                and run.org_id == each.org_id
                and run.pages.get(each.page) is PageState.OPEN
            ]
            made = await timeline.forgotten(tx, wanted, younger=_YOUNGER, unless_noted=_ONCE_IN) if wanted else []
            steps = [Step(each.incident_id, each.event, org_id=each.org_id) for each in made]
            await advance(tx, steps, self._effects, entries=False)
            return {each.event.page for each in made}

        return work

    async def _settle(self, over: Sequence[OpenPage]) -> None:
        """They are not waited for any more. One that fails holds up no other. Raises DATABASE_UNAVAILABLE."""

        def work_of(some: Sequence[OpenPage]) -> Callable[[Tx], Awaitable[object]]:
            steps = [Step(each.incident_id, PageStopped(each.page), org_id=each.org_id) for each in some]
            return lambda tx: advance(tx, steps, self._effects, entries=False)

        async def work(some: Sequence[OpenPage]) -> None:
            await run_transaction(self._database, None, work_of(some))

        def failed(each: OpenPage) -> None:
            _log.exception("stopped_page_not_settled", org_id=each.org_id, incident=str(each.incident_id))

        for first in range(0, len(over), _HANDED_TOGETHER):
            await bisect(over[first : first + _HANDED_TOGETHER], work, failed)

    async def _begin_beyond(self, stopped: Sequence[Stopped]) -> list[Stopped]:
        """Which incidents are paged again. One that fails holds up no other. Raises DATABASE_UNAVAILABLE."""
        begun_: list[Stopped] = []

        async def work(some: Sequence[Stopped]) -> None:
            begun_.extend(await run_transaction(self._database, None, self._beyond(some)))

        def failed(each: Stopped) -> None:
            _log.exception("incident_not_paged_again", org_id=each.org_id, incident=str(each.incident_id))

        for first in range(0, len(stopped), _HANDED_TOGETHER):
            await bisect(stopped[first : first + _HANDED_TOGETHER], work, failed)
        if begun_:
            self._nudge()
        for each in begun_:
            _log.error(
                "stop_forgotten",
                org_id=each.org_id,
                incident=str(each.incident_id),
                generation=each.generation,
                remedy="none: the incident is paged again",
            )
        return begun_

    def _beyond(self, some: Sequence[Stopped]) -> Callable[[Tx], Awaitable[list[Stopped]]]:
        async def work(tx: Tx) -> list[Stopped]:
            steps = [Step(each.incident_id, StopForgotten(each.generation), org_id=each.org_id) for each in some]
            answers = await advance(tx, steps, self._effects, entries=False)
            return [
                each
                for each, answer in zip(some, answers, strict=True)
                if isinstance(answer, Advanced) and not answer.already
            ]

        return work
