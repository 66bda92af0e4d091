"""Users own their contact methods and rules; what others change of them is told to them where they were reached before."""

import json
from collections.abc import Awaitable, Callable
from email import message_from_bytes, policy
from typing import Any

import grpc
import pytest
from tocsin.notify.v1 import contact_service_pb2 as pb
from tocsin.notify.v1 import notification_pb2, notification_service_pb2
from tocsin.queue.v1 import queue_service_pb2
from tocsin_kit.roles import ROLES
from tocsin_notify.work.retention import Retention
from tocsin_testkit.received import Received

from tests.contract.notify.caller import ANA, email, refused, webhook
from tests.store.notify.support import Notify, World, bearer, new_org, operator, reads

BEN = "users/ben"
BOSS = "users/boss"
Call = Callable[["Someone", pb.ContactMethod], Awaitable[Any]]


class Someone:
    """ContactService as a user with a role."""

    def __init__(self, notify: Notify, org: str, subject: str, role: str) -> None:
        self._stub = notify.contacts
        self._metadata = bearer(org, sorted(ROLES[role]), subject)

    def __getattr__(self, method: str) -> Any:
        return lambda request: getattr(self._stub, method)(request, metadata=self._metadata)


@pytest.fixture
def org() -> str:
    return new_org()


@pytest.fixture
def manager(notify: Notify, org: str) -> Someone:
    return Someone(notify, org, BOSS, "manager")


def named(method: pb.ContactMethod, **fields: Any) -> pb.ContactMethod:
    """The method as a request names it."""
    return pb.ContactMethod(name=method.name, **fields)


def rules(user: str) -> pb.UpdateNotificationRulesRequest:
    return pb.UpdateNotificationRulesRequest(notification_rules=pb.NotificationRules(user=user))


def settings(user: str) -> pb.UpdateNotificationSettingsRequest:
    return pb.UpdateNotificationSettingsRequest(notification_settings=pb.NotificationSettings(user=user))


MUTATIONS: dict[str, Call] = {
    "CreateContactMethod": lambda who, of: who.CreateContactMethod(
        pb.CreateContactMethodRequest(
            contact_method=pb.ContactMethod(user=of.user, email=pb.EmailContact(address=f"new.{of.email.address}"))
        )
    ),
    "UpdateContactMethod": lambda who, of: who.UpdateContactMethod(
        pb.UpdateContactMethodRequest(contact_method=named(of, display_name="x"))
    ),
    "SendVerificationCode": lambda who, of: who.SendVerificationCode(pb.SendVerificationCodeRequest(name=of.name)),
    "VerifyContactMethod": lambda who, of: who.VerifyContactMethod(
        pb.VerifyContactMethodRequest(name=of.name, code="000000")
    ),
    "SendTestPage": lambda who, of: who.SendTestPage(pb.SendTestPageRequest(user=of.user, contact_method=of.name)),
    "UpdateNotificationRules": lambda who, of: who.UpdateNotificationRules(rules(of.user)),
    "UpdateNotificationSettings": lambda who, of: who.UpdateNotificationSettings(settings(of.user)),
    "DeleteContactMethod": lambda who, of: who.DeleteContactMethod(pb.DeleteContactMethodRequest(name=of.name)),
}


def test_every_mutation_is_among_them() -> None:
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["ContactService"].methods}
    assert {name for name in methods if not name.startswith(("Get", "List"))} == set(MUTATIONS)


async def method_of(world: World, notify: Notify, org: str, user: str, address: str) -> pb.ContactMethod:
    """A verified e-mail address of the user."""
    id = await world.method(org, user, email=address)
    request = pb.GetContactMethodRequest(name=f"contactMethods/{id}")
    found: pb.ContactMethod = (await notify.contacts.GetContactMethod(request, metadata=bearer(org))).contact_method
    return found


@pytest.mark.parametrize("role", ["viewer", "responder"])
async def test_a_user_changes_what_is_theirs_and_nothing_of_others(
    world: World, notify: Notify, org: str, role: str
) -> None:
    ana = Someone(notify, org, ANA, role)
    own = await method_of(world, notify, org, ANA, "ana@example.com")
    other = await method_of(world, notify, org, BEN, "ben@example.com")
    before = await world.admin.fetch("SELECT * FROM contact_methods WHERE user_id = $1", BEN)
    for name, call in MUTATIONS.items():
        error = await refused(call(ana, other))
        assert (error.code, error.reason_name) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"), name
        assert error.metadata == {"scope": "contacts:write"}
    assert await world.admin.fetch("SELECT * FROM contact_methods WHERE user_id = $1", BEN) == before
    for call in MUTATIONS.values():
        await call(ana, own)
    assert world.arrived("ben@example.com") == 0
    assert not [m for m in world.inbox.messages if m.kind == "contact_changed"], "nobody is told of their own changes"


