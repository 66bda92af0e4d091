"""Keys pressed in a call: what each does, how long it takes, and what is told of it."""

import asyncio
from typing import Any

import pytest
from tocsin.notify.v1.internal_service_pb2 import Cancellation
from tocsin_kit.ids import new_id
from tocsin_notify.app.delivery.receipts import Receipts
from tocsin_notify.clients.responders import Responders
from tocsin_notify.store.delivery.gate import incident_key
from tocsin_testkit.twilio import TwilioServer

from tests.store.notify.phones import ANA, called, called_and_sent, evidence, running
from tests.store.notify.support import World, job, new_org, until
from tests.store.round_trips import recorded


@pytest.mark.parametrize(("key", "action"), [("1", "acknowledge"), ("2", "escalate")])
async def test_a_key_answers_for_the_person_who_was_called(
    world: World, twilio: TwilioServer, key: str, action: str
) -> None:
    org, incident = new_org(), new_id()
    async with running(world, twilio) as notify:
        await world.method(org, voice=ANA)
        await notify.submit(job(org, incident))
        call = await called(twilio)
        assert await twilio.rings(call, "in-progress") == 204
        first = call.script
        again = await twilio.presses(call, "3")
        assert again.says[0].startswith("Tocsin: critical incident: Disk full on db-1. Level 1.")
        unknown = await twilio.presses(call, "#")
        assert unknown.says[0].startswith("This key has no meaning.")
        assert (again.action, unknown.action) == (first.action, first.action)
        done = await twilio.presses(call, key)
        assert "Goodbye" in done.says[0]
        assert done.action == ""
        assert await evidence(world, org) == ("answered", f"key {key}")
        call.script = first
        await twilio.presses(call, key)
        assert world.escalation.responders.acted == [(action, "users/ana", "phone")], "told twice, it acts once"
        assert world.escalation.responders.answers[0].incident == f"incidents/{incident}"
        assert await twilio.rings(call, "completed", CallDuration="12") == 204
        assert (await evidence(world, org))[0] == "answered"
        assert await world.states("org_id = $1", org) == ["sent"]


