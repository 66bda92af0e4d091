"""Templates on real servers: what an organisation writes is what its people read, and no fault in it keeps a page."""

import uuid
from email import message_from_bytes, policy
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2, notification_service_pb2, shift_pb2
from tocsin.notify.v1 import template_service_pb2 as pb
from tocsin_kit.ids import new_id
from tocsin_testkit.received import Received

from tests.store.notify.support import Notify, World, bearer, job, new_org, until

PAGED = notification_pb2.NOTIFICATION_TYPE_NEW_INCIDENT
SUBJECT = "Wake up: {{ incident.title }}"


class Organisation:
    """One that has people with a mailbox, and writes templates."""

    def __init__(self, world: World, notify: Notify) -> None:
        self.world, self.notify, self.org = world, notify, new_org()
        self.who = bearer(self.org)
        self.address = f"{self.org}@example.com"

    async def open(self) -> "Organisation":
        self.method = await self.world.method(self.org, email=self.address)
        return self

    async def call(self, rpc: str, request: Any) -> Any:
        return await getattr(self.notify.templates, rpc)(request, metadata=self.who)

    async def write(self, *, type: int = PAGED, **texts: str) -> pb.Template:
        template = pb.Template(type=type, **texts)  # type: ignore[arg-type]
        made = await self.call("CreateTemplate", pb.CreateTemplateRequest(template=template))
        return pb.Template.FromString(made.template.SerializeToString())

    async def page(self, notify: Notify | None = None, incident: uuid.UUID | None = None) -> Received:
        """The mail that Ana gets of a page."""
        before = self.world.arrived(self.address)
        await (notify or self.notify).submit(job(self.org, incident))
        await until(lambda: self.world.arrived(self.address) > before)
        return [each for each in self.world.inbox.messages if each.address == self.address][-1]

    async def detail(self) -> str:
        """What the latest attempt says of itself."""
        row = await self.world.row("SELECT id FROM notifications WHERE org_id = $1 ORDER BY create_time DESC", self.org)

        async def ended() -> bool:
            return bool(
                (await self.world.row("SELECT state FROM notifications WHERE id = $1", row["id"]))["state"] == "sent"
            )

        await until(ended)
        request = notification_service_pb2.GetNotificationRequest(name=f"notifications/{row['id']}")
        found = await self.notify.notifications.GetNotification(request, metadata=self.who)
        return str(found.notification.attempts[-1].detail)


def text_of(mail: Received) -> str:
    """The body of a mail."""
    return _part(mail, "plain")


def _part(mail: Received, kind: str) -> str:
    part = message_from_bytes(mail.body, policy=policy.default).get_body((kind,))
    return "" if part is None else str(part.get_content()).replace("\r\n", "\n")


@pytest.fixture
async def org(world: World, notify: Notify) -> Organisation:
    return await Organisation(world, notify).open()


async def test_people_read_what_their_organisation_wrote_until_it_is_deleted(org: Organisation) -> None:
    made = await org.write(
        subject=SUBJECT, text="Runbook: wiki/{{ incident.source }}", html="<b>{{ incident.title }}</b>"
    )
    mail = await org.page()
    assert "<body><b>Disk full on db-1</b></body>" in _part(mail, "html")
    assert mail.subject == "Wake up: Disk full on db-1"
    assert text_of(mail) == "Runbook: wiki/db-1\n"
    changed = pb.Template(name=made.name, etag=made.etag, subject="Up! {{ incident.title }}")
    mask = FieldMask(paths=["subject", "text"])
    await org.call("UpdateTemplate", pb.UpdateTemplateRequest(template=changed, update_mask=mask))
    mail = await org.page()
    assert mail.subject == "Up! Disk full on db-1"
    assert "you are paged at level 1" in text_of(mail), "a part that is cleared is the default text again"
    await org.call("DeleteTemplate", pb.DeleteTemplateRequest(name=made.name))
    assert (await org.page()).subject == "[critical] Disk full on db-1 (level 1)"


async def test_a_template_that_fails_sends_the_default_text_and_says_so(world: World, org: Organisation) -> None:
    """As one may that an older version has taken: here it is broken behind the service's back."""
    made = await org.write(subject=SUBJECT, text="Fine")
    await world.admin.execute("UPDATE templates SET subject = '{{ level | gone }}', text = '{{ about }}'")
    mail = await org.page()
    assert mail.subject == "[critical] Disk full on db-1 (level 1)"
    assert "you are paged at level 1" in text_of(mail)
    detail = await org.detail()
    assert (
        f"the default text was used: the subject of {made.name} failed: line 1, column 12: there is no filter 'gone'"
        in detail
    )
    assert f"the text of {made.name} failed: it says nothing" in detail


