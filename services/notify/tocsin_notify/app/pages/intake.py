"""Takes pages from all callers into `Submit`, in batches.

Each page arrives at least twice: through Redis, and by RPC a second later. It arrives more often when this process
answers slowly, since its callers repeat the call. The copies wait for the first one and cost nothing else.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from time import monotonic
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.batches import Batches
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.noisy_tenants import NoisyTenants

from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.app.pages.submit import Submit
from tocsin_notify.domain.page import CRITICAL, NORMAL
from tocsin_notify.store.pages.pages import NewPage

_log = get_logger(__name__)

MOST_PER_BATCH: Final = 200
"""Each page of a batch may hold an advisory lock; PostgreSQL's shared lock table is finite."""


_TOGETHER: Final = 20
"""Pages of one tenant that go into a batch with those of others. More of them would hold the rows of their people for
longer than other tenants may wait: in a storm, two batches of one tenant wait for the same rows."""
_AT_ONCE: Final = 2
_PATIENCE: Final = 0.05
"""Seconds that pages of several tenants wait together for a row which another transaction holds."""
_APART_SECONDS: Final = 6.0
"""For this time a tenant whose rows were locked has batches of its own: PostgreSQL ends an idle transaction before
that."""


class Intake:
    """Two lanes, so that a critical page waits for at most one batch of critical pages, and never for other pages.

    In each lane a tenant with many pages, now or within the last seconds, has batches of its own. The batches of all
    other tenants go on beside them. The same holds for a tenant whose rows another transaction holds: the other lane in
    a storm, or a replica that is paused.
    """

    def __init__(self, submit: Submit, first: PeopleFirst, *, clock: Callable[[], float] = monotonic) -> None:
        """`first`: the object that lets other work give way to pages while they are stored and their calls begin."""
        self._submit = submit
        self._first = first
        self._clock = clock
        self._apart: dict[Hashable, float] = {}
        """Tenants that have batches of their own, and until when."""
        self._noisy = NoisyTenants(clock=clock)
        self._on_way: dict[str, asyncio.Future[bool]] = {}
        self._lanes: dict[int, Batches[NewPage, bool]] = {
            priority: Batches(
                self._store,
                most=MOST_PER_BATCH,
                lane=lambda page: page.org_id,
                at_once=_AT_ONCE,
                together=_TOGETHER,
                alone=self._is_apart,
            )
            for priority in (CRITICAL, NORMAL)
        }

    def has(self, page: str) -> bool:
        """Whether this process knows that the page of this name is stored or being stored. `stored` then waits for it."""
        return page in self._on_way or page in self._submit.lately

    async def stored(self, pages: Iterable[str]) -> None:
        """Wait for those of these that are being stored. Raises what `submit` raises for one of them."""
        waiting = {self._on_way[page] for page in pages if page in self._on_way}
        if waiting:
            await asyncio.wait(waiting)
            for each in waiting:
                each.result()

    async def submit(self, pages: Sequence[NewPage]) -> list[bool]:
        """Whether each was new; committed when it returns. Raises what `Submit` raises, and OVERLOADED.

        If a caller is cancelled, its pages are still stored: others may wait for them.
        """
        answers = [self._enqueue(page) for page in pages]
        if len(answers) == 1:
            return [await asyncio.shield(answers[0])]
        if answers:
            try:
                await asyncio.wait(answers)
            finally:
                for each in answers:
                    each.add_done_callback(_look)
        return [answer.result() for answer in answers]

    async def drain(self) -> None:
        """Return when no page is being stored."""
        for lane in self._lanes.values():
            await lane.drain()

    def _enqueue(self, page: NewPage) -> "asyncio.Future[bool]":
        answer = self._lanes[page.priority].enqueue(page)
        self._noisy.note(page.org_id)
        self._on_way[page.job.page] = answer
        return answer

    def _is_apart(self, org_id: Hashable) -> bool:
        return org_id in self._noisy or self._apart.get(org_id, 0.0) > self._clock()

    def _set_apart(self, org_id: str) -> None:
        now = self._clock()
        self._apart = {other: until for other, until in self._apart.items() if until > now}
        self._apart[org_id] = now + _APART_SECONDS

    async def _store(self, pages: list[NewPage]) -> Sequence[bool | Exception]:
        try:
            with self._first:
                return await self._store_together(pages) if _tenants(pages) > 1 else await self._submit(pages)
        finally:
            for page in pages:
                self._on_way.pop(page.job.page, None)

    async def _store_together(self, pages: Sequence[NewPage]) -> Sequence[bool | Exception]:
        """Halves the batch until the tenants whose rows are locked are found: those are left out here, and are stored
        by themselves."""
        try:
            return await self._submit(pages, patience=_PATIENCE)
        except TocsinError as error:
            if error.reason != ErrorReason.ERROR_REASON_CONFLICT:
                raise
            if _tenants(pages) == 1:
                self._set_apart(pages[0].org_id)
                _log.info("tenant_apart", org_id=pages[0].org_id, pages=len(pages), error=error.message)
                return [error] * len(pages)
        tenants = list(dict.fromkeys(page.org_id for page in pages))
        first = set(tenants[: len(tenants) // 2])
        answers: dict[int, bool | Exception] = {}
        for half in (True, False):
            places = [place for place, page in enumerate(pages) if (page.org_id in first) is half]
            stored = await self._store_together([pages[place] for place in places])
            answers |= dict(zip(places, stored, strict=True))
        return [answers[place] for place in range(len(pages))]


def _tenants(pages: Sequence[NewPage]) -> int:
    return len({page.org_id for page in pages})


def _look(answer: "asyncio.Future[bool]") -> None:
    """One error is told to the caller, who brings all of its pages again. asyncio would log each of the others as a defect."""
    if not answer.cancelled():
        answer.exception()
