"""A flood delays only its own tenant (I8), and no flood delays a critical page (priorities)."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import grpc
import pytest
from prometheus_client import CollectorRegistry
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_notify.app.delivery.calls import Start
from tocsin_notify.app.delivery.first_calls import FirstCalls
from tocsin_notify.app.delivery.late_calls import AT_ONCE, LateCall, LateCalls, Passed
from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.app.delivery.slots import Limits, Slots
from tocsin_notify.app.messages.groups import DivideGroups
from tocsin_notify.app.messages.release import Release
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.domain.message import GROUP
from tocsin_notify.domain.page import Channel, Kind
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery.gate import Gate
from tocsin_notify.store.delivery.senders import Leases
from tocsin_notify.store.messages import groups, messages, recurring
from tocsin_notify.store.pages import bundles, quiet_bundles
from tocsin_stack.postgres import tenant_url
from tocsin_testkit.busy import within
from tocsin_testkit.clock import clock_reads
from tocsin_testkit.databases import dialed

from tests.store.notify.support import CRITICAL, WARNING, Notify, World, job, new_org, until

SMALL: dict[str, Any] = {
    "concurrency": 20,
    "critical_reserve": 5,
    "org_concurrency": 5,
    "org_rate_per_second": 0,
    "shutdown_grace_seconds": 0.2,
}


@pytest.mark.parametrize("own_flood", [True, False])
async def test_a_flood_of_low_pages_on_a_hanging_provider_does_not_delay_a_critical_one(
    world: World, own_flood: bool
) -> None:
    """Five tenants' floods take every slot they may; the critical page belongs to one of them, or to another tenant."""
    floods = [new_org() for _ in range(5)]
    victim = floods[0] if own_flood else new_org()
    for org in floods:
        await world.method(org, "users/slow", webhook="slow")
    await world.method(victim, "users/ana", webhook="ana")
    world.hooks.hang["slow"] = asyncio.Event()
    async with world.replica(**SMALL) as notify:
        await notify.submit(*(job(org, user="users/slow", severity=WARNING) for org in floods for _ in range(60)))
        began = time.monotonic()
        await notify.submit(job(victim))
        await world.inbox.wait_for(lambda m: m.address == "ana", "the critical page")
        assert time.monotonic() - began < within(8.0), "before any of the hanging calls timed out"


async def test_one_tenants_flood_does_not_delay_another_tenants_low_page(world: World) -> None:
    flood, modest = new_org(), new_org()
    await world.method(flood, "users/slow", webhook="slow")
    await world.method(modest, webhook="ana")
    world.hooks.hang["slow"] = asyncio.Event()
    async with world.replica(**SMALL) as notify:
        await notify.submit(*(job(flood, user="users/slow", severity=WARNING) for _ in range(200)))
        await notify.submit(job(modest, severity=WARNING))
        await world.inbox.wait_for(lambda m: m.address == "ana", "the other tenant's page", patience=8)


async def test_pages_do_not_wait_for_what_holds_the_rows_of_another_tenants_people(world: World) -> None:
    """A replica that stands still in a storm does: five tenants' pages come together, and one's people are held by it."""
    orgs = [new_org() for _ in range(5)]
    struck, others = orgs[2], {*orgs} - {orgs[2]}
    for org in orgs:
        await world.method(org, webhook=org)
    async with world.replica(storm_pages=5) as notify:
        await notify.submit(*(job(org, severity=WARNING) for org in orgs))

        async def have(orgs: set[str], count: int) -> None:
            await until(lambda: all(sum(m.address == org for m in world.inbox.messages) >= count for org in orgs))

        await have({*orgs}, 1)
        async with world.admin.transaction():
            await world.admin.execute("SELECT FROM paces WHERE org_id = $1 FOR UPDATE", struck)
            page = job(struck, severity=WARNING)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await notify.submit(page, *(job(org, severity=WARNING) for org in others))
            assert refused.value.code() is grpc.StatusCode.ABORTED, "its caller repeats it"
            await have(others, 2)

            async def insists() -> int:
                while True:
                    try:
                        return await notify.submit(page)
                    except grpc.aio.AioRpcError as error:
                        if error.code() is not grpc.StatusCode.ABORTED:  # the others may take longer than it may wait
                            raise

            waiting = asyncio.ensure_future(insists())
            await notify.submit(*(job(org, severity=WARNING) for org in others))
            assert not waiting.done(), "by itself it waits longer, and nobody waits with it"
            await have(others, 3)
        assert await waiting == 1
        await have({struck}, 2)