async def test_another_replica_uses_what_this_one_was_told(world: World, org: Organisation) -> None:
    async with world.replica() as other:
        await org.page(other)
        made = await org.write(subject=SUBJECT)

        async def subject() -> str:
            return str((await org.page(other)).subject)

        await until(lambda: _is(subject, "Wake up: Disk full on db-1"))
        await org.call("DeleteTemplate", pb.DeleteTemplateRequest(name=made.name))
        await until(lambda: _is(subject, "[critical] Disk full on db-1 (level 1)"))


async def _is(read: Any, wanted: str) -> bool:
    return bool(await read() == wanted)


async def test_a_preview_shows_a_real_incident_and_warns(org: Organisation) -> None:
    incident = new_id()
    await org.page(incident=incident)
    template = pb.Template(
        type=PAGED, subject=SUBJECT, sms="☃ {{ nobody }} {{ incident.title }}", voice="{{ level | gone }}"
    )
    request = pb.PreviewTemplateRequest(template=template, incident=f"incidents/{incident}")
    shown = await org.call("PreviewTemplate", request)
    assert shown.subject == "Wake up: Disk full on db-1"
    assert "you are paged at level 1" in shown.text, "the default text"
    assert shown.sms.startswith("☃ Disk full on db-1")
    assert shown.sms_segments == 1
    assert [(each.field, each.line, each.column) for each in shown.warnings] == [
        ("voice", 1, 12),
        ("sms", 1, 6),
        ("sms", 0, 0),
    ]
    assert "Tocsin: critical incident: Disk full on db-1." in shown.voice
    assert not await org.world.admin.fetch("SELECT FROM templates"), "a preview keeps nothing"


async def test_a_preview_shows_what_is_told_of_a_shift(org: Organisation) -> None:
    template = pb.Template(
        type=notification_pb2.NOTIFICATION_TYPE_MESSAGE,
        language="de",
        subject="{{ notice }}: {% for shift in shifts %}{{ shift.schedule }} bis {{ shift.end }}{% endfor %}",
    )
    request = pb.PreviewTemplateRequest(template=template, shift_notice=shift_pb2.SHIFT_NOTICE_HAND_OVER)
    shown = await org.call("PreviewTemplate", request)
    assert shown.subject == "hand_over: Web bis Do 8. Jan 09:00"
    whole = pb.Template(type=notification_pb2.NOTIFICATION_TYPE_MESSAGE, text="{{ shifts }}")
    request.template.CopyFrom(whole)
    written = (await org.call("PreviewTemplate", request)).text
    assert "Web" in written
    assert "{" not in written, "the line of the default text"
    request.template.CopyFrom(template)
    assert "1 Vorfall ist offen:\n- Disk full on db-1 (kritisch, offen, seit" in shown.text, "the default text"
    request.template.type = PAGED
    code, why = await refused(org.call("PreviewTemplate", request))
    assert (code, "shift_notice" in why) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    about = pb.PreviewTemplateRequest(
        template=template, shift_notice=shift_pb2.SHIFT_NOTICE_BEFORE, incident=f"incidents/{new_id()}"
    )
    assert (await refused(org.call("PreviewTemplate", about)))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_preview_of_an_incident_does_not_show_its_reminder_instead(org: Organisation) -> None:
    reminded, paged = new_id(), new_id()
    await org.page(incident=paged)
    for incident in (reminded, paged):
        reminder = job(
            org.org,
            incident,
            type=notification_pb2.NOTIFICATION_TYPE_MESSAGE,
            text="Look at it.",
            actor="users/ops",
            reminder=notification_pb2.ReminderContent(title="Disk full on db-1"),
        )
        reminder.title = "Reminder: Disk full on db-1"
        await org.notify.submit(reminder)
        request = pb.PreviewTemplateRequest(template=pb.Template(type=PAGED), incident=f"incidents/{incident}")
        shown = await org.call("PreviewTemplate", request)
        assert shown.subject == "[critical] Disk full on db-1 (level 1)"
        assert "users/ops" not in shown.text


