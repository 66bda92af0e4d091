"""ContactService through a real socket: what it does, and what it says to bad input."""

import uuid
from datetime import timedelta

import grpc
import pytest
from tocsin.notify.v1 import contact_service_pb2 as pb
from tocsin.notify.v1 import notification_pb2

from tests.contract.notify.caller import ANA, Caller, Door, email, refused, webhook
from tests.store.notify.support import Notify, World, bearer, job, new_org


async def test_created_read_listed_changed_deleted(visitor: Caller) -> None:
    made = await visitor.create(email(display_name="work"))
    assert not made.verified
    assert made.etag
    assert await visitor.get(made.name) == made
    changed = await visitor.update(
        pb.ContactMethod(name=made.name, display_name="home", etag=made.etag), "display_name"
    )
    assert (changed.display_name, changed.email.address) == ("home", "ana@example.com")
    assert changed.etag != made.etag
    stale = await refused(visitor.update(pb.ContactMethod(name=made.name, display_name="x", etag=made.etag)))
    assert (stale.reason_name, stale.code) == ("ETAG_MISMATCH", grpc.StatusCode.ABORTED)
    stale = await refused(visitor.DeleteContactMethod(pb.DeleteContactMethodRequest(name=made.name, etag=made.etag)))
    assert stale.reason_name == "ETAG_MISMATCH"
    await visitor.DeleteContactMethod(pb.DeleteContactMethodRequest(name=made.name, etag=changed.etag))
    gone = await refused(visitor.get(made.name))
    assert (gone.reason_name, gone.code) == ("CONTACT_METHOD_NOT_FOUND", grpc.StatusCode.NOT_FOUND)


async def test_a_webhook_secret_is_shown_once_and_kept_closed(caller: Caller, world: World, notify: Notify) -> None:
    request_id = str(uuid.uuid4())
    made = await caller.create(webhook(secret="my very own secret"), request_id)
    assert made.webhook.secret == "my very own secret"
    assert made.webhook.key_id
    again = await caller.create(webhook(secret="my very own secret"), request_id)
    assert again.webhook.secret == "", "whoever repeats a request is not told its secret"
    again.webhook.secret = made.webhook.secret
    assert again == made, "and the same otherwise"
    invented = await caller.create(webhook("http://127.0.0.1:9/other"))
    assert len(invented.webhook.secret) >= 32
    assert (await caller.get(made.name)).webhook.secret == ""
    listed = await caller.ListContactMethods(pb.ListContactMethodsRequest())
    assert {each.webhook.secret for each in listed.contact_methods} == {""}
    changed = await caller.update(pb.ContactMethod(name=made.name, display_name="x"), "display_name")
    assert changed.webhook.secret == ""
    tables = await world.admin.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for table in tables:
        for row in await world.admin.fetch(f"SELECT t::text AS text FROM {table['tablename']} t"):
            assert "very own" not in row["text"]
            assert b"very own".hex() not in row["text"], "not in bytes either: the kept answer holds no secret"


async def test_changing_where_it_leads_makes_it_unverified_and_nothing_else_does(caller: Caller, world: World) -> None:
    made = await caller.create(webhook(secret="s" * 16, key_id="old"))
    await world.admin.execute("UPDATE contact_methods SET verify_time = app_now()")
    rotated = await caller.update(
        pb.ContactMethod(name=made.name, webhook=pb.WebhookContact(url=made.webhook.url, secret="n" * 16)), "webhook"
    )
    assert rotated.verified
    assert rotated.webhook.key_id not in ("", "old"), "another secret, another key id"
    kept = await world.row("SELECT secret FROM contact_methods")
    same = await caller.update(pb.ContactMethod(name=made.name, webhook=pb.WebhookContact(url=made.webhook.url)))
    assert same.verified
    assert await world.row("SELECT secret FROM contact_methods") == kept, "no secret given: the old one stays"
    moved = await caller.update(
        pb.ContactMethod(name=made.name, email=pb.EmailContact(address="ana@example.com")), "email"
    )
    assert not moved.verified
    assert moved.WhichOneof("kind") == "email"


async def test_console_contacts_can_be_switched_off(world: World) -> None:
    asking = bearer(new_org())
    console = pb.ContactMethod(user=ANA, console=pb.ConsoleContact())
    create = pb.CreateContactMethodRequest(contact_method=console)
    async with world.replica() as open_to_all:
        made = (await open_to_all.contacts.CreateContactMethod(create, metadata=asking)).contact_method
    async with world.replica(console_contacts=False) as closed:
        error = await refused(closed.contacts.CreateContactMethod(create, metadata=asking))
        assert (error.reason_name, error.fields[0].field) == ("INVALID_FIELD", "contact_method.console")
        made.disabled = True  # what is there can still be changed, and sends
        changed = pb.UpdateContactMethodRequest(contact_method=made)
        assert (await closed.contacts.UpdateContactMethod(changed, metadata=asking)).contact_method.disabled


