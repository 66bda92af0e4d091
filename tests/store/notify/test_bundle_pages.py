"""Bundles of which a page is one too many, or cannot be read: they are parted, and no page is lost."""

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_kit.db.pool import Tx
from tocsin_notify.app.delivery.failures import Failures
from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.app.pages import bundles as due_bundles
from tocsin_notify.domain.attempt import RetryPolicy
from tocsin_notify.domain.bundling import BundlePolicy
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.pages import bundles as stored_bundles
from tocsin_notify.store.pages.bundles import StoppedIn

from tests.store.notify.bundling import (
    COLLECTED,
    SENT,
    TWO,
    bundles,
    incident_of,
    nothing_collects,
    outcomes,
    storm,
)
from tests.store.notify.support import WARNING, World, new_org, until


async def test_too_many_pages_for_one_message_come_as_several_and_none_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_bundles, "MOST_PAGES", 3)
    org = new_org()
    first = await world.method(org, webhook="ana")
    second = await world.method(org, webhook="later")
    await world.method(org, "users/ben", webhook="ben")
    async with world.replica(**TWO) as notify:
        await notify.set_rules(org, "users/ana", (pb.URGENCY_LOW, first, 0), (pb.URGENCY_LOW, second, 300))
        jobs = (await storm(notify, org, *[WARNING] * 10))[2:]
        bens = (await storm(notify, org, *[WARNING] * 5, user="users/ben"))[2:]
        await notify.cancel(org, incident_of(jobs[0]))
        [collecting] = await world.admin.fetch("SELECT bundle FROM paces WHERE user_id = 'users/ana'")
        await world.forward(COLLECTED)
        everything = {each.page for each in (*jobs[1:], *bens)}
        await until(lambda: everything <= set(outcomes(world, SENT)))
        assert sorted(each.subject.partition(":")[0] for each in bundles(world)) == [
            "[warning] 2 more pages",
            "[warning] 2 more pages",
            "[warning] 3 more pages",
        ], "what was answered takes up room until its part is read, and no more"
        assert [each.subject.partition(":")[0] for each in bundles(world, "ben")] == ["[warning] 3 more pages"], (
            "it fits"
        )
        rows = await world.admin.fetch(
            """SELECT b.bundle, b.page_id, n.state_reason, n.state FROM bundle_pages b JOIN notifications n USING (page_id)
               WHERE b.page_id = ANY($1::uuid[])""",
            [uuid.UUID(each.page[6:]) for each in jobs[1:]],
        )
        assert {(row["state"], row["state_reason"]) for row in rows} == {
            ("bundled", f"sent together with other pages, as pages/{row['bundle']}") for row in rows
        }
        assert await nothing_collects(world)
        parts = {row["bundle"] for row in rows}
        assert len(parts) == 3
        part = min(parts - {collecting["bundle"]})
        inside = {row["page_id"] for row in rows if row["bundle"] == part}
        answered = [incident_of(each) for each in jobs if uuid.UUID(each.page[6:]) in inside]
        for incident in answered:
            await notify.cancel(org, incident)
        later = "incident = page_id AND contact_method = $1 AND page_id = ANY($2::uuid[])"
        assert await world.states(later, second, [part]) == ["cancelled"]
        assert set(await world.states(later, second, list(parts - {part}))) == {"pending"}, "those are of others"