async def test_a_name_that_resembles_the_owners_is_not_the_owner(world: World, notify: Notify, org: str) -> None:
    own = await method_of(world, notify, org, ANA, "ana@example.com")
    for subject in ("ana", "users/ana/", "users/an", "users/ana2", "Users/ana", "serviceAccounts/ana", "users/ANA"):
        error = await refused(MUTATIONS["DeleteContactMethod"](Someone(notify, org, subject, "responder"), own))
        assert error.reason_name == "SCOPE_MISSING", subject


@pytest.mark.parametrize("role", ["manager", "owner"])
async def test_a_manager_changes_anybodys(world: World, notify: Notify, org: str, role: str) -> None:
    boss = Someone(notify, org, BOSS, role)
    other = await method_of(world, notify, org, BEN, "ben@example.com")
    for call in MUTATIONS.values():
        await call(boss, other)


async def told(world: World, address: str, words: str) -> Received:
    """A notice came to the address."""
    message = await world.inbox.wait_for(
        lambda m: m.address == address and m.kind == "contact_changed" and words in text_of(m), words
    )
    assert message.incident == ""
    return message


def text_of(message: Received) -> str:
    """What a person reads."""
    if message.channel != "email":
        return str(json.loads(message.body)["change"])
    part = message_from_bytes(message.body, policy=policy.default).get_body(("plain",))
    assert part is not None
    return str(part.get_content())


async def test_a_change_by_another_is_told_at_the_old_address(
    world: World, notify: Notify, org: str, manager: Someone
) -> None:
    mail = await method_of(world, notify, org, ANA, "old@example.com")
    await world.method(org, webhook="ana")
    moved = named(mail, email=pb.EmailContact(address="new@example.com"))
    await manager.UpdateContactMethod(pb.UpdateContactMethodRequest(contact_method=moved))
    message = await told(world, "old@example.com", "leads elsewhere now")
    assert message.subject == f"[security] {BOSS} changed how Tocsin reaches you"
    payload = json.loads((await told(world, "ana", "leads elsewhere now")).body)
    assert (payload["type"], payload["user"], payload["actor"]) == ("contact_changed", ANA, BOSS)
    assert payload["change"] == "changed a contact method of yours (e-mail), which leads elsewhere now"
    assert world.arrived("new@example.com") == 0


async def test_a_webhook_that_was_changed_is_told_with_its_old_secret(
    world: World, notify: Notify, org: str, manager: Someone
) -> None:
    id = await world.method(org, webhook="old")
    moved = pb.ContactMethod(
        name=f"contactMethods/{id}", webhook=pb.WebhookContact(url=world.hooks.url("new"), secret="another secret 123")
    )
    await manager.UpdateContactMethod(pb.UpdateContactMethodRequest(contact_method=moved))
    message = await told(world, "old", "leads elsewhere now")
    assert "kid=k1," in dict(message.headers)["Tocsin-Signature"]
    assert world.arrived("new") == 0


async def test_each_kind_of_change_is_told(world: World, notify: Notify, org: str, manager: Someone) -> None:
    mail = await method_of(world, notify, org, ANA, "ana@example.com")
    added = (await manager.CreateContactMethod(pb.CreateContactMethodRequest(contact_method=webhook()))).contact_method
    await told(world, "ana@example.com", "added a contact method of yours (webhook)")
    renamed = named(mail, display_name="line one\nline two")
    await manager.UpdateContactMethod(pb.UpdateContactMethodRequest(contact_method=renamed))
    await told(world, "ana@example.com", "changed a contact method of yours (e-mail).")
    await manager.UpdateContactMethod(pb.UpdateContactMethodRequest(contact_method=named(mail, disabled=True)))
    await told(world, "ana@example.com", 'changed your contact method "line one line two" (e-mail), which is disabled')
    await world.admin.execute("UPDATE contact_methods SET disabled = false")
    await manager.UpdateNotificationRules(rules(ANA))
    await told(world, "ana@example.com", "replaced your notification rules")
    await manager.UpdateNotificationSettings(settings(ANA))
    await told(world, "ana@example.com", "replaced your notification settings")
    await reads(notify, org, ANA, "de")
    await manager.UpdateContactMethod(pb.UpdateContactMethodRequest(contact_method=renamed))
    german = await world.inbox.wait_for(lambda m: m.subject.startswith("[Sicherheit] "), "a notice in German")
    assert "Ihr Kontaktweg „line one line two“ (E-Mail) wurde geändert." in text_of(german)
    await reads(notify, org, ANA, "en")
    await manager.DeleteContactMethod(pb.DeleteContactMethodRequest(name=added.name))
    await told(world, "ana@example.com", "deleted a contact method of yours (webhook)")
    await manager.DeleteContactMethod(pb.DeleteContactMethodRequest(name=mail.name))
    await told(world, "ana@example.com", 'deleted your contact method "line one line two" (e-mail)')