async def test_a_test_page(caller: Caller, world: World) -> None:
    request = pb.SendTestPageRequest(user=ANA)
    assert (await refused(caller.SendTestPage(request))).reason_name == "CONTACT_METHOD_NOT_FOUND"
    mail, hook = await caller.create(email()), await caller.create(webhook(world.hooks.url("ana")))
    assert (await refused(caller.SendTestPage(request))).reason_name == "NOT_VERIFIED"
    named = pb.SendTestPageRequest(user=ANA, contact_method=mail.name)
    assert (await refused(caller.SendTestPage(named))).reason_name == "NOT_VERIFIED"
    await world.admin.execute("UPDATE contact_methods SET verify_time = app_now()")
    assert len((await caller.SendTestPage(named)).notifications) == 1
    await world.inbox.wait_for(lambda m: m.address == "ana@example.com" and m.kind == "test", "the named one")
    assert len((await caller.SendTestPage(request)).notifications) == 2
    await world.inbox.wait_for(lambda m: m.address == "ana" and m.kind == "test", "both")
    bobs = pb.SendTestPageRequest(user="users/bob", contact_method=hook.name)
    assert (await refused(caller.SendTestPage(bobs))).reason_name == "CONTACT_METHOD_NOT_FOUND"


async def test_a_deleted_methods_pages_go_to_the_others_each_at_its_time(
    caller: Caller, world: World, notify: Notify
) -> None:
    hook = await world.method(caller.org, webhook="ana")
    mail = await world.method(caller.org, email="ana@example.com")
    await notify.set_rules(caller.org, ANA, (notification_pb2.URGENCY_HIGH, hook, 600))
    await notify.submit(job(caller.org))
    await caller.DeleteContactMethod(pb.DeleteContactMethodRequest(name=f"contactMethods/{hook}"))
    row = await world.row("SELECT contact_method, state, due_time - create_time AS wait FROM notifications")
    assert (row["contact_method"], row["state"]) == (mail, "pending")
    assert row["wait"] >= timedelta(seconds=599)
    await world.forward(timedelta(seconds=601))
    await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the step through the other method")


async def test_the_last_methods_pages_become_dead_letters(caller: Caller, world: World, notify: Notify) -> None:
    hook = await world.method(caller.org, webhook="ana")
    await notify.set_rules(caller.org, ANA, (notification_pb2.URGENCY_HIGH, hook, 600))
    await notify.submit(job(caller.org))
    await caller.DeleteContactMethod(pb.DeleteContactMethodRequest(name=f"contactMethods/{hook}"))
    assert await world.states() == ["dead"]
    assert (await world.row("SELECT reason FROM dead_letters"))["reason"] == "NO_CONTACT_METHOD"


async def test_pages_of_lists_and_tokens_of_other_queries(door: Door, visitor: Caller) -> None:
    names = [(await visitor.create(email(f"a{number}@example.com"))).name for number in range(5)]
    first = await visitor.ListContactMethods(pb.ListContactMethodsRequest(page_size=2, user=ANA))
    assert [each.name for each in first.contact_methods] == names[:2]
    rest = await visitor.ListContactMethods(
        pb.ListContactMethodsRequest(page_size=3, user=ANA, page_token=first.next_page_token)
    )
    assert [each.name for each in rest.contact_methods] == names[2:]
    assert rest.next_page_token == ""
    for request, who in (
        (pb.ListContactMethodsRequest(user="users/bob", page_token=first.next_page_token), visitor),
        (pb.ListContactMethodsRequest(user=ANA, page_token=first.next_page_token), Caller(door.notify, new_org())),
        (pb.ListContactMethodsRequest(user=ANA, page_token="rubbish"), visitor),
    ):
        assert (await refused(who.ListContactMethods(request))).reason_name == "PAGE_TOKEN_INVALID"