async def test_the_round_trips_of_a_key(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        call = await called_and_sent(world, twilio, notify, org)
        assert await twilio.rings(call, "in-progress") == 204
        with recorded() as trips:
            await twilio.presses(call, "1")
    # Before escalation is asked: the page. Beside it: its notification, locked; what is known of it.
    whole = [each for each in trips.transactions if org in each[0]]  # loops of the replica have others meanwhile
    assert [text.partition(";")[0].split()[0] for text in whole[0]] == ["BEGIN", "SELECT", "ROLLBACK"]
    assert trips.writing({"attempts"}) == [["BEGIN", "SELECT", "notifications+attempts", "COMMIT"]]


async def test_a_key_is_answered_when_it_is_noted_and_not_before(world: World, twilio: TwilioServer) -> None:
    """The key acts and is noted at the same time; an answer means that both are done."""
    org = new_org()
    async with running(world, twilio) as notify:
        call = await called_and_sent(world, twilio, notify, org)
        async with world.admin.transaction():
            await world.admin.execute("SELECT FROM notifications WHERE org_id = $1 FOR UPDATE", org)
            pressing = asyncio.create_task(twilio.presses(call, "1"))
            await until(lambda: world.escalation.responders.acted != [])
            done, _ = await asyncio.wait([pressing], timeout=0.2)
            assert not done
        assert "acknowledged" in (await pressing).says[0]
    assert await evidence(world, org) == ("answered", "key 1")


async def test_a_key_is_answered_when_the_pages_that_it_stops_are_stopped_and_not_before(
    world: World, twilio: TwilioServer
) -> None:
    org, incident = new_org(), new_id()
    stops = Cancellation(org_id=org, incident=f"incidents/{incident}", generation=1, reason="acknowledged by users/ana")
    async with running(world, twilio) as notify:
        world.escalation.responders.stops = [stops]
        try:
            call = await called_and_sent(world, twilio, notify, org)
            async with world.admin.transaction():
                await world.admin.execute("SELECT pg_advisory_xact_lock_shared($1)", incident_key(org, incident))
                pressing = asyncio.create_task(twilio.presses(call, "1"))
                await until(lambda: world.escalation.responders.acted != [])
                done, _ = await asyncio.wait([pressing], timeout=0.2)
                assert not done, "a call may be about to start"
            assert "acknowledged" in (await pressing).says[0]
        finally:
            world.escalation.responders.stops = []
        await notify.submit(job(org, incident))
        assert "cancelled" in await world.states("org_id = $1 AND incident = $2", org, incident)


async def test_a_key_whose_pages_are_not_certainly_stopped_may_be_pressed_again(
    world: World, twilio: TwilioServer
) -> None:
    org, responders = new_org(), world.escalation.responders
    async with running(world, twilio) as notify:
        call = await called_and_sent(world, twilio, notify, org)
        responders.stops = [Cancellation(org_id=org, incident="of no form that this version knows", generation=1)]
        try:
            later = await twilio.presses(call, "1")
        finally:
            responders.stops = []
        assert "acknowledged" not in later.says[0]
        assert later.action, "the call goes on"
        assert "acknowledged" in (await twilio.presses(call, "1")).says[0]
    assert [action for action, _, _ in responders.acted] == ["acknowledge"], "pressed twice, it acts once"


async def test_an_answer_stops_its_own_pages_and_none_of_another_tenant(world: World, twilio: TwilioServer) -> None:
    org, other, incident = new_org(), new_org(), f"incidents/{new_id()}"
    responders = world.escalation.responders
    async with running(world, twilio) as notify:
        call = await called_and_sent(world, twilio, notify, org)
        responders.stops = [Cancellation(org_id=each, incident=incident, generation=1) for each in (other, org)]
        try:
            assert "acknowledged" not in (await twilio.presses(call, "1")).says[0]
        finally:
            responders.stops = []
    assert await world.admin.fetch("SELECT FROM cancel_fences WHERE org_id = $1", other) == []
    assert len(await world.admin.fetch("SELECT FROM cancel_fences WHERE org_id = $1", org)) == 1


async def test_a_key_that_comes_before_the_providers_answer_does_not_wait_until_it_is_noted(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        call = await called_and_sent(world, twilio, notify, org)
        await world.admin.execute(
            """UPDATE notifications SET state = 'sending', lease_until = app_now() + interval '1 hour', send_time = NULL
               WHERE org_id = $1""",
            org,
        )
        async with world.admin.transaction():
            await world.admin.execute("SELECT FROM notifications WHERE org_id = $1 FOR UPDATE", org)
            pressing = asyncio.create_task(twilio.presses(call, "1"))
            await until(lambda: world.escalation.responders.acted != [])
        assert "acknowledged" in (await pressing).says[0]
    assert await evidence(world, org) == ("answered", "key 1")
    assert await world.states("org_id = $1", org) == ["sent"]


async def test_a_call_that_is_taken_for_failed_when_its_key_is_pressed_is_not_shown_as_stopped(
    world: World, twilio: TwilioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key stops the next attempt before the key itself is noted."""
    org, incident = new_org(), new_id()
    acts, takes, acted = Responders.act, Receipts.take, asyncio.Event()
    state = "UPDATE notifications SET {} WHERE org_id = $1"

    async def act(self: Responders, *args: Any) -> None:
        await world.admin.execute(
            state.format("state = 'pending', due_time = app_now() + interval '1 hour', lease_until = NULL"), org
        )
        await acts(self, *args)
        assert await world.states("org_id = $1", org) == ["cancelled"]
        acted.set()

    async def take(self: Receipts, *args: Any) -> bool:
        await acted.wait()
        return await takes(self, *args)

    async with running(world, twilio) as notify:
        call = await called_and_sent(world, twilio, notify, org, incident)
        await world.admin.execute(
            state.format("state = 'sending', lease_until = app_now() + interval '1 hour', send_time = NULL"), org
        )
        monkeypatch.setattr(Responders, "act", act)
        monkeypatch.setattr(Receipts, "take", take)
        stop = Cancellation(org_id=org, incident=f"incidents/{incident}", generation=1, reason="acknowledged by ana")
        world.escalation.responders.stops = [stop]
        try:
            assert "acknowledged" in (await twilio.presses(call, "1")).says[0]
        finally:
            world.escalation.responders.stops = []
    assert await evidence(world, org) == ("answered", "key 1")
    assert await world.states("org_id = $1", org) == ["sent"]


async def test_what_a_key_did_is_told_even_if_it_cannot_be_noted(world: World, twilio: TwilioServer) -> None:
    """A person who hears an error believes that no one has answered."""
    org = new_org()
    async with running(world, twilio) as notify:
        call = await called_and_sent(world, twilio, notify, org)
        async with world.admin.transaction():
            await world.admin.execute("SELECT FROM notifications WHERE org_id = $1 FOR UPDATE", org)
            assert "acknowledged" in (await twilio.presses(call, "1")).says[0]


async def test_a_key_that_comes_before_the_providers_answer_proves_first_that_the_call_was_made(
    world: World, twilio: TwilioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The action stops the page. One that is not known as sent would be told as stopped, although its person answered it."""
    org = new_org()
    async with running(world, twilio) as notify:
        call = await called_and_sent(world, twilio, notify, org)
        await world.admin.execute(
            """UPDATE notifications SET state = 'pending', due_time = app_now() + interval '1 hour', send_time = NULL
               WHERE org_id = $1""",
            org,
        )
        seen, acts = list[str](), Responders.act

        async def act(self: Responders, *args: Any) -> None:
            seen.extend(await world.states("org_id = $1", org))
            await acts(self, *args)

        monkeypatch.setattr(Responders, "act", act)
        await twilio.presses(call, "1")
    assert seen == ["sent"]
