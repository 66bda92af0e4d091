"""A page that notify has needs no second copy: its outbox row goes when notify says so, and stays when it does not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_escalation.app.incidents.advance import Advanced
from tocsin_escalation.app.incidents.apply_events import Result, apply_events
from tocsin_escalation.domain.events import Reassigned
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.work import stored_pages
from tocsin_escalation.work.stored_pages import HandedPage, StoredPages
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import within

from tests.store.escalation.recorders import ORG, Desk, Paging


class Notify:
    """Knows some pages, or does not answer."""

    def __init__(self) -> None:
        self.known: set[tuple[str, UUID]] = set()
        self.away: TocsinError | None = None
        self.asked: list[list[tuple[str, UUID]]] = []

    async def knows(self, pages: Sequence[tuple[str, UUID]]) -> list[int | None]:
        self.asked.append(list(pages))
        if self.away:
            raise self.away
        answer = [0 if each in self.known else None for each in pages]
        await asyncio.sleep(0.01)
        return answer


@asynccontextmanager
async def asking(desk: Desk, notify: Notify) -> AsyncIterator[StoredPages]:
    """Rows of pages that notify has are gone when the block has ended."""
    stop = asyncio.Event()
    stored = StoredPages(desk.db, notify, lambda: None)
    running = asyncio.create_task(stored.run(stop))
    try:
        yield stored
    finally:
        stop.set()
        await running


async def waiting(desk: Desk) -> dict[int, str]:
    """The rows of pages that are to be handed over, and whose those are."""
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT id, org_id FROM outbox WHERE kind = 'page' ORDER BY id")
    return {row["id"]: row["org_id"] for row in rows}


async def opened(desk: Desk, count: int) -> list[HandedPage]:
    """The pages of so many incidents that open together, as they go to notify."""
    paging = desk.effects.paging
    assert isinstance(paging, Paging)
    results = await apply_events(desk.db, desk.effects, [desk.opening() for _ in range(count)])
    assert results == [Result.APPLIED] * count
    return [
        HandedPage(job.org_id, UUID(job.page.removeprefix("pages/")), row)
        for job, row in zip(paging.jobs, paging.rows, strict=True)
    ]


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are asked about as soon as they are handed over, and once."""
    for name in ("ASK_AFTER", "YOUNGEST", "_ASKED_AGAIN"):
        monkeypatch.setattr(stored_pages, name, 0.0)


async def until_asked(notify: Notify, times: int = 1) -> None:
    async with asyncio.timeout(within(20)):
        while len(notify.asked) < times:
            await asyncio.sleep(0.01)


async def test_the_row_of_a_page_that_notify_has_goes_and_the_others_stay_for_the_relay(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    pages, notify = await opened(desk, 3), Notify()
    assert set(await waiting(desk)) == {each.row for each in pages}
    lost = pages[1]
    notify.known = {(each.org_id, each.page) for each in pages if each is not lost}
    async with asking(desk, notify) as stored:
        stored.handed(pages)
        await until_asked(notify)
    assert await waiting(desk) == {lost.row: ORG}
    assert notify.asked == [[(each.org_id, each.page) for each in pages]], "one question for all of them"


async def test_what_notify_has_not_stored_yet_is_asked_about_once_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    monkeypatch.setattr(stored_pages, "_ASKED_AGAIN", 60.0)
    pages, notify = await opened(desk, 2), Notify()
    notify.known = {(pages[0].org_id, pages[0].page)}
    async with asking(desk, notify) as stored:
        stored.handed(pages)
        await until_asked(notify)
        notify.known = {(each.org_id, each.page) for each in pages}
        await until_asked(notify, 2)
    assert await waiting(desk) == {}
    assert {len(asked) for asked in notify.asked[1:]} == {1}


async def test_rows_stay_while_notify_does_not_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch)
    [page], notify = await opened(desk, 1), Notify()
    notify.away = TocsinError(reasons.ERROR_REASON_SERVICE_UNAVAILABLE, "no answer")
    async with asking(desk, notify) as stored:
        stored.handed([page])
        await until_asked(notify)
    assert await waiting(desk) == {page.row: ORG}


async def test_a_row_of_another_tenant_does_not_go(desk: Desk) -> None:
    [page], notify = await opened(desk, 1), Notify()
    async with asking(desk, notify) as stored:
        stored.stored([page._replace(org_id="globex")])
    assert await waiting(desk) == {page.row: ORG}


async def test_each_page_goes_with_the_row_that_holds_it_whatever_else_its_transaction_writes(desk: Desk) -> None:
    """The levels' times are over, and a person hands one on: that stops its page, by a row of its own."""
    _, _, handed_on = [await desk.opens() for _ in range(3)]
    paging = desk.effects.paging
    assert isinstance(paging, Paging)
    ben = Target(TargetKind.USER, "ben")
    assert isinstance(await desk.take(handed_on, Reassigned("users/ana", targets=(ben,))), Advanced)
    await desk.passes(minutes=5)
    await desk.sweep()
    assert [job.user for job in paging.jobs] == ["users/ana"] * 3 + ["users/ben"] * 4
    assert len(paging.rows) == len(paging.jobs)
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT id, payload FROM outbox WHERE kind = 'page'")
    payloads = {row["id"]: row["payload"] for row in rows}
    assert [payloads[row] for row in paging.rows] == [job.SerializeToString() for job in paging.jobs]