async def test_another_tenants_method_does_not_exist(caller: Caller, world: World, notify: Notify) -> None:
    made = await caller.create(email())
    other = Caller(notify, new_org())
    for call in (
        other.get(made.name),
        other.update(pb.ContactMethod(name=made.name, disabled=True), "disabled"),
        other.DeleteContactMethod(pb.DeleteContactMethodRequest(name=made.name)),
        other.SendVerificationCode(pb.SendVerificationCodeRequest(name=made.name)),
        other.VerifyContactMethod(pb.VerifyContactMethodRequest(name=made.name, code="123456")),
        other.SendTestPage(pb.SendTestPageRequest(user=ANA, contact_method=made.name)),
    ):
        assert (await refused(call)).reason_name == "CONTACT_METHOD_NOT_FOUND"
    listed = await other.ListContactMethods(pb.ListContactMethodsRequest())
    assert list(listed.contact_methods) == []
    assert world.inbox.messages == []


BAD = [
    (pb.ContactMethod(user=ANA), "contact_method.kind"),
    (pb.ContactMethod(user="ana", email=pb.EmailContact(address="a@b.co")), "contact_method.user"),
    (email("nobody"), "contact_method.email.address"),
    (email("a@b.co\r\nBcc: x@y.zz"), "contact_method.email.address"),
    (email(f"{'a' * 250}@b.co"), "contact_method.email.address"),
    (email(display_name="x" * 256), "contact_method.display_name"),
    (webhook("ftp://example.com/"), "contact_method.webhook.url"),
    (webhook("https:///nowhere"), "contact_method.webhook.url"),
    (webhook("https://me:secret@example.com/"), "contact_method.webhook.url"),
    (webhook("https://example.com:99999/"), "contact_method.webhook.url"),
    (webhook("https://example.com/\nX: y"), "contact_method.webhook.url"),
    (webhook("http://127.1/"), "contact_method.webhook.url"),
    (webhook("https://" + "a" * 70 + "/"), "contact_method.webhook.url"),
    (webhook("https://example.com/" + "x" * 2048), "contact_method.webhook.url"),
    (webhook(secret="short"), "contact_method.webhook.secret"),
    (webhook(key_id="k\r\nX: y"), "contact_method.webhook.key_id"),
    (webhook(key_id="k,v1=00"), "contact_method.webhook.key_id"),
]


@pytest.mark.parametrize(("contact", "field"), BAD)
async def test_bad_contact_methods(visitor: Caller, contact: pb.ContactMethod, field: str) -> None:
    error = await refused(visitor.create(contact))
    assert (error.reason_name, error.code) == ("INVALID_FIELD", grpc.StatusCode.INVALID_ARGUMENT)
    assert field in {violation.field for violation in error.fields}


async def test_a_webhook_url_is_kept_as_it_was_written(visitor: Caller) -> None:
    url = "HTTP://Example.com:80/a%2Fb/%40me?sig=a%2Bb=="
    assert (await visitor.create(webhook(url))).webhook.url == url


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://[::1]:80/", "http://localhost/", "http://169.254.169.254/"]
)
async def test_private_webhooks_are_refused_at_the_door_unless_allowed(world: World, url: str) -> None:
    async with world.replica(allow_private_webhooks=False) as notify:
        error = await refused(Caller(notify, new_org()).create(webhook(url)))
    assert error.fields[0].field == "contact_method.webhook.url"


async def test_bad_requests(visitor: Caller) -> None:
    made = await visitor.create(email(), request_id := str(uuid.uuid4()))
    reused = await refused(visitor.create(email("other@example.com"), request_id))
    assert reused.reason_name == "REQUEST_ID_REUSED"
    assert (await refused(visitor.create(email(), "no uuid"))).fields[0].field == "request_id"
    mask = await refused(visitor.update(pb.ContactMethod(name=made.name), "colour"))
    assert (mask.reason_name, dict(mask.metadata)) == ("UPDATE_MASK_INVALID", {"path": "colour"})
    bad = await refused(
        visitor.update(pb.ContactMethod(name=made.name, email=pb.EmailContact(address="nobody")), "email")
    )
    assert bad.fields[0].field == "contact_method.email.address"
    cleared = await refused(visitor.update(pb.ContactMethod(name=made.name), "email"))
    assert cleared.fields[0].field == "contact_method.kind"
    unknown = await refused(visitor.get(f"contactMethods/{uuid.uuid4()}"))
    assert unknown.reason_name == "CONTACT_METHOD_NOT_FOUND"
    shape = await refused(visitor.get(f"contactMethods/{'-' * 36}"))
    assert shape.reason_name == "INVALID_FIELD"


async def test_a_user_cannot_have_methods_without_end(visitor: Caller) -> None:
    for number in range(50):
        await visitor.create(email(f"a{number}@example.com"))
    error = await refused(visitor.create(email()))
    assert error.fields[0].field == "contact_method.user"
