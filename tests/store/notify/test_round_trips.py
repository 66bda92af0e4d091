"""What one page costs notify in PostgreSQL."""

import asyncio
import uuid

import grpc
import pytest

from tests.store.notify.support import WARNING, Notify, World, job, new_org, until
from tests.store.round_trips import RoundTrips, recorded


async def test_the_round_trips_of_a_page_that_is_sent_at_once(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")

    async def sent() -> bool:
        return set(await world.states()) == {"sent"}

    with recorded() as trips:
        assert await notify.submit(job(org)) == 1
        await until(sent)
    taken_in, concluded = trips.writing({"attempts"})
    # With BEGIN the gate's lock is taken; it is let go when the call has begun.
    assert taken_in == ["BEGIN", "pages", "notifications+attempts", "COMMIT"]
    assert concluded == ["attempts+queue_counters+notifications+outbox"]


async def test_the_round_trips_of_a_page_that_its_persons_budget_has_room_for(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(storm_pages=3) as notify:
        await notify.submit(job(org, severity=WARNING))  # the first one ever finds no row of the person
        with recorded() as trips:
            assert await notify.submit(job(org, severity=WARNING)) == 1
            await until(lambda: world.arrived("ana") == 2)
        assert trips.writing({"pages"}) == [["BEGIN", "pages", "paces", "notifications+attempts", "COMMIT"]]


async def test_the_round_trips_of_a_page_above_its_persons_budget(world: World) -> None:
    """In a storm these are nearly all, and the person's row is held from the first of them to COMMIT."""
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(storm_pages=1) as notify:
        await notify.submit(job(org, severity=WARNING))
        with recorded() as trips:
            assert await notify.submit(job(org, severity=WARNING)) == 1
        assert trips.writing({"pages"}) == [
            ["BEGIN", "pages", "paces", "paces+bundle_pages+notifications+attempts", "COMMIT"]
        ]


async def test_the_round_trips_of_a_cancel(world: World, notify: Notify) -> None:
    """A person waits for them. No round trip is for BEGIN or COMMIT, as what each statement does may be done again."""
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    await notify.submit(job(org, incident))
    with recorded() as trips:
        await notify.cancel(org, incident)
    steps = {
        "tocsin cancel": "the fence",
        "pg_try_advisory_xact_lock": "who passes the gate",
        "AS crossed": "what waits",
    }
    asked = [step for [text, *more] in trips.transactions for word, step in steps.items() if word in text and not more]
    assert asked == list(steps.values())


async def test_the_second_copy_of_a_page_costs_no_round_trip(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    one = job(org)
    assert await notify.submit(one) == 1
    with recorded() as trips:
        assert await notify.submit(one, one) == 0
        assert await notify.submit(job(org), one) == 1
        await until(lambda: world.arrived("ana") == 2)
    assert _stores(trips) == 1


async def test_copies_of_a_page_that_is_on_its_way_are_stored_with_it(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    one = job(org)
    with recorded() as trips:
        assert sum(await asyncio.gather(*(notify.submit(one) for _ in range(10)))) == 1
    assert _stores(trips) == 1


async def test_a_bad_job_beside_the_copy_of_a_page_is_named_by_its_place(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    one = job(org)
    await notify.submit(one)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await notify.submit(one, job(org, user="nobody"))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "jobs[1].user" in (error.value.details() or "")


async def test_a_page_is_asked_for_again_once_the_session_that_stored_it_has_ended(
    world: World, notify: Notify
) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    one = job(org)
    assert await notify.submit(one) == 1
    await until(lambda: world.arrived("ana") == 1)
    with recorded() as trips:

        async def asked() -> bool:
            assert await notify.submit(one) == 0
            return _stores(trips) == 1

        gates = await world.row(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name LIKE '%-gate'"
        )
        assert gates["count"] >= 1
        await until(asked)


def _stores(trips: RoundTrips) -> int:
    """How often pages were stored, or asked for by that."""
    return sum("INSERT INTO pages" in text for transaction in trips.transactions for text in transaction)
