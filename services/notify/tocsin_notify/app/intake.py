"""Pages from everywhere into `Submit`, in batches.

Each page comes at least twice: through Redis, and by RPC a second later; more often when this process is slow to answer, since its
callers ask again. The copies wait for the first one and cost nothing else.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from tocsin_kit.batches import Batches

from tocsin_notify.app.submit import Submit
from tocsin_notify.domain.page import CRITICAL, NORMAL
from tocsin_notify.store.pages import NewPage

MOST_PER_BATCH: Final = 200
"""Each page of a batch may hold an advisory lock; PostgreSQL's shared lock table is finite."""


_TOGETHER: Final = 20
"""Pages of one tenant that go into a batch with those of others. More of them hold rows of their people for longer than others may
wait: those of a storm, which two batches of one tenant would wait for as well."""
_AT_ONCE: Final = 2


class Intake:
    """Two lanes, so that a critical page waits for at most one batch of critical pages, never for the others' flood.

    In each of them a tenant with many pages has batches of its own, beside which those of all others go on.
    """

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._on_way: dict[str, asyncio.Future[bool]] = {}
        self._lanes: dict[int, Batches[NewPage, bool]] = {
            priority: Batches(
                self._store, most=MOST_PER_BATCH, lane=lambda page: page.org_id, at_once=_AT_ONCE, together=_TOGETHER
            )
            for priority in (CRITICAL, NORMAL)
        }

    def has(self, page: str) -> bool:
        """Whether the page of this name is stored or on its way, as far as is known here. Then `stored` says when."""
        return page in self._on_way or page in self._submit.lately

    async def stored(self, pages: Iterable[str]) -> None:
        """Wait for those of these that are on their way. Raises what `submit` raises for one of them."""
        waiting = {self._on_way[page] for page in pages if page in self._on_way}
        if waiting:
            await asyncio.wait(waiting)
            for each in waiting:
                each.result()

    async def submit(self, pages: Sequence[NewPage]) -> list[bool]:
        """Whether each was new; committed when it returns. Raises what `Submit` raises, and OVERLOADED.

        A caller that is cancelled leaves its pages on their way: others may wait for them.
        """
        answers = [self._enqueue(page) for page in pages]
        if len(answers) == 1:
            return [await asyncio.shield(answers[0])]
        if answers:
            await asyncio.wait(answers)
        return [answer.result() for answer in answers]

    async def drain(self) -> None:
        """Return when nothing is on its way into the database."""
        for lane in self._lanes.values():
            await lane.drain()

    def _enqueue(self, page: NewPage) -> "asyncio.Future[bool]":
        answer = self._lanes[page.priority].enqueue(page)
        self._on_way[page.job.page] = answer
        return answer

    async def _store(self, pages: list[NewPage]) -> list[bool]:
        try:
            return await self._submit(pages)
        finally:
            for page in pages:
                self._on_way.pop(page.job.page, None)
