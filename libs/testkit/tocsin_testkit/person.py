"""A person who can be paged."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import incident_service_pb2
from tocsin.notify.v1 import contact_service_pb2, notification_pb2

from tocsin_testkit.inbox import PATIENCE
from tocsin_testkit.installation import Installation
from tocsin_testkit.received import Received
from tocsin_testkit.twilio import Call


class Person:
    """A user with contact methods at servers of the test."""

    def __init__(self, world: Installation, org_id: str, id: str) -> None:
        self.world = world
        self.org_id = org_id
        self.id = id
        self.name = f"users/{id}"
        self.addresses: list[str] = []
        self.methods: list[str] = []
        self.webhook_secret = ""
        self.webhook_key_id = ""
        self.own = world.clients(org_id, subject=self.name)

    async def adds_webhook(self, path: str = "", *, verify: bool = True) -> str:
        """One more webhook: its `contactMethods/{uuid}`."""
        path = path or f"{self.org_id}/{self.id}/{len(self.methods)}"
        url = self.world.hooks.url(path)
        method = contact_service_pb2.ContactMethod(user=self.name, webhook=contact_service_pb2.WebhookContact(url=url))
        response = await self._add(path, method, verify)
        self.webhook_secret = response.contact_method.webhook.secret
        self.webhook_key_id = response.contact_method.webhook.key_id
        return str(response.contact_method.name)

    async def adds_email(self, address: str = "", *, verify: bool = True) -> str:
        """One more e-mail address: its `contactMethods/{uuid}`."""
        address = address or f"{self.id}.{len(self.methods)}@{self.org_id}.example"
        method = contact_service_pb2.ContactMethod(
            user=self.name, email=contact_service_pb2.EmailContact(address=address)
        )
        return str((await self._add(address, method, verify)).contact_method.name)

    async def adds_phone(self, number: str, *, call: bool = False) -> str:
        """One more number, to be texted or called: its `contactMethods/{uuid}`."""
        if call:
            voice = contact_service_pb2.VoiceContact(number=number)
            method = contact_service_pb2.ContactMethod(user=self.name, voice=voice)
        else:
            sms = contact_service_pb2.SmsContact(number=number)
            method = contact_service_pb2.ContactMethod(user=self.name, sms=sms)
        return str((await self._add(number, method, verify=True)).contact_method.name)

    async def is_called(self) -> Call:
        """Their phone rings; each call of this takes one more."""
        message = await self._gets(lambda m: m.channel == "voice" and not m.code, "call", "", PATIENCE)
        return next(call for call in self.world.phones.calls if call.sid == message.key)

    async def is_texted(self) -> Received:
        """A text message arrives."""
        return await self._gets(lambda m: m.channel == "sms" and not m.code, "text message", "", PATIENCE)

    async def is_answered(self) -> Received:
        """A mail that answers a reply of theirs arrives."""
        return await self._gets(lambda m: m.subject.startswith("Re: "), "answer", "", PATIENCE)

    async def wants(self, *rules: tuple[str, str, float]) -> None:
        """Rules: (`high` or `low`, contact method, minutes after the page)."""
        message = contact_service_pb2.NotificationRules(
            user=self.name,
            rules=[
                contact_service_pb2.NotificationRule(
                    urgency=notification_pb2.Urgency.Value(f"URGENCY_{urgency.upper()}"),
                    contact_method=method,
                    delay=Duration(seconds=round(minutes * 60)),
                )
                for urgency, method, minutes in rules
            ],
        )
        request = contact_service_pb2.UpdateNotificationRulesRequest(notification_rules=message)
        await self.own.contacts.UpdateNotificationRules(request)

    async def is_paged(
        self, incident: str, *, level: int | None = None, at: str = "", patience: float = PATIENCE
    ) -> Received:
        """Their phone rings for this incident; each call takes one page more. `at`: at this address."""
        return await self._gets(
            lambda m: m.is_page and m.incident == incident and level in (None, m.level), "page", at, patience
        )

    async def is_told(self, incident: str, kind: str) -> Received:
        """They hear news: `acknowledgment`, `resolution`, or a `message`."""
        return await self._gets(lambda m: m.kind == kind and m.incident == incident, kind, "", PATIENCE)

    async def gets_test(self) -> Received:
        """A test page arrives."""
        return await self._gets(lambda m: m.kind == "test", "test", "", PATIENCE)

    def pages(self, incident: str) -> list[Received]:
        """Every page for this incident that reached them so far."""
        return [
            m for m in self.world.inbox.messages if m.address in self.addresses and m.is_page and m.incident == incident
        ]

    def told(self, incident: str, kind: str) -> list[Received]:
        """Everything of a kind about this incident that reached them so far."""
        messages = self.world.inbox.messages
        return [m for m in messages if m.address in self.addresses and m.kind == kind and m.incident == incident]

    async def acknowledges(self, incident: str, **fields: Any) -> incident_service_pb2.AcknowledgeIncidentResponse:
        """They press the button."""
        request = incident_service_pb2.AcknowledgeIncidentRequest(name=incident, **fields)
        return await self.own.incidents.AcknowledgeIncident(request)  # type: ignore[no-any-return]

    async def resolves(self, incident: str) -> incident_service_pb2.ResolveIncidentResponse:
        """They say it is over."""
        request = incident_service_pb2.ResolveIncidentRequest(name=incident)
        return await self.own.incidents.ResolveIncident(request)  # type: ignore[no-any-return]

    async def _gets(self, fits: Any, what: str, at: str, patience: float) -> Received:
        inbox = self.world.inbox
        message = await inbox.wait_for(
            lambda m: m.address in ([at] if at else self.addresses) and not inbox.is_expected(m) and fits(m),
            f"a {what} for {self.name}",
            patience,
        )
        return inbox.expect(message)

    async def _add(
        self, address: str, method: contact_service_pb2.ContactMethod, verify: bool
    ) -> contact_service_pb2.CreateContactMethodResponse:
        self.addresses.append(address)
        request = contact_service_pb2.CreateContactMethodRequest(contact_method=method)
        response = await self.own.contacts.CreateContactMethod(request)
        name = response.contact_method.name
        self.methods.append(name)
        if verify:
            await self.own.contacts.SendVerificationCode(contact_service_pb2.SendVerificationCodeRequest(name=name))
            code = await self.world.inbox.wait_for(
                lambda m: m.address == address and m.kind == "verification", f"a code for {address}"
            )
            verification = contact_service_pb2.VerifyContactMethodRequest(name=name, code=code.code)
            await self.own.contacts.VerifyContactMethod(verification)
        return response  # type: ignore[no-any-return]
