"""A user has one contact method for an address: a second one would get each page twice, and the first one's answer would be
taken for both."""

import asyncio
import uuid

import grpc
from tocsin.notify.v1 import contact_service_pb2 as pb
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_testkit.busy import until

from tests.contract.notify.caller import ANA, Caller, Door, email, refused, webhook


def discord(ending: str) -> pb.ContactMethod:
    """Of two with the same last four characters, the same is shown."""
    url = f"http://127.0.0.1:9/api/webhooks/1/{ending}"
    return pb.ContactMethod(user=ANA, discord=pb.DiscordContact(url=url))


def assert_exists(error: TocsinError, name: str) -> None:
    assert (error.reason_name, error.code) == ("ALREADY_EXISTS", grpc.StatusCode.ALREADY_EXISTS)
    assert error.metadata == {"name": name}
    assert "@" not in str(error), "an address is not said to logs"


async def names(caller: Caller) -> list[str]:
    response = await caller.ListContactMethods(pb.ListContactMethodsRequest())
    return [each.name for each in response.contact_methods]


async def test_a_second_one_is_refused_with_the_name_of_the_first(visitor: Caller) -> None:
    made = await visitor.create(email(), request_id := str(uuid.uuid4()))
    assert_exists(await refused(visitor.create(email(display_name="again"), str(uuid.uuid4()))), made.name)
    assert await visitor.create(email(), request_id) == made, "who repeats their request gets their answer"
    bens = email()
    bens.user = "users/ben"
    others = [await visitor.create(bens), await visitor.create(webhook()), await visitor.create(email("b@example.com"))]
    assert await names(visitor) == [made.name, *(each.name for each in others)]
    await visitor.update(pb.ContactMethod(name=made.name, disabled=True), "disabled")
    assert_exists(await refused(visitor.create(email())), made.name)
    await visitor.DeleteContactMethod(pb.DeleteContactMethodRequest(name=made.name))
    assert (await visitor.create(email())).name != made.name


async def test_other_secrets_make_no_other_address(visitor: Caller) -> None:
    made = await visitor.create(webhook(secret="one that is long enough"))
    assert_exists(await refused(visitor.create(webhook(secret="another one, long as well"))), made.name)


async def test_an_address_that_is_kept_as_a_secret_is_compared_as_a_whole(visitor: Caller) -> None:
    first, second = await visitor.create(discord("first-abcd")), await visitor.create(discord("second-abcd"))
    assert first.discord == second.discord, "what is shown of them"
    assert_exists(await refused(visitor.create(discord("second-abcd"))), second.name)
    moved = discord("second-abcd")
    moved.name = first.name
    assert_exists(await refused(visitor.update(moved, "discord")), second.name)


async def test_no_method_moves_to_the_address_of_another_one(visitor: Caller) -> None:
    first, second = await visitor.create(email()), await visitor.create(email("b@example.com"))
    moved = pb.ContactMethod(name=second.name, email=first.email)
    assert_exists(await refused(visitor.update(moved, "email")), first.name)
    assert await visitor.get(second.name) == second
    same = await visitor.update(pb.ContactMethod(name=first.name, email=first.email, display_name="work"))
    assert (same.display_name, same.email) == ("work", first.email), "its own address is no other one's"


async def test_those_that_are_twice_already_stay_and_can_be_changed(door: Door, visitor: Caller) -> None:
    first, second = [await door.world.method(visitor.org, email="ana@example.com") for _ in range(2)]
    assert await names(visitor) == [f"contactMethods/{first}", f"contactMethods/{second}"]
    assert_exists(await refused(visitor.create(email())), f"contactMethods/{first}")
    for id in (first, second):
        changed = await visitor.update(
            pb.ContactMethod(
                name=f"contactMethods/{id}", display_name="kept", email=pb.EmailContact(address="ana@example.com")
            )
        )
        assert changed.verified
    await visitor.DeleteContactMethod(pb.DeleteContactMethodRequest(name=f"contactMethods/{first}"))
    assert await names(visitor) == [f"contactMethods/{second}"]


async def test_of_several_at_once_one_is_made(door: Door, visitor: Caller) -> None:
    moving = await visitor.create(email("old@example.com"))
    calls = [visitor.create(email(), str(uuid.uuid4())) for _ in range(3)]
    calls += [visitor.update(pb.ContactMethod(name=moving.name, email=pb.EmailContact(address="ana@example.com")))]
    async with door.world.admin.transaction():
        # None is written before each has looked at what is there, or waits for the one that has.
        await door.world.admin.execute("LOCK TABLE contact_methods IN SHARE MODE")
        answering = asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: waiting(door, 4))
    answers = await answering
    [made] = [each for each in answers if not isinstance(each, BaseException)]
    refusals = [from_rpc_error(each) for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert len(refusals) == 3
    for each in refusals:
        assert_exists(each, made.name)
    listed = await visitor.ListContactMethods(pb.ListContactMethodsRequest())
    assert [each.email.address for each in listed.contact_methods].count("ana@example.com") == 1


async def waiting(door: Door, count: int) -> bool:
    """So many sessions wait for a lock."""
    sessions = "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_database d ON d.oid = database"
    found: int = await door.world.admin.fetchval(f"{sessions} WHERE datname = current_database() AND NOT granted")
    return found == count
