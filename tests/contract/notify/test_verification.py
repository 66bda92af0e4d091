"""Codes that prove a contact method, through a real socket."""

from contextlib import AsyncExitStack
from datetime import timedelta

import grpc
import pytest
from redis.asyncio import Redis
from tocsin.notify.v1 import contact_service_pb2 as pb
from tocsin_notify.app.contacts.code_limits import SERVICE

from tests.contract.notify.caller import Caller, email, refused, webhook
from tests.store.notify.support import Notify, World, bearer, new_org, until


async def test_verification_by_a_code_through_the_method_itself(caller: Caller, world: World) -> None:
    made = await caller.create(email())
    sent = await caller.SendVerificationCode(pb.SendVerificationCodeRequest(name=made.name))
    mail = await world.inbox.wait_for(lambda m: m.kind == "verification", "the code")
    assert mail.address == "ana@example.com"
    now = await world.admin.fetchval("SELECT app_now()")
    assert timedelta(minutes=9) < sent.expire_time.ToDatetime(now.tzinfo) - now <= timedelta(minutes=10)
    wrong = f"{(int(mail.code) + 1) % 10**6:06d}"
    error = await refused(caller.VerifyContactMethod(pb.VerifyContactMethodRequest(name=made.name, code=wrong)))
    assert (error.reason_name, dict(error.metadata)) == ("VERIFICATION_CODE_WRONG", {"attempts_left": "4"})
    right = pb.VerifyContactMethodRequest(name=made.name, code=mail.code)
    assert (await caller.VerifyContactMethod(right)).contact_method.verified
    assert (await caller.VerifyContactMethod(right)).contact_method.verified, "verifying a verified one is OK"
    for row in await world.admin.fetch("SELECT v::text AS text FROM verifications v"):
        assert mail.code not in row["text"].split(",")


async def test_a_webhook_gets_its_code_in_its_json(caller: Caller, world: World) -> None:
    made = await caller.create(webhook(world.hooks.url("ana")))
    await caller.SendVerificationCode(pb.SendVerificationCodeRequest(name=made.name))
    hook = await world.inbox.wait_for(lambda m: m.address == "ana", "the code")
    assert (hook.kind, len(hook.code)) == ("verification", 6)
    response = await caller.VerifyContactMethod(pb.VerifyContactMethodRequest(name=made.name, code=hook.code))
    assert response.contact_method.verified


async def test_guessing_ends_after_five_tries_and_an_old_code_is_over(caller: Caller, world: World) -> None:
    made = await caller.create(email())
    nothing = pb.VerifyContactMethodRequest(name=made.name, code="000000")
    assert (await refused(caller.VerifyContactMethod(nothing))).reason_name == "VERIFICATION_EXPIRED"
    await caller.SendVerificationCode(pb.SendVerificationCodeRequest(name=made.name))
    mail = await world.inbox.wait_for(lambda m: m.kind == "verification", "the code")
    wrong = pb.VerifyContactMethodRequest(name=made.name, code=f"{(int(mail.code) + 1) % 10**6:06d}")
    for left in (4, 3, 2, 1, 0):
        error = await refused(caller.VerifyContactMethod(wrong))
        assert error.metadata["attempts_left"] == str(left)
    right = pb.VerifyContactMethodRequest(name=made.name, code=mail.code)
    assert (await refused(caller.VerifyContactMethod(right))).reason_name == "VERIFICATION_EXPIRED"
    await caller.SendVerificationCode(pb.SendVerificationCodeRequest(name=made.name))
    await until(lambda: len(world.inbox.messages) == 2)
    await world.forward(timedelta(minutes=11))
    late = pb.VerifyContactMethodRequest(name=made.name, code=world.inbox.messages[1].code)
    assert (await refused(caller.VerifyContactMethod(late))).reason_name == "VERIFICATION_EXPIRED"


async def test_five_codes_an_hour(caller: Caller, world: World) -> None:
    made = await caller.create(email())
    request = pb.SendVerificationCodeRequest(name=made.name)
    for _ in range(5):
        await caller.SendVerificationCode(request)
    error = await refused(caller.SendVerificationCode(request))
    assert (error.reason_name, error.code) == ("RATE_LIMITED", grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert error.retry_after is not None
    assert 3500 < error.retry_after <= 3600
    await world.forward(timedelta(minutes=61))
    await caller.SendVerificationCode(request)


async def test_an_address_gets_ten_codes_an_hour_from_all_callers_together(world: World, notify: Notify) -> None:
    answers = []
    for number in range(4):  # tenants, each with a method of another spelling, made anew when its own limit is reached
        asking = bearer(new_org())
        for tag in ("", "+a", "+b"):
            method = email(f"Victim{tag}@{'Example.COM' if number % 2 else 'example.com'}")
            create = pb.CreateContactMethodRequest(contact_method=method)
            made = (await notify.contacts.CreateContactMethod(create, metadata=asking)).contact_method
            request = pb.SendVerificationCodeRequest(name=made.name)
            call = notify.contacts.SendVerificationCode(request, metadata=asking)
            answers.append((await call.code(), await call.details()))
            await notify.contacts.DeleteContactMethod(pb.DeleteContactMethodRequest(name=made.name), metadata=asking)
    assert [code for code, _ in answers] == [grpc.StatusCode.OK] * 10 + [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2
    assert "address" in answers[-1][1]


@pytest.mark.parametrize("held", ["address", "tenant"])
async def test_codes_are_counted_over_all_replicas(
    world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    monkeypatch.setattr("tocsin_notify.app.contacts.code_limits.OF_TENANT", 10)
    name = {"address": "codes_to_address_per_hour", "tenant": "codes_of_tenant_per_hour"}[held]
    org = new_org()
    count = 0

    async def sends(notify: Notify) -> bool:
        """A code through a new method: of another tenant to one address, or of one tenant to another address."""
        nonlocal count
        count += 1
        asking, to = (org, f"u{count}") if held == "tenant" else (new_org(), "victim")
        create = pb.CreateContactMethodRequest(contact_method=email(f"{to}@example.com"))
        made = (await notify.contacts.CreateContactMethod(create, metadata=bearer(asking))).contact_method
        request = pb.SendVerificationCodeRequest(name=made.name)
        code = await notify.contacts.SendVerificationCode(request, metadata=bearer(asking)).code()
        return code is grpc.StatusCode.OK

    async def told(redis: Redis) -> bool:
        """Whether all six are in what the replicas share: tokens, and since when."""
        held = [await redis.get(key) for key in await redis.keys(f"*{SERVICE}*{name}:*")]
        return any(float(each.split(b":")[0]) < 4.5 for each in held if isinstance(each, bytes))

    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Redis.from_url(redis_url))
        one, two = [await stack.enter_async_context(world.replica()) for _ in range(2)]
        assert [await sends(one) for _ in range(6)] == [True] * 6
        await until(lambda: told(redis))
        assert await sends(two), "what it has not heard of yet"
        await until(lambda: (two.runtime.metrics.registry.get_sample_value(*_most_used(name)) or 0) >= 0.65)
        assert [await sends(two) for _ in range(4)] == [True] * 3 + [False]


def _most_used(name: str) -> tuple[str, dict[str, str]]:
    return "tocsin_tenant_most_used_ratio", {"limit": name}
