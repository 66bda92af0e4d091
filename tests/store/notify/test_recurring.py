"""Recurring messages: each occurrence is one message, made by any process; paused, resumed, ended, missed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tocsin.notify.v1 import message_service_pb2
from tocsin.notify.v1 import recurring_message_service_pb2 as pb
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.ids import new_id
from tocsin_notify.app.delivery.hints import Hint
from tocsin_notify.app.messages import recurring as use_cases
from tocsin_notify.app.messages.recurring import Recur
from tocsin_notify.domain.page import Urgency
from tocsin_notify.domain.recurrence import RecurringState
from tocsin_notify.rpc.mapping import FIRST
from tocsin_notify.store.messages import messages, recurring
from tocsin_notify.store.messages.recurring import Recurring, Template, Turn
from tocsin_stack.postgres import tenant_url
from tocsin_testkit.databases import dialed

from tests.store.notify.messages import ANA, HOUR, Sender, State, sender
from tests.store.notify.support import Notify, World, bearer, new_org, until

__all__ = ["sender"]

_MAIL = "ana@example.com"
DAY = timedelta(days=1)
ACTIVE, PAUSED, ENDED = (
    pb.RECURRING_MESSAGE_STATE_ACTIVE,
    pb.RECURRING_MESSAGE_STATE_PAUSED,
    pb.RECURRING_MESSAGE_STATE_ENDED,
)


class Recurrent:
    """One tenant's way to RecurringMessageService."""

    def __init__(self, notify: Notify, sender: Sender) -> None:
        self._stub = notify.recurring_messages
        self._sender = sender
        self._metadata = bearer(sender.org)

    async def create(self, rule: str = "FREQ=DAILY", **fields: Any) -> pb.RecurringMessage:
        """One for Ana, which begins in an hour."""
        start = (await self._sender.at(HOUR)).ToDatetime().replace(microsecond=0)
        request = pb.CreateRecurringMessageRequest(
            message=message_service_pb2.Message(**{"user": ANA, "text": "Water the plants.", **fields}),
            start=message_service_pb2.LocalTime(date_time=start.isoformat(), time_zone="UTC"),
            rule=rule,
        )
        return await self._call("Create", request)

    async def get(self, made: pb.RecurringMessage) -> pb.RecurringMessage:
        return await self._call("Get", pb.GetRecurringMessageRequest(name=made.name))

    async def pause(self, made: pb.RecurringMessage) -> pb.RecurringMessage:
        return await self._call("Pause", pb.PauseRecurringMessageRequest(name=made.name))

    async def resume(self, made: pb.RecurringMessage) -> pb.RecurringMessage:
        return await self._call("Resume", pb.ResumeRecurringMessageRequest(name=made.name))

    async def end(self, made: pb.RecurringMessage) -> pb.RecurringMessage:
        return await self._call("End", pb.EndRecurringMessageRequest(name=made.name))

    async def came(self, made: pb.RecurringMessage, times: int) -> pb.RecurringMessage:
        """Returns once so many messages were made of it."""

        async def there() -> bool:
            return (await self.get(made)).sent_count >= times

        await until(there)
        after = await self.get(made)
        assert after.sent_count == times
        return after

    async def _call(self, verb: str, request: Any) -> pb.RecurringMessage:
        answer = await getattr(self._stub, f"{verb}RecurringMessage")(request, metadata=self._metadata)
        message: pb.RecurringMessage = answer.recurring_message
        return message


