"""Several replicas, and ones that die: every page once, or again under the same key, never not at all."""

import asyncio
import signal
import time
from collections import Counter
from datetime import timedelta

import grpc
import pytest
from tocsin_kit.db.failures import unavailable
from tocsin_notify.app.delivery.deliver import Deliver
from tocsin_notify.app.delivery.vanished import Vanished
from tocsin_notify.store.delivery.gate import Passage
from tocsin_notify.store.delivery.senders import LOOKS, Presence
from tocsin_testkit.busy import within

from tests.store.notify.forked import process
from tests.store.notify.support import World, job, new_org, until


async def test_two_replicas_deliver_a_backlog_once(world: World) -> None:
    org = new_org()
    for number in range(20):
        await world.method(org, f"users/u{number}", webhook=f"u{number}")
    async with world.replica(works=False) as door:
        await door.submit(*(job(org, user=f"users/u{number % 20}") for number in range(300)))
    assert Counter(await world.states()) == {"pending": 300}
    async with world.replica(), world.replica():

        async def sent() -> bool:
            return Counter(await world.states()) == {"sent": 300}

        await until(sent)
    keys = Counter(message.key for message in world.inbox.messages)
    assert len(keys) == 300
    assert set(keys.values()) == {1}
    # An attempt whose process stood still may be refused before it calls: then another one follows.
    assert await world.admin.fetchval("SELECT count(*) FROM attempts WHERE outcome = 'sent'") == 300


async def test_killed_between_the_providers_yes_and_our_commit_it_is_sent_again_under_the_same_key(
    world: World,
) -> None:
    """By the other replica, long before the lease ends; and not while it only stands still."""
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.hang["ana"] = asyncio.Event()
    async with world.replica(works=False) as door:
        await door.submit(job(org))
    limits = {"NOTIFY_ATTEMPT_TIMEOUT_SECONDS": "120", "NOTIFY_LEASE_SECONDS": "600"}
    async with process(world, "tocsin_notify", "serve", **limits) as victim:
        under_way = """SELECT count(*) FROM notifications JOIN attempts ON notification_id = id
                       WHERE state = 'sending' AND sender IS NOT NULL"""
        await until(lambda: world.admin.fetchval(under_way))
        await world.admin.execute("UPDATE attempts SET start_time = app_now() - interval '1 minute'")
        async with world.replica() as other:
            victim.send_signal(signal.SIGSTOP)
            presence = await Presence.open(world.database_url, name="looker")
            await until(lambda: presence.sender)
            look = Vanished(other.runtime.database, presence, lambda died: None)
            for _ in range(2 * LOOKS):
                await look()
            assert await world.admin.fetchval("SELECT max(number) FROM attempts") == 1, "it may go on at any moment"
            await presence.close()
            await world.admin.execute("UPDATE attempts SET start_time = app_now()")  # after PostgreSQL was started
            victim.send_signal(signal.SIGKILL)
            await asyncio.to_thread(victim.wait)
            killed = time.monotonic()
            world.hooks.hang.pop("ana").set()

            async def sent() -> bool:
                return await world.states() == ["sent"]

            await until(sent)
            print(f"sent {time.monotonic() - killed:.2f} s after the kill")
    keys = {message.key for message in world.inbox.messages}
    assert len(keys) == 1
    attempts = await world.admin.fetch("SELECT number, outcome FROM attempts ORDER BY number")
    assert [tuple(attempt) for attempt in attempts] == [(1, "started"), (2, "sent")]


async def test_a_page_whose_senders_keep_vanishing_slows_down_and_is_given_up_in_the_end(world: World) -> None:
    """If it is what kills them, it does so about once a minute at most."""
    org = new_org()
    await world.method(org, webhook="ana")
    vanished = """UPDATE notifications SET state = 'sending', due_time = NULL, lease_until = app_now(), attempts = 5, tries = 5"""
    async with world.replica(works=False) as door:
        await door.submit(job(org))
    await world.admin.execute(vanished)
    async with world.replica():

        async def slow() -> bool:
            return await world.states() == ["pending"]

        await until(slow)
        row = await world.row("SELECT due_time - app_now() AS wait, state_reason FROM notifications")
        assert row["wait"] > timedelta(seconds=20)
        assert "its senders vanished" in row["state_reason"]
    await world.forward(timedelta(hours=6, seconds=1))
    await world.admin.execute(vanished)
    async with world.replica():

        async def dead() -> bool:
            return await world.states() == ["dead"]

        await until(dead)
    assert (await world.row("SELECT reason FROM dead_letters"))["reason"] == "ATTEMPTS_EXHAUSTED"
    assert world.arrived("ana") == 0


