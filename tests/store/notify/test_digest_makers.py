"""What makes digests, without a replica around it: leases, turns, and changes in between."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import grpc
import pytest
from prometheus_client import CollectorRegistry
from tocsin.escalation.v1.internal_service_pb2 import SummarizeForDigestsResponse
from tocsin.notify.v1 import digest_pb2
from tocsin_kit.db.pool import Database, Tx
from tocsin_notify.app.delivery.hints import Hint
from tocsin_notify.app.messages.make_digests import BEHIND, MakeDigests
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.domain.digest import Frequency, WhenEmpty
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.messages import digests
from tocsin_notify.store.messages.digests import Choice, Digest, Made
from tocsin_stack.postgres import tenant_url
from tocsin_testkit.databases import dialed

from tests.store.notify.messages import ANA, HOUR
from tests.store.notify.support import World, new_org

DAY = timedelta(days=1)
_MAIL = "ana@example.com"


class Quiet:
    """Takes hints, and passes none on."""

    def arm(self, hints: Sequence[Hint]) -> None: ...
    def disarm(self, ids: Sequence[UUID]) -> None: ...
    def now(self, ids: Sequence[UUID]) -> None: ...
    def messages(self, due: Sequence[tuple[UUID, float]]) -> None: ...


class Makers:
    """What makes digests, without a replica around it."""

    def __init__(self, db: Database, world: World, channel: grpc.aio.Channel) -> None:
        self.db = db
        self._world = world
        self._escalation = Escalation(channel)

    async def round(self) -> None:
        """One replica makes what is due."""
        metrics = NotifyMetrics(CollectorRegistry())
        await MakeDigests(self.db, self._escalation, Quiet(), metrics, latest=6 * HOUR).everything()

    async def insert(self, org: str, user: str = ANA) -> Digest:
        """One that has been due since the last hour but one, of a user with an address."""
        await self._world.method(org, user, email=_MAIL)

        async def work(tx: Tx) -> Digest:
            due = (await tx.now() - HOUR).replace(minute=0, second=0, microsecond=0)
            choice = Choice(user, Frequency.DAILY, due.hour, 0, "UTC", None, WhenEmpty.NOTHING)
            return await digests.write(tx, choice, due)

        return await self.db.run(org, work)

    async def read(self, org: str, user: str = ANA) -> Digest | None:
        async with self.db.transaction(org) as tx:
            return await digests.read(tx, user, Frequency.DAILY)

    async def pages(self, org: str) -> int:
        return int((await self._world.row("SELECT count(*) AS n FROM pages WHERE org_id = $1", org))["n"])


@pytest.fixture
async def makers(world: World) -> AsyncIterator[Makers]:
    login = tenant_url(world.database_url)
    db = await dialed(world.database_url, name="notify-test", tenant_url=login, size=8)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.escalation.port}") as channel:
        yield Makers(db, world, channel)
    await db.close()


async def test_one_that_dies_before_its_commit_is_made_once_by_the_next_when_its_lease_has_ended(
    world: World, makers: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = new_org()
    await makers.insert(org)
    real = digests.settle

    async def dies(tx: Tx, made: Sequence[Made]) -> None:
        await real(tx, made)
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(digests, "settle", dies)
        await makers.round()
    await makers.round()
    assert await makers.pages(org) == 0, "nothing was committed, and nobody may make it yet"
    await world.forward(timedelta(seconds=100))
    await asyncio.gather(*(makers.round() for _ in range(3)))
    assert await makers.pages(org) == 1
    after = await makers.read(org)
    assert after is not None
    assert (after.latest_result, after.latest_time is not None) == ("made", True)


async def test_one_that_was_ended_or_chosen_anew_while_escalation_was_asked_is_not_made(
    makers: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, moved, stays = new_org(), new_org(), new_org()
    for org in (ended, moved, stays):
        await makers.insert(org)
    asked = Escalation.summarize

    async def slow(
        self: Escalation, org_id: str, users: Sequence[str], start: datetime, end: datetime
    ) -> SummarizeForDigestsResponse:
        answer = await asked(self, org_id, users, start, end)
        async with makers.db.transaction(org_id) as tx:
            found = await digests.read(tx, ANA, Frequency.DAILY)
            assert found is not None
            if org_id == ended:
                await digests.delete(tx, ANA, Frequency.DAILY)
            if org_id == moved:
                await digests.write(tx, found, found.next_time + DAY)
        return answer

    monkeypatch.setattr(Escalation, "summarize", slow)
    await makers.round()
    assert [await makers.pages(org) for org in (ended, moved, stays)] == [0, 0, 1]
    assert await makers.read(ended) is None


async def test_one_choice_made_twice_for_the_same_time_is_one_digest(makers: Makers) -> None:
    org = new_org()
    first = await makers.insert(org)
    await makers.round()
    async with makers.db.transaction(org) as tx:
        await digests.delete(tx, ANA, Frequency.DAILY)
        await digests.write(tx, first, first.next_time)
    await makers.round()
    assert await makers.pages(org) == 1


async def test_a_tenant_of_whom_nothing_is_told_holds_up_no_other_and_many_users_are_one_question(
    world: World, makers: Makers
) -> None:
    dark, light = new_org(), new_org()
    world.escalation.tells_nothing_of = {dark}
    for number in range(7):
        await makers.insert(light, f"users/user-{number}")
    await makers.insert(dark)
    await makers.round()
    assert (await makers.pages(dark), await makers.pages(light)) == (0, 7)
    [question] = [each for each in world.escalation.digest_questions if each.org_id == light]
    assert len(question.users) == 7
    world.escalation.tells_nothing_of = set()
    await world.forward(timedelta(seconds=100))
    await makers.round()
    assert await makers.pages(dark) == 1


async def test_tenants_take_turns_a_question_at_a_time_and_what_is_leased_is_passed_over(makers: Makers) -> None:
    """Two at once: of the many of one tenant, two are claimed before the one of another, and two more behind it."""
    greedy, modest = f"a-{new_org()}", f"b-{new_org()}"
    for number in range(7):
        await makers.insert(greedy, f"users/user-{number}")
    await makers.insert(modest)

    async def claim() -> list[str]:
        async with makers.db.system() as tx:
            rows = await digests.claim(tx, behind=BEHIND, limit=3, at_once=2, look=100, lease=60.0)
        return sorted(row.org_id for row in rows)

    assert await claim() == [greedy, greedy, modest]
    first, second = await asyncio.gather(claim(), claim())
    assert len(first + second) in (3, 5), "two that look at once lease different ones"
    while await claim():
        pass
    assert await claim() == []


async def test_it_goes_to_the_chosen_method_while_that_can_be_used_and_to_no_phone(
    world: World, makers: Makers
) -> None:
    org, phone_only, gone = new_org(), new_org(), new_org()
    digest = await makers.insert(org)
    chosen = await world.method(org, email="digests@example.com")
    async with makers.db.transaction(org) as tx:
        choice = Choice(ANA, Frequency.DAILY, digest.hour, 0, "UTC", chosen, WhenEmpty.NOTHING)
        await digests.write(tx, choice, digest.next_time)
    await makers.insert(phone_only)
    await world.admin.execute(
        "UPDATE contact_methods SET channel = 'voice', address = '+4915112345678' WHERE org_id = $1", phone_only
    )
    await makers.insert(gone)
    world.escalation.digests[gone] = SummarizeForDigestsResponse(figures=digest_pb2.DigestFigures(opened=1))
    await makers.round()
    row = await world.row("SELECT contact_method FROM notifications WHERE org_id = $1", org)
    assert row["contact_method"] == chosen
    results = [found.latest_result for each in (phone_only, gone) if (found := await makers.read(each))]
    assert results == [
        "left out: no contact method for digests: each of those that are verified and enabled rings",
        "left out: the user is disabled or does not exist",
    ]