async def test_a_preview_of_a_page_does_not_say_that_whoever_acknowledged_asks_for_its_user(org: Organisation) -> None:
    incident = new_id()
    told = job(org.org, incident, type=notification_pb2.NOTIFICATION_TYPE_ACKNOWLEDGMENT, actor="users/cleo")
    await org.notify.submit(told)
    request = pb.PreviewTemplateRequest(template=pb.Template(type=PAGED), incident=f"incidents/{incident}")
    shown = await org.call("PreviewTemplate", request)
    assert "A new incident: you are paged" in shown.text
    assert "cleo" not in f"{shown.text} {shown.sms} {shown.chat} {shown.voice}"
    request.template.type = notification_pb2.NOTIFICATION_TYPE_ACKNOWLEDGMENT
    assert "acknowledged by users/cleo" in (await org.call("PreviewTemplate", request)).text


async def test_people_read_the_language_that_they_or_their_organisation_chose(org: Organisation) -> None:
    async def choose(user: str, language: str) -> None:
        settings = contact_pb.NotificationSettings(user=user, language=language)
        request = contact_pb.UpdateNotificationSettingsRequest(notification_settings=settings)
        await org.notify.contacts.UpdateNotificationSettings(request, metadata=org.who)

    await choose("users/*", "de")
    mail = await org.page()
    assert mail.subject == "[kritisch] Disk full on db-1 (Stufe 1)"
    assert "Ein neuer Vorfall: Sie werden auf Stufe 1 alarmiert." in text_of(mail)
    test = contact_pb.SendTestPageRequest(user="users/ana", contact_method=f"contactMethods/{org.method}")
    await org.notify.contacts.SendTestPage(test, metadata=org.who)
    await until(lambda: any(each.subject == "[Test] Tocsin kann Sie so erreichen" for each in org.world.inbox.messages))
    await org.write(subject="Alle: {{ incident.title }}")
    await org.write(subject="Deutsch: {{ incident.title }}", language="de")
    assert (await org.page()).subject == "Deutsch: Disk full on db-1"
    await choose("users/ana", "en")
    mail = await org.page()
    assert mail.subject == "Alle: Disk full on db-1"
    assert "you are paged at level 1" in text_of(mail)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_what_cannot_be_used_is_refused_with_its_place(org: Organisation) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    code, why = await refused(org.write(text="Hello\n{% if level %}{{ incident.tilte }}{% endif %}"))
    assert (code, "template.text: line 2, column 18: there is no 'incident.tilte'" in why) == (invalid, True), why
    code, why = await refused(org.write(sms="{{ incident.title | truncate: 'x' }}"))
    assert (code, "template.sms: line 1, column 21" in why) == (invalid, True), why
    assert (await refused(org.write()))[0] is invalid, "a template says something"
    assert (await refused(org.write(type=notification_pb2.NOTIFICATION_TYPE_VERIFICATION, text="x")))[0] is invalid
    made = await org.write(subject=SUBJECT)
    assert (await refused(org.write(subject="Another")))[0] is grpc.StatusCode.ALREADY_EXISTS
    stale = pb.Template(name=made.name, etag="v7", subject="x")
    assert (await refused(org.call("UpdateTemplate", pb.UpdateTemplateRequest(template=stale))))[
        0
    ] is grpc.StatusCode.ABORTED
    broken = pb.Template(name=made.name, subject="{{")
    assert (await refused(org.call("UpdateTemplate", pb.UpdateTemplateRequest(template=broken))))[0] is invalid
    unknown = pb.GetTemplateRequest(name=f"templates/{new_id()}")
    assert (await refused(org.call("GetTemplate", unknown)))[0] is grpc.StatusCode.NOT_FOUND


async def test_a_tenant_keeps_so_many_bytes_and_no_more(org: Organisation) -> None:
    types = [number for number in notification_pb2.NotificationType.values() if number not in (0, 6, 8, 11)]
    full = [org.write(type=number, language=language, text="x" * 8192) for number in types for language in ("", "de")]
    outcomes = [await _outcome(each) for each in full]
    assert outcomes[:8] == [None] * 8
    assert set(outcomes[8:]) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len((await org.call("ListTemplates", pb.ListTemplatesRequest())).templates) == 8


async def _outcome(call: Any) -> grpc.StatusCode | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None
