"""Codes that prove a contact method, through a real socket."""

from datetime import timedelta

import grpc
from tocsin.notify.v1 import contact_service_pb2 as pb

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


async def test_an_address_gets_ten_codes_an_hour_whoever_asks(world: World, notify: Notify) -> None:
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
