"""Pages from everywhere into `Submit`, in batches."""

from collections.abc import Sequence
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
        self._lately = submit.lately
        self._lanes: dict[int, Batches[NewPage, bool]] = {
            priority: Batches(
                submit, most=MOST_PER_BATCH, lane=lambda page: page.org_id, at_once=_AT_ONCE, together=_TOGETHER
            )
            for priority in (CRITICAL, NORMAL)
        }

    def knows(self, page: str) -> bool:
        """Whether the page of this name is known to be stored, so that another copy of it is nothing."""
        return page in self._lately

    async def submit(self, pages: Sequence[NewPage]) -> list[bool]:
        """Whether each was new; committed when it returns. Raises what `Submit` raises, and OVERLOADED."""
        if len(pages) == 1:
            return [await self._lanes[pages[0].priority].submit(pages[0])]
        answers: dict[int, bool] = {}
        for priority in (CRITICAL, NORMAL):
            places = [place for place, page in enumerate(pages) if page.priority == priority]
            done = await self._lanes[priority].submit_all([pages[place] for place in places])
            answers.update(zip(places, done, strict=True))
        return [answers[place] for place in range(len(pages))]

    async def drain(self) -> None:
        """Return when nothing is on its way into the database."""
        for lane in self._lanes.values():
            await lane.drain()