async def test_each_occurrence_is_sent_once_by_two_replicas_and_what_was_missed_is_made_up_for_by_one(
    world: World,
) -> None:
    async with world.replica() as one, world.replica() as other:
        sender = Sender(one, world, new_org())
        recurrent = Recurrent(other, sender)
        await world.method(sender.org, email=_MAIL)
        made = await recurrent.create("FREQ=DAILY;COUNT=6")
        assert (made.state, made.sent_count, made.latest_message) == (ACTIVE, 0, "")
        await world.forward(HOUR)
        first = await recurrent.came(made, 1)
        assert first.next_time.ToDatetime() == made.next_time.ToDatetime() + DAY
        read = await sender.becomes(message_service_pb2.Message(name=first.latest_message), State.MESSAGE_STATE_SENT)
        assert (read.message.text, read.message.send_time) == ("Water the plants.", made.next_time)
        await world.forward(HOUR + 3 * DAY)
        third = await recurrent.came(made, 2)
        late = await sender.becomes(message_service_pb2.Message(name=third.latest_message), State.MESSAGE_STATE_SENT)
        assert late.message.send_time.ToDatetime() == made.next_time.ToDatetime() + 3 * DAY, (
            "the latest that was missed"
        )
        await world.forward(HOUR + 9 * DAY)
        over = await recurrent.came(made, 3)
        assert (over.state, over.state_reason) == (ENDED, "its rule has no occurrence left")
        last = await sender.becomes(message_service_pb2.Message(name=over.latest_message), State.MESSAGE_STATE_SENT)
        assert last.message.send_time.ToDatetime() == made.next_time.ToDatetime() + 5 * DAY
        assert world.arrived(_MAIL) == 3


async def test_what_was_missed_for_longer_than_it_may_be_late_is_skipped(
    world: World, notify: Notify, sender: Sender
) -> None:
    recurrent = Recurrent(notify, sender)
    await world.method(sender.org, email=_MAIL)
    made = await recurrent.create(expire_after=Duration(seconds=600))
    await world.forward(2 * HOUR)
    after = await recurrent.came(made, 1)
    await sender.becomes(message_service_pb2.Message(name=after.latest_message), State.MESSAGE_STATE_SKIPPED)
    assert world.arrived(_MAIL) == 0


async def test_a_paused_one_leaves_out_what_comes_and_an_ended_one_is_over(
    world: World, notify: Notify, sender: Sender
) -> None:
    recurrent = Recurrent(notify, sender)
    await world.method(sender.org, email=_MAIL)
    made, other = await recurrent.create(), await recurrent.create()
    paused = await recurrent.pause(made)
    assert (paused.state, paused.HasField("next_time")) == (PAUSED, False)
    assert await recurrent.pause(made) == paused
    await world.forward(HOUR)
    await recurrent.came(other, 1)
    await world.forward(HOUR + 2 * DAY)
    await recurrent.came(other, 2)
    resumed = await recurrent.resume(made)
    assert (resumed.state, resumed.sent_count) == (ACTIVE, 0)
    assert resumed.next_time.ToDatetime() == made.next_time.ToDatetime() + 3 * DAY
    assert await recurrent.resume(made) == resumed
    ended = await recurrent.end(made)
    assert (ended.state, ended.state_reason) == (ENDED, "ended by users/ana")
    assert await recurrent.end(made) == ended
    await world.forward(HOUR + 3 * DAY)
    await recurrent.came(other, 3)
    assert (await recurrent.get(made)).sent_count == 0


class Quiet:
    """Takes hints, and passes none on."""

    def arm(self, hints: Sequence[Hint]) -> None: ...
    def disarm(self, ids: Sequence[UUID]) -> None: ...
    def now(self, ids: Sequence[UUID]) -> None: ...
    def messages(self, due: Sequence[tuple[UUID, float]]) -> None: ...


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = await dialed(database_url, name="notify-test", tenant_url=tenant_url(database_url), size=8)
    yield database
    await database.close()


async def insert(db: Database, org_id: str) -> UUID:
    """One that has been due for a minute."""
    template = Template(
        ANA, None, "", "", "Water the plants.", "", Urgency.LOW, None, "2026-01-01T09:00", "UTC", "FREQ=DAILY"
    )

    async def work(tx: Tx) -> UUID:
        due = await tx.now() - timedelta(minutes=1)
        return (await recurring.insert(tx, new_id(), ANA, template, due)).id

    return await db.run(org_id, work)


async def messages_of(db: Database, org_id: str) -> int:
    async with db.transaction(org_id) as tx:
        return len(await messages.upcoming(tx, messages.Filter(), FIRST, 500))