async def test_a_cancel_that_crosses_with_the_parting_of_a_bundle_finds_its_pages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked them up before, and names the bundle in which they were."""
    monkeypatch.setattr(due_bundles, "MOST_PAGES", 2)
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(**TWO) as notify:
        jobs = (await storm(notify, org, *[WARNING] * 5))[2:]
        [collecting] = await world.admin.fetch("SELECT bundle FROM paces WHERE org_id = $1", org)
        await world.forward(COLLECTED)
        await until(lambda: {each.page for each in jobs} <= set(outcomes(world, SENT)))
        [part] = await world.admin.fetch(
            "SELECT bundle, array_agg(incident) AS incidents FROM bundle_pages WHERE bundle <> $1 GROUP BY bundle",
            collecting["bundle"],
        )
        for incident in part["incidents"]:
            await notify.cancel(org, incident)
        async with notify.runtime.database.system() as tx:
            named = [(org, incident) for incident in part["incidents"]]
            found = await stored_bundles.stop(tx, [(org, collecting["bundle"])], named)
            assert found == StoppedIn([], over=[(org, part["bundle"])], told=[])


async def test_a_page_that_cannot_be_read_goes_alone_and_holds_up_no_bundle(world: World) -> None:
    """It says what its row says: whose it is and of which incident. Its person's later steps keep their time."""
    org = new_org()
    first = await world.method(org, webhook="ana")
    second = await world.method(org, webhook="later")
    await world.method(org, "users/ben", webhook="ben")
    async with world.replica(**TWO) as notify:
        await notify.set_rules(org, "users/ana", (pb.URGENCY_LOW, first, 0), (pb.URGENCY_LOW, second, 300))
        anas = await storm(notify, org, *[WARNING] * 5)
        bens = await storm(notify, org, *[WARNING] * 4, user="users/ben")
        await until(lambda: world.arrived("ana") == 2 and world.arrived("ben") == 2)
        await world.admin.execute("UPDATE pages SET job = '\\xff' WHERE id = $1", uuid.UUID(anas[3].page[6:]))
        await world.forward(COLLECTED)
        await until(lambda: bundles(world, "ben") and bundles(world) and world.arrived("ana") == 4)
        assert bundles(world, "ben")[0].subject.startswith("[warning] 2 more pages")
        assert bundles(world)[0].subject.startswith("[warning] 2 more pages")
        [alone] = [each for each in world.inbox.messages if each.incident == anas[3].incident]
        assert (alone.kind, "cannot be read" in alone.subject) == ("new_incident", True)
        later = "contact_method = $1 AND page_id = $2"
        assert await world.states(later, second, uuid.UUID(anas[3].page[6:])) == ["pending"]
        await until(lambda: {anas[2].page, anas[3].page, bens[2].page} <= set(outcomes(world, SENT)))
        assert "in one message for 2 pages" in outcomes(world, SENT)[anas[2].page]
        assert outcomes(world, SENT)[anas[3].page] == ""
        await notify.cancel(org, incident_of(anas[3]))
        assert await world.states(later, second, uuid.UUID(anas[3].page[6:])) == ["cancelled"]


async def test_a_bundle_whose_page_became_unreadable_is_concluded_and_told(world: World) -> None:
    """What became of one message must not hang on the words of a page in it: it would be sent again for want of a row."""
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(**TWO) as notify:
        jobs = await storm(notify, org, *[WARNING] * 5)
        await until(lambda: world.arrived("ana") == 2)
        world.hooks.hang["ana"] = asyncio.Event()
        await world.forward(COLLECTED)
        await until(lambda: world.hooks.held["ana"])
        await world.admin.execute("UPDATE pages SET job = '\\xff' WHERE id = $1", uuid.UUID(jobs[3].page[6:]))
        world.hooks.hang["ana"].set()
        await until(lambda: {each.page for each in jobs[2:]} <= set(outcomes(world, SENT)))
        assert len(bundles(world)) == 1
        assert await world.states("incident = page_id") == ["sent"]


@pytest.mark.parametrize(("pages", "taken"), [(2, [1, 1, 1, 1]), (100, [1, 2, 1])])
async def test_large_bundles_are_made_one_by_one_and_each_time_pages_of_others_go_first(
    world: World, monkeypatch: pytest.MonkeyPatch, pages: int, taken: list[int]
) -> None:
    """Those of a storm are due at one instant, and pages of others come meanwhile, as they do while escalation hears of each."""
    monkeypatch.setattr(due_bundles, "_PAGES_AT_ONCE", pages)
    happened: list[str | int] = []
    claim = stored_bundles.claim

    async def claiming(tx: Tx, limit: int) -> list[stored_bundles.Due]:
        found = await claim(tx, limit)
        happened.append(len(found))
        return found

    class Recording(PeopleFirst):
        async def give_way(self) -> None:
            happened.append("pages")

    async def rest(stop: asyncio.Event, seconds: float) -> bool:
        happened.append("rest")
        return False

    monkeypatch.setattr(stored_bundles, "claim", claiming)
    monkeypatch.setattr(due_bundles, "wait_or_stop", rest)
    hints: Any = SimpleNamespace(now=lambda ids: None, arm=lambda later: None)
    org, metrics = new_org(), NotifyMetrics(CollectorRegistry())
    async with world.replica(**TWO, works=False) as notify:
        for name in ("ana", "ben", "cleo", "dan"):
            await world.method(org, f"users/{name}", webhook=name)
            await storm(notify, org, *[WARNING] * 5, user=f"users/{name}")
        await world.forward(COLLECTED)
        failures = Failures(RetryPolicy(), metrics, hints, lambda: None)
        await due_bundles.Bundles(
            notify.runtime.database, hints, metrics, failures, BundlePolicy(pages=2), Recording(), asyncio.Event()
        )()
        assert await nothing_collects(world)
    rests = ["rest"] if pages == 2 else []
    assert happened == [each for count in taken for each in ("pages", count, *rests)] + ["pages", 0]