async def test_a_method_that_others_verify_is_told(world: World, notify: Notify, org: str, manager: Someone) -> None:
    await method_of(world, notify, org, ANA, "ana@example.com")
    made = await manager.CreateContactMethod(pb.CreateContactMethodRequest(contact_method=email("boss@example.com")))
    name = made.contact_method.name
    await manager.SendVerificationCode(pb.SendVerificationCodeRequest(name=name))
    code = await world.inbox.wait_for(lambda m: m.address == "boss@example.com" and bool(m.code), "the code")
    await manager.VerifyContactMethod(pb.VerifyContactMethodRequest(name=name, code=code.code))
    await told(world, "ana@example.com", "verified a contact method of yours (e-mail)")
    assert [m.kind for m in world.inbox.messages if m.address == "boss@example.com"] == ["verification"]


async def test_a_notice_that_waits_goes_to_the_old_address_also_after_a_second_change(
    world: World, notify: Notify, org: str, manager: Someone
) -> None:
    """A user who takes over two methods right after each other must not get the notices of each at the other."""
    first = await method_of(world, notify, org, ANA, "first@example.com")
    second = await method_of(world, notify, org, ANA, "second@example.com")
    queue: Any = {"name": "queues/notify"}
    await notify.queues.PauseQueue(queue_service_pb2.PauseQueueRequest(**queue), metadata=operator())
    taken = ("taken@example.com", "taken.too@example.com")
    for method, address in zip((first, second), taken, strict=True):
        moved = named(method, email=pb.EmailContact(address=address))
        await manager.UpdateContactMethod(pb.UpdateContactMethodRequest(contact_method=moved))
    await notify.queues.ResumeQueue(queue_service_pb2.ResumeQueueRequest(**queue), metadata=operator())
    for address in ("first@example.com", "second@example.com"):
        await told(world, address, "leads elsewhere now")
    assert [world.arrived(address) for address in taken] == [0, 0]


async def test_an_unverified_address_is_told_nothing(world: World, notify: Notify, org: str, manager: Someone) -> None:
    id = await world.method(org, email="stranger@example.com", verified=False)
    await method_of(world, notify, org, ANA, "ana@example.com")
    await manager.DeleteContactMethod(pb.DeleteContactMethodRequest(name=f"contactMethods/{id}"))
    await told(world, "ana@example.com", "deleted")
    assert world.arrived("stranger@example.com") == 0


async def test_where_a_method_led_is_shown_to_no_caller_and_forgotten_after_a_day(
    world: World, notify: Notify, org: str, manager: Someone
) -> None:
    mail = await method_of(world, notify, org, ANA, "old@example.com")
    await manager.DeleteContactMethod(pb.DeleteContactMethodRequest(name=mail.name))
    await told(world, "old@example.com", "deleted")
    shown = await manager.ListContactMethods(pb.ListContactMethodsRequest())
    assert list(shown.contact_methods) == []
    former = await world.row("SELECT id FROM contact_methods WHERE address = 'old@example.com'")
    name = f"contactMethods/{former['id']}"
    for call in (
        manager.GetContactMethod(pb.GetContactMethodRequest(name=name)),
        manager.DeleteContactMethod(pb.DeleteContactMethodRequest(name=name)),
        manager.SendVerificationCode(pb.SendVerificationCodeRequest(name=name)),
    ):
        assert (await refused(call)).reason_name == "CONTACT_METHOD_NOT_FOUND"
    [kept] = (
        await notify.notifications.ListNotifications(
            notification_service_pb2.ListNotificationsRequest(user=ANA), metadata=bearer(org)
        )
    ).notifications
    assert kept.type == notification_pb2.NOTIFICATION_TYPE_CONTACT_CHANGED
    retention = Retention(notify.runtime.database, days=30, fence_days=30, event_days=30)
    await retention()
    assert await world.admin.fetchval("SELECT count(*) FROM contact_methods WHERE address = 'old@example.com'") == 1
    await world.admin.execute("UPDATE contact_methods SET create_time = create_time - interval '25 hours'")
    await retention()
    assert await world.admin.fetchval("SELECT count(*) FROM contact_methods WHERE address <> ''") == 0