async def test_a_stop_lets_calls_end_and_gives_back_what_does_not(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="slow")
    await world.method(org, "users/bob", webhook="stuck")
    world.hooks.hang["slow"] = asyncio.Event()
    world.hooks.hang["stuck"] = asyncio.Event()
    # Neither call ends by its own time-out, however long the machine takes; and the stop waits for all of its grace.
    grace = min(within(2.0), 8.0)
    async with world.replica(
        shutdown_grace_seconds=grace, attempt_timeout_seconds=120.0, lease_seconds=180.0
    ) as replica:
        await replica.submit(job(org), job(org, user="users/bob"))
        await until(lambda: world.hooks.held["slow"] and world.hooks.held["stuck"])

        async def answer() -> None:
            await replica.runtime.stop.wait()
            world.hooks.hang["slow"].set()

        answering = asyncio.create_task(answer())
    await answering
    by_user = {
        row["user_id"]: row for row in await world.admin.fetch("SELECT user_id, state, state_reason FROM notifications")
    }
    assert by_user["users/ana"]["state"] == "sent"
    assert by_user["users/bob"]["state"] == "pending"
    assert "stopped" in by_user["users/bob"]["state_reason"]
    world.hooks.hang.pop("stuck").set()
    async with world.replica():

        async def sent() -> bool:
            return await world.states() == ["sent", "sent"]

        await until(sent)


async def test_a_late_yes_counts_when_the_row_went_back_to_wait(world: World) -> None:
    """The lease ended, another replica tried and failed; then the first provider's answer comes after all."""
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.hang["ana"] = asyncio.Event()
    async with world.replica(backoff_base_seconds=3000.0, backoff_cap_seconds=3000.0) as first:
        await first.submit(job(org))
        await until(lambda: world.hooks.held["ana"])
        await world.admin.execute(
            """UPDATE notifications SET state = 'pending', lease_until = NULL, due_time = app_now() + interval '1 hour',
                 attempts = 2, tries = 2"""
        )
        world.hooks.hang.pop("ana").set()

        async def sent() -> bool:
            return await world.states() == ["sent"]

        await until(sent)


async def test_serving_and_working_may_be_separate_processes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the one stores, the other hears of through Redis at once, not at its next sweep."""

    async def never(self: Deliver) -> bool:
        return False

    monkeypatch.setattr(Deliver, "due", never)
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(works=False) as door, world.replica():
        await door.submit(job(org))
        await world.inbox.wait_for(lambda m: m.address == "ana", "the page")


@pytest.mark.parametrize("direct", [True, False])
async def test_a_commit_without_an_answer_does_not_make_its_pages_wait_for_their_lease(
    world: World, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    real = Passage.commit
    lost: list[Passage] = []

    one = asyncio.Lock()

    async def commit(self: Passage) -> None:
        async with one:  # else it might be another that finds what this one has committed
            before = await world.states()
            await real(self)
            if not lost and before != ["sending"] and await world.states() == ["sending"]:
                lost.append(self)
                raise unavailable("the connection was lost during COMMIT; the outcome is unknown")

    monkeypatch.setattr(Passage, "commit", commit)
    page = job(org)
    async with world.replica(works=direct) as door:
        try:
            await door.submit(page)
        except grpc.aio.AioRpcError:
            assert direct
            assert await door.submit(page) == 0, "it was stored after all"
        async with world.replica():
            await until(lambda: world.arrived("ana") == 1, 8)
    assert lost
    attempts = await world.admin.fetch("SELECT outcome FROM attempts ORDER BY number")
    assert [row["outcome"] for row in attempts] == ["retryable", "sent"]