async def test_a_backlog_is_worked_off_in_turns(world: World) -> None:
    """Twenty tenants, one with a hundred times as many: everybody's first page is out before the flood is half done."""
    orgs = sorted(new_org() for _ in range(20))
    for number, org in enumerate(orgs):
        await world.method(org, webhook=f"org{number}")
    async with world.replica(works=False) as door:
        await door.submit(*(job(orgs[0], severity=WARNING) for _ in range(200)))
        await door.submit(*(job(org, severity=WARNING) for org in orgs[1:]))
    async with world.replica(**{**SMALL, "org_concurrency": 15}):
        await until(lambda: len(world.inbox.messages) == 219)
    order = [message.address for message in world.inbox.messages]
    last_of_the_small = max(place for place, address in enumerate(order) if address != "org0")
    assert last_of_the_small < 120


async def test_the_rate_of_a_tenant_is_limited_and_its_critical_pages_are_not(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    await world.method(org, "users/bob", webhook="bob")
    async with world.replica(org_rate_per_second=5.0, org_burst=10.0) as notify:
        began = time.monotonic()
        await notify.submit(*(job(org, severity=WARNING) for _ in range(15)))
        await notify.submit(*(job(org, user="users/bob") for _ in range(50)))
        await until(lambda: world.arrived("bob") == 50)
        await until(lambda: world.arrived("ana") == 15)
        assert time.monotonic() - began > 0.8, "five of the fifteen had to wait for the bucket to fill"


async def tried_on(world: World, notify: Notify, orgs: list[str], severity: int, pages: int) -> None:
    """Each tenant has so many pages that `slow` has refused, and that are due again; from now on it does not answer."""
    for org in orgs:
        await world.method(org, "users/slow", webhook="slow")
    world.hooks.will_answer("slow", [503] * 5 * pages * len(orgs))
    await notify.submit(*(job(org, user="users/slow", severity=severity) for org in orgs for _ in range(pages)))

    async def waiting() -> bool:
        rows = await world.admin.fetch(
            "SELECT DISTINCT state, attempts FROM notifications WHERE user_id = 'users/slow'"
        )
        return [tuple(row) for row in rows] == [("pending", 5)]

    await until(waiting)
    world.hooks.hang["slow"] = asyncio.Event()
    await world.forward(timedelta(seconds=61))
    await until(lambda: notify.runtime.metrics.registry.get_sample_value("tocsin_notify_calls"))


@pytest.mark.parametrize(
    ("fresh", "flood"),
    [
        (CRITICAL, WARNING),
        pytest.param(WARNING, CRITICAL, marks=pytest.mark.long),
        pytest.param(CRITICAL, CRITICAL, marks=pytest.mark.long),
        pytest.param(WARNING, WARNING, marks=pytest.mark.long),
    ],
)
async def test_pages_that_are_tried_on_delay_no_fresh_one(world: World, flood: int, fresh: int) -> None:
    """Of the same tenant and through the same channel, whose provider hangs for everybody else."""
    orgs = [new_org() for _ in range(5)]
    await world.method(orgs[0], webhook="ana")
    async with world.replica(**SMALL) as notify:
        await tried_on(world, notify, orgs, flood, 40)
        began = time.monotonic()
        await notify.submit(job(orgs[0], severity=fresh))
        await world.inbox.wait_for(lambda m: m.address == "ana", "the fresh page")
        assert time.monotonic() - began < within(8.0), "before any of the hanging calls timed out"


async def test_pages_that_are_tried_on_come_in_turns_of_their_tenants(world: World) -> None:
    """One tenant's provider is back; those of the others hang, and have thirty times as many pages due before it."""
    hanging, back = sorted(new_org() for _ in range(4)), "tenant-behind-all-others"
    await world.method(back, webhook="ana")
    world.hooks.will_answer("ana", [503] * 5)
    async with world.replica(**SMALL, attempt_timeout_seconds=1.0, lease_seconds=6.0) as notify:
        await notify.submit(job(back))
        await tried_on(world, notify, hanging, CRITICAL, 30)
        await world.inbox.wait_for(lambda m: m.address == "ana", "the page whose provider is back", patience=8)


_OF_TWO = """
(SELECT 'a-flood' AS org_id, 'users/' || n AS user_id, app_now() - interval '2 minutes' AS due FROM generate_series(1, 50) AS n
 UNION ALL SELECT 'modest', 'users/ana', app_now() - interval '1 minute'
 UNION ALL SELECT 'patient', 'users/ana', app_now() + interval '1 hour') AS g
"""


@pytest.fixture
async def both(database_url: str) -> AsyncIterator[Database]:
    """One tenant has fifty of each thing that comes due, and another one of each, that is due a minute later."""
    db = await dialed(database_url, name="notify-test", tenant_url=tenant_url(database_url))
    async with db.system() as tx:
        await tx.execute(
            f"""INSERT INTO paces (org_id, user_id, alone, bundle, bundle_due, bundles)
                SELECT org_id, user_id, '{{}}'::timestamptz[], gen_random_uuid(), due, 1 FROM {_OF_TWO}"""
        )
        await tx.execute(
            f"""INSERT INTO quiet_bundles (org_id, user_id, bundle, due_time)
                SELECT org_id, user_id, gen_random_uuid(), due FROM {_OF_TWO}"""
        )
        for user, channel, address in (("user_id", "NULL", "''"), ("''", f"'{GROUP}'", "'teams/web'")):
            await tx.execute(
                f"""INSERT INTO messages (org_id, id, sender, user_id, channel, address, subject, body, about, urgency, send_time)
                    SELECT org_id, gen_random_uuid(), 'users/ana', {user}, {channel}, {address}, '', 'Hello', '', 'low', due
                    FROM {_OF_TWO}"""
            )
        await tx.execute(
            f"""INSERT INTO recurring_messages (org_id, id, sender, user_id, subject, body, about, urgency, start_time, time_zone,
                  rule, next_time)
                SELECT org_id, gen_random_uuid(), 'users/ana', user_id, '', 'Hello', '', 'low', '2026-01-01T09:00', 'UTC',
                  'FREQ=DAILY', due FROM {_OF_TWO}"""
        )
    yield db
    await db.close()


async def test_what_is_due_of_a_tenant_with_very_many_leaves_the_others_their_turn(both: Database) -> None:
    """Each round takes a few: one of each tenant before the second of any, independent of their names."""
    async with both.system() as tx:
        rounds = [
            [each.org_id for each in await bundles.claim(tx, 10)],
            [each.org_id for each in await quiet_bundles.due(tx, 10)],
            [each.org_id for each in await messages.claim(tx, await messages.due(tx, 10))],
            [each.message.org_id for each in await groups.claim(tx, limit=10, lease=60.0)],
            [each.org_id for each in await recurring.due(tx, 10)],
        ]
    assert [Counter(taken) for taken in rounds] == [Counter({"a-flood": 9, "modest": 1})] * 5


async def test_what_another_replica_works_on_is_passed_over_and_others_are_taken_in_its_place(both: Database) -> None:
    async with both.system() as one, both.system() as other:
        first, second = await recurring.due(one, 10), await recurring.due(other, 10)
        rest = await recurring.due(other, 50)
    assert [each.org_id for each in first][:2] == ["a-flood", "modest"]
    assert (len(second), {each.org_id for each in second}) == (10, {"a-flood"})
    assert not {each.id for each in first} & {each.id for each in (*second, *rest)}
    assert len({each.id for each in (*first, *second, *rest)}) == 51, "what is due later is left"


async def clock_stands(url: str) -> None:
    """From now on it is the same time in this database."""
    owner = await asyncpg.connect(url)
    now = await owner.fetchval("SELECT now()")
    await owner.execute(clock_reads(f"'{now.isoformat()}'::timestamptz"))
    await owner.close()


class Asked:
    """Escalation, away; and the tenants about whose groups it was asked."""

    def __init__(self) -> None:
        self.orgs: list[str] = []

    async def resolve(self, org_id: str, targets: Sequence[str], moment: datetime) -> list[Any]:
        self.orgs.append(org_id)
        raise TocsinError(ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE, "escalation did not answer")


async def test_escalation_is_asked_about_the_groups_of_each_tenant_before_it_is_asked_more_about_one(
    both: Database, database_url: str
) -> None:
    await clock_stands(database_url)  # or a slow machine sees the time pass after which it is asked again
    asked = Asked()
    await DivideGroups(both, cast(Any, asked), cast(Any, None), NotifyMetrics(CollectorRegistry())).everything()
    assert asked.orgs == ["a-flood", "modest", "a-flood", "a-flood"]


class Told:
    """Hints, as far as rounds give them."""

    def now(self, ids: Sequence[uuid.UUID]) -> None:
        self.ids = ids


class Idle:
    """Calls of which none begins, since there is no slot, and what goes with them."""

    sender = None

    async def start(
        self, starts: Sequence[Start], since: float, *, give_way: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        assert not starts
        self.give_way = give_way


async def test_a_round_over_messages_gives_way_to_pages_that_come_in(both: Database) -> None:
    first, full = PeopleFirst(most=600.0), Slots(Limits(total=0, critical_reserve=0), dict.fromkeys(Channel, 1))
    idle = cast(Any, Idle())
    first_calls = FirstCalls(idle, full, idle, idle, Leases(30.0, idle))
    release = Release(both, first_calls, cast(Any, Told()), NotifyMetrics(CollectorRegistry()), first)
    released = "SELECT count(*) FROM messages WHERE state = 'released'"
    with first:
        waiting = asyncio.create_task(release.everything())
        for _ in range(20):
            async with both.system() as tx:
                assert await tx.fetchval(released) == 0
        assert not waiting.done()
    await waiting
    async with both.system() as tx:
        assert await tx.fetchval(released) > 0
    with first:
        between_calls = asyncio.create_task(idle.give_way())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not between_calls.done(), "nor does it begin more calls"
    await between_calls


def late(org: str) -> LateCall:
    """A call whose attempt is not known: it may not begin, and is told so."""
    return LateCall(
        Delivery(
            key="k",
            notification=uuid.uuid4(),
            org_id=org,
            kind=Kind.NEW_INCIDENT,
            job=job(org),
            target=Target(Channel.WEBHOOK, "https://example.com"),
            attempt=1,
            start_time=datetime.now(UTC),
        ),
        lambda: asyncio.sleep(0),
    )


async def test_a_late_call_waits_for_no_more_than_one_passage_of_a_storms(database_url: str) -> None:
    """Told by the order in which passages begin: how long each takes is the database's affair."""
    passages: list[set[str]] = []

    class Recorded(LateCalls):
        async def _pass(self, calls: list[LateCall]) -> list[Passed]:
            passages.append({each.delivery.org_id for each in calls})
            return await super()._pass(calls)

    gate = await Gate.open(database_url, name="notify-test", size=AT_ONCE)
    try:
        calls = Recorded(gate)
        orgs = [*["storm"] * 300, "modest"]
        assert set(await asyncio.gather(*(calls.begin(late(org)) for org in orgs))) == {Passed.STOPPED}
    finally:
        await gate.close()
    assert passages[:2] == [{"storm"}, {"modest"}]
    assert len(passages) > 3
