"""Messages are told what became of their incident: none is forgotten, none keeps another waiting, and ringing ends first."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from tocsin_kit.auth import SigningKeys
from tocsin_kit.db.pool import Database
from tocsin_kit.ids import new_id
from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.app.delivery.sequels import Sequels
from tocsin_notify.app.pages.jobs import read_job
from tocsin_notify.channels.base import Delivery, Permit, Sequel
from tocsin_notify.domain.attempt import Outcome, Retryable, Sent
from tocsin_notify.domain.page import Channel, State
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.delivery.gate import Gate, incident_key
from tocsin_notify.store.delivery.notifications import Conclusion, NewNotification
from tocsin_notify.store.pages import pages
from tocsin_notify.store.pages.pages import Fence, NewPage
from tocsin_testkit.databases import dialed

from tests.store.notify.support import CRITICAL, KEYS, WARNING, World, job, new_org, until

CIPHER = Cipher([key for _, key in SigningKeys.parse(KEYS).keys])


class Follower:
    """A provider that is told. `hangs`: messages (or all) that it answers only once `go` is set."""

    concurrency = 100

    def __init__(self, *, rings: bool = False) -> None:
        self.rings = rings
        self.told: list[str] = []
        self.hangs: Collection[str] = ()
        self.go = asyncio.Event()
        self.refuses = 0
        self.under_way = 0
        self.most = 0

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        raise AssertionError("nothing is sent here")

    async def follow(self, sequel: Sequel, permit: Permit) -> Outcome:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if sequel.provider_id in self.hangs:
                await self.go.wait()
            if self.refuses:
                self.refuses -= 1
                return Retryable("503")
            self.told.append(sequel.provider_id)
            return Sent()
        finally:
            self.under_way -= 1

    async def close(self) -> None:
        """Nothing is open."""


class Scene:
    """Messages that were sent, and those who tell their providers."""

    def __init__(self, world: World, db: Database, gate: Gate) -> None:
        self.world, self.db, self.gate = world, db, gate
        self.slack, self.pushover = Follower(), Follower(rings=True)
        self._methods: dict[tuple[str, Channel], uuid.UUID] = {}
        self._made: list[Sequels] = []

    def sequels(self, *, slots: int = 20, first: PeopleFirst | None = None) -> Sequels:
        channels = {Channel.SLACK: self.slack, Channel.PUSHOVER: self.pushover}
        self._made.append(Sequels(self.db, channels, CIPHER, timeout=60.0, first=first, slots=slots))
        return self._made[-1]

    async def end(self) -> None:
        for made in self._made:
            await made.drain(0.0)

    async def page(
        self, org: str, channel: Channel, state: State, severity: int = CRITICAL
    ) -> tuple[NewPage, NewNotification]:
        """A page with one notification, not stored yet."""
        if (org, channel) not in self._methods:
            made = (
                self.world.method(org, slack="x") if channel is Channel.SLACK else self.world.method(org, pushover="x")
            )
            self._methods[org, channel] = await made
        page = read_job(job(org, severity=severity))
        row = NewNotification(
            id=new_id(),
            org_id=org,
            page_id=page.id,
            user_id=page.user_id,
            incident=page.incident,
            generation=1,
            priority=page.priority,
            contact_method=self._methods[org, channel],
            channel=channel,
            step=0,
            state=state,
            reason="",
            delay=0.0,
            outlasts=False,
        )
        return page, row

    async def sent(self, org: str, channel: Channel, name: str, severity: int = CRITICAL) -> NewPage:
        """A message that the provider took, by its name for it."""
        page, row = await self.page(org, channel, State.SENDING, severity)
        async with self.db.system() as tx:
            await pages.insert(tx, [page])
            await notifications.insert(tx, [row], lease=60.0)
        await self.taken(row, name)
        return page

    async def taken(self, row: NewNotification, name: str) -> None:
        async with self.db.system() as tx:
            answer = Conclusion(row.id, 1, "sent", "", name, "sent", 0.0, row.org_id)
            await notifications.conclude(tx, [answer], shard=0)

    async def stop(self, *stopped: NewPage, upto: int = 1) -> None:
        async with self.db.system() as tx:
            given = [(each.org_id, each.incident) for each in stopped if each.incident is not None]
            reason = "acknowledged by users/ana"
            await pages.raise_fences(tx, [Fence(org, incident, upto, reason, upto) for org, incident in sorted(given)])

    async def open(self) -> int:
        found: int = await self.world.admin.fetchval("SELECT count(*) FROM cancel_fences WHERE NOT followed")
        return found


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    async with opened(world) as (db, gate):
        made = Scene(world, db, gate)
        yield made
        made.slack.go.set()
        made.pushover.go.set()
        await made.end()


@asynccontextmanager
async def opened(world: World) -> AsyncIterator[tuple[Database, Gate]]:
    gate = await Gate.open(world.database_url, name="notify")
    db = await dialed(world.database_url, name="notify", size=4)
    try:
        yield db, gate
    finally:
        await db.close()
        await gate.close()


@pytest.mark.parametrize("waited", [False, True], ids=["a new page", "a page that waited"])
async def test_a_fence_stays_open_for_a_claim_that_is_not_committed_yet(scene: Scene, waited: bool) -> None:
    """The claim read the fences before there was one, and its call begins: what it leaves is told afterwards."""
    org = new_org()
    sequels = scene.sequels()
    page, row = await scene.page(org, Channel.PUSHOVER, State.PENDING if waited else State.SENDING)
    assert page.incident is not None
    if waited:
        async with scene.db.system() as tx:
            await pages.insert(tx, [page])
            await notifications.insert(tx, [row])
    async with scene.gate.passage([incident_key(org, page.incident)]) as passage:
        if waited:
            [claimed] = await notifications.claim(passage.tx, [row.id], max_tries=5, lease=60.0, sender=None)
            assert claimed.verdict == "sending"
        else:
            assert (await pages.insert(passage.tx, [page])).fences == {page.id: None}
            await notifications.insert(passage.tx, [row], lease=60.0)
        await scene.stop(page)
        await sequels()
        assert await scene.open() == 1, "closed, it would ring until it expires"
        await passage.commit()
    await sequels()
    assert await scene.open() == 1, "its call is under way"
    await scene.taken(row, "receipt")
    await sequels()
    await until(lambda: scene.pushover.told == ["receipt"])
    await until(lambda: closed(scene, sequels))


async def closed(scene: Scene, sequels: Sequels) -> bool:
    await sequels()
    return await scene.open() == 0


async def test_an_answer_that_comes_after_its_row_was_cancelled_is_told_as_well(scene: Scene) -> None:
    org = new_org()
    sequels = scene.sequels()
    page, row = await scene.page(org, Channel.PUSHOVER, State.SENDING)
    async with scene.db.system() as tx:
        await pages.insert(tx, [page])
        await notifications.insert(tx, [row], lease=0.0)
    await scene.stop(page)
    async with scene.db.system() as tx:
        assert await notifications.cancel_fenced(tx, [(org, page.incident)]) == ([row.id], 0)  # type: ignore[list-item]
    await sequels()
    assert await scene.open() == 1
    await scene.taken(row, "late")
    assert await scene.world.states() == ["cancelled"]
    await sequels()
    await until(lambda: scene.pushover.told == ["late"])
    await until(lambda: closed(scene, sequels))
    lost, row = await scene.page(org, Channel.PUSHOVER, State.SENDING)
    async with scene.db.system() as tx:
        await pages.insert(tx, [lost])
        await notifications.insert(tx, [row], lease=0.0)
    await scene.stop(lost)
    async with scene.db.system() as tx:
        await notifications.cancel_fenced(tx, [(org, lost.incident)])  # type: ignore[list-item]
    await scene.world.forward(timedelta(minutes=11))
    await sequels()
    assert await scene.open() == 0, "its process died with it: no answer comes any more"


async def test_a_provider_or_a_message_that_hangs_keeps_no_other_waiting(scene: Scene) -> None:
    org = new_org()
    sequels = scene.sequels(slots=4)
    scene.slack.hangs = [f"slack {number}" for number in range(9)]
    hung = [await scene.sent(org, Channel.SLACK, name) for name in scene.slack.hangs]
    scene.pushover.hangs = ["stuck"]
    stuck = await scene.sent(org, Channel.PUSHOVER, "stuck")
    rings = [await scene.sent(org, Channel.PUSHOVER, f"receipt {number}") for number in range(8)]
    await scene.stop(*hung, stuck, *rings)

    async def all_told() -> bool:
        await sequels()
        return len(scene.pushover.told) == 8

    await until(all_told)
    assert (scene.slack.told, scene.slack.under_way, scene.slack.most) == ([], 4, 4)
    later = await scene.sent(org, Channel.PUSHOVER, "later")
    await scene.stop(later)
    await sequels()
    await until(lambda: scene.pushover.told[8:] == ["later"])
    scene.slack.go.set()
    scene.pushover.go.set()
    await until(lambda: closed(scene, sequels))
    assert sorted(scene.slack.told) == sorted(scene.slack.hangs), "each once"
    assert scene.pushover.told[9:] == ["stuck"]


async def test_what_rings_goes_first_and_each_tenant_has_its_turn(scene: Scene) -> None:
    flooding, other = new_org(), new_org()
    sequels = scene.sequels(slots=2)
    flood = [await scene.sent(flooding, Channel.PUSHOVER, f"quiet {n}", WARNING) for n in range(6)]
    flood.append(await scene.sent(flooding, Channel.PUSHOVER, "rings"))
    await scene.stop(*flood)
    await scene.stop(await scene.sent(other, Channel.PUSHOVER, "other"))
    await sequels()
    await until(lambda: len(scene.pushover.told) == 2)
    assert set(scene.pushover.told) == {"rings", "other"}
    await until(lambda: closed(scene, sequels))
    assert len(scene.pushover.told) == 8


async def test_what_a_process_had_claimed_when_it_died_another_one_tells(scene: Scene) -> None:
    org = new_org()
    scene.pushover.hangs = ["receipt"]
    await scene.stop(await scene.sent(org, Channel.PUSHOVER, "receipt"))
    dying, other = scene.sequels(), scene.sequels()
    await dying()
    await until(lambda: scene.pushover.under_way == 1)
    await dying.drain(0.0)
    scene.pushover.hangs = ()
    await other()
    assert (scene.pushover.told, await scene.open()) == ([], 1), "it may be under way still"
    await scene.world.forward(timedelta(seconds=71))
    await other()
    await until(lambda: scene.pushover.told == ["receipt"])
    await until(lambda: closed(scene, other))


async def test_ringing_is_tried_on_for_as_long_as_it_rings_and_the_rest_is_given_up_soon(scene: Scene) -> None:
    org = new_org()
    sequels = scene.sequels()
    scene.slack.refuses = scene.pushover.refuses = 40
    await scene.stop(await scene.sent(org, Channel.SLACK, "slack"), await scene.sent(org, Channel.PUSHOVER, "receipt"))
    for minute in range(1, 10_000):
        await sequels()
        await sequels.drain(30.0)
        if scene.pushover.told:
            break
        await scene.world.forward(timedelta(seconds=61 * minute))
    assert scene.pushover.told == ["receipt"], "one call a minute, until it takes it"
    assert (scene.slack.told, scene.slack.refuses) == ([], 40 - 8)
    await until(lambda: closed(scene, sequels))


async def test_what_was_told_of_an_acknowledge_is_told_of_the_end_as_well_and_of_nothing_twice(scene: Scene) -> None:
    org = new_org()
    sequels = scene.sequels()
    page = await scene.sent(org, Channel.SLACK, "message")
    for upto, told in ((1, 1), (1, 1), (3, 2), (2, 2)):
        await scene.stop(page, upto=upto)
        await until(lambda: closed(scene, sequels))
        await sequels.drain(30.0)
        assert scene.slack.told == ["message"] * told, (upto, told)


async def test_updates_give_way_to_a_person_who_answers(scene: Scene) -> None:
    """Both want the processor, and only one of them waits."""
    first = PeopleFirst(most=600.0)
    patient, other = scene.sequels(first=first), scene.sequels()
    await scene.stop(await scene.sent(new_org(), Channel.SLACK, "a message"))
    with first:
        waiting = asyncio.create_task(patient())
        for _ in range(3):
            await other()
        assert not waiting.done()
    await waiting
    await until(lambda: scene.slack.told == ["a message"])