async def test_a_pause_at_the_instant_of_an_occurrence_is_before_or_after_it(db: Database) -> None:
    org = new_org()
    ids = [await insert(db, org) for _ in range(12)]
    sweeps = [Recur(db, Quiet()).everything() for _ in range(2)]

    async def pause(id: UUID) -> Recurring:
        return await db.run(org, lambda tx: use_cases.pause(tx, id))

    sweeping = asyncio.gather(*sweeps)
    paused = await asyncio.gather(*map(pause, ids))
    await sweeping
    made = sum(row.sent_count for row in paused)
    assert {row.state for row in paused} == {RecurringState.PAUSED}
    await Recur(db, Quiet()).everything()
    assert await messages_of(db, org) == made, "each one whose pause came later has one message, the others have none"


async def test_a_pause_waits_for_the_occurrence_that_is_being_made_and_outlasts_it(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = new_org()
    id = await insert(db, org)
    reached, go, real = asyncio.Event(), asyncio.Event(), recurring.settle

    async def slow(tx: Tx, turns: Sequence[Turn]) -> None:
        reached.set()
        await go.wait()
        await real(tx, turns)

    monkeypatch.setattr(recurring, "settle", slow)
    sweep = asyncio.create_task(Recur(db, Quiet()).everything())
    await reached.wait()
    pausing = asyncio.create_task(db.run(org, lambda tx: use_cases.pause(tx, id)))
    async with db.system() as tx:  # the other replica's sweep passes over what is being made
        assert await recurring.due(tx, 10) == []
    go.set()
    paused = await pausing
    await sweep
    assert (paused.state, paused.sent_count) == (RecurringState.PAUSED, 1)
    row = await db.run(org, lambda tx: use_cases.find(tx, id))
    assert (row.state, row.next_time) == (RecurringState.PAUSED, None)


async def test_a_round_that_dies_before_its_commit_is_made_once_by_the_next(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = new_org()
    id = await insert(db, org)
    real = recurring.settle

    async def dies(tx: Tx, turns: Sequence[Turn]) -> None:
        await real(tx, turns)
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(recurring, "settle", dies)
        with pytest.raises(ConnectionResetError):
            await Recur(db, Quiet()).everything()
    assert await messages_of(db, org) == 0
    await asyncio.gather(*(Recur(db, Quiet()).everything() for _ in range(3)))
    assert await messages_of(db, org) == 1
    row = await db.run(org, lambda tx: use_cases.find(tx, id))
    assert (row.sent_count, row.state) == (1, RecurringState.ACTIVE)


async def test_a_rule_that_cannot_be_read_any_more_ends_and_holds_up_no_other(db: Database) -> None:
    org = new_org()
    broken, whole = await insert(db, org), await insert(db, org)
    async with db.transaction(org) as tx:
        await tx.execute(
            "UPDATE recurring_messages SET rule = 'FREQ=SOMETIMES' WHERE org_id = $1 AND id = $2", org, broken
        )
    await Recur(db, Quiet()).everything()
    async with db.transaction(org) as tx:
        ended, goes_on = await use_cases.find(tx, broken), await use_cases.find(tx, whole)
    assert (ended.state, ended.sent_count) == (RecurringState.ENDED, 1)
    assert ended.state_reason.startswith("its rule cannot be read any more")
    assert (goes_on.state, goes_on.sent_count) == (RecurringState.ACTIVE, 1)


async def test_costly_rules_of_many_are_worked_on_turn_by_turn(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages of all tenants wait for a turn, and not for all that is due."""
    monkeypatch.setattr(use_cases, "_TURN", 0.0)
    org = new_org()
    for _ in range(3):
        await insert(db, org)
    recur = Recur(db, Quiet())
    assert await db.run(None, recur._round)
    assert await messages_of(db, org) == 1
    await recur.everything()
    assert await messages_of(db, org) == 3


async def test_a_rule_that_began_long_ago_is_refused(notify: Notify, sender: Sender) -> None:
    """All of its days since would be counted each time."""
    request = pb.CreateRecurringMessageRequest(
        message=message_service_pb2.Message(user=ANA, text="Water the plants."),
        start=message_service_pb2.LocalTime(date_time="2001-01-01T09:00", time_zone="UTC"),
        rule="FREQ=DAILY;COUNT=1000;BYMONTH=2;BYMONTHDAY=29",
    )
    with pytest.raises(grpc.aio.AioRpcError, match="must not lie more than 3660 days in the past"):
        await notify.recurring_messages.CreateRecurringMessage(request, metadata=bearer(sender.org))
