"""ContactService: decode, call one use case, encode."""

from collections.abc import Sequence
from typing import Any, Final

from tocsin.notify.v1 import contact_service_pb2 as pb
from tocsin.notify.v1 import contact_service_pb2_grpc as pb_grpc
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.db.requests import once
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import current_call, note_before, tenant
from tocsin_kit.rpc.listing import listed
from tocsin_kit.rpc.masks import apply_update_mask, update_paths
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.timestamps import timestamp
from tocsin_kit.rpc.validation import validate

from tocsin_notify.app.contacts.code_limits import CodeLimits
from tocsin_notify.app.contacts.contacts import KEPT, ContactInput, Contacts, Owners, find
from tocsin_notify.app.contacts.notification_settings import read_effective, replace_settings
from tocsin_notify.app.contacts.owner_notices import OwnerNotices
from tocsin_notify.app.contacts.rules import replace_rules
from tocsin_notify.app.contacts.verify import send_code, take_code
from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.delivery.slots import NOTIFICATIONS
from tocsin_notify.app.pages.send_test import send_test
from tocsin_notify.domain.bundling import BundlePolicy
from tocsin_notify.domain.notification_settings import EVERYBODY
from tocsin_notify.domain.page import Channel, Urgency
from tocsin_notify.rpc import mapping
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.store.contacts import contacts as store
from tocsin_notify.store.contacts import notification_settings, rules
from tocsin_notify.store.contacts.contacts import Contact

WRITABLE: Final = ("display_name", *Channel, "disabled")
_COLLECTION: Final = "contactMethods"
_SCOPE: Final = "contacts:write"


class ContactService(pb_grpc.ContactServiceServicer):
    """How people want to be reached."""

    def __init__(
        self,
        db: Database,
        contacts: Contacts,
        cipher: Cipher,
        hints: Hints,
        pages: PageTokens,
        budgets: Budgets,
        notices: OwnerNotices,
        bundling: BundlePolicy,
        limits: CodeLimits,
    ) -> None:
        """`bundling`: for users who have chosen nothing."""
        self._db = db
        self._once = ApplyOnce(db)
        self._contacts = contacts
        self._cipher = cipher
        self._hints = hints
        self._limits = limits
        self._pages = pages
        self._budgets = budgets
        self._notices = notices
        self._bundling = bundling

    async def CreateContactMethod(
        self, request: pb.CreateContactMethodRequest, context: Any
    ) -> pb.CreateContactMethodResponse:
        """See the contract. The stored answer for repeats holds no secret, so a repeat gets none."""
        may, by = _caller()
        may(request.contact_method.user)
        await self._contacts.vet(tenant(), mapping.given_from(request.contact_method))

        async def work(tx: Tx) -> pb.CreateContactMethodResponse:
            secret = ""

            async def create() -> pb.CreateContactMethodResponse:
                nonlocal secret
                await require_room(tx, "contact_methods", self._budgets, where=KEPT)
                contact = await self._contacts.create(tx, mapping.given_from(request.contact_method), by)
                secret = self._contacts.reveal(tx.org_id, contact)
                return pb.CreateContactMethodResponse(contact_method=mapping.contact_to(contact))

            response = await once(tx, "CreateContactMethod", request, pb.CreateContactMethodResponse, create)
            if secret:
                response.contact_method.webhook.secret = secret
            return response

        return await self._db.run(tenant(), work)

    async def GetContactMethod(self, request: pb.GetContactMethodRequest, context: Any) -> pb.GetContactMethodResponse:
        """See the contract."""
        async with self._db.transaction(tenant()) as tx:
            contact = await find(tx, parse_uuid_name(request.name, _COLLECTION))
        return pb.GetContactMethodResponse(contact_method=mapping.contact_to(contact))

    async def ListContactMethods(
        self, request: pb.ListContactMethodsRequest, context: Any
    ) -> pb.ListContactMethodsResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[Contact]:
            async with self._db.transaction(tenant()) as tx:
                return await store.page(tx, request.user, after, limit)

        found, token = await listed(self._pages, request, mapping.FIRST, read, mapping.contact_to, mapping.place)
        return pb.ListContactMethodsResponse(contact_methods=found, next_page_token=token)

    async def UpdateContactMethod(
        self, request: pb.UpdateContactMethodRequest, context: Any
    ) -> pb.UpdateContactMethodResponse:
        """See the contract."""
        may, by = _caller()
        given = request.contact_method
        id = parse_uuid_name(given.name, _COLLECTION, field="contact_method.name")
        paths = update_paths(request.update_mask, given, writable=WRITABLE)
        if given.WhichOneof("kind") in {path.partition(".")[0] for path in paths}:
            await self._contacts.vet(tenant(), mapping.given_from(given))

        def change(before: Contact) -> ContactInput:
            merged = mapping.contact_to(before)
            apply_update_mask(merged, given, request.update_mask, writable=WRITABLE)
            validate(merged, "contact_method")
            return mapping.given_from(merged)

        async def update(tx: Tx) -> pb.UpdateContactMethodResponse:
            contact = await self._contacts.update(tx, id, given.etag, change, may, by)
            return pb.UpdateContactMethodResponse(contact_method=mapping.contact_to(contact))

        return await self._once("UpdateContactMethod", request, pb.UpdateContactMethodResponse, update)

    async def DeleteContactMethod(
        self, request: pb.DeleteContactMethodRequest, context: Any
    ) -> pb.DeleteContactMethodResponse:
        """See the contract."""
        may, by = _caller()

        async def delete(tx: Tx) -> pb.DeleteContactMethodResponse:
            contact = await self._contacts.delete(tx, parse_uuid_name(request.name, _COLLECTION), request.etag, may, by)
            note_before(mapping.contact_to(contact))
            return pb.DeleteContactMethodResponse()

        return await self._once("DeleteContactMethod", request, pb.DeleteContactMethodResponse, delete)

    async def SendVerificationCode(
        self, request: pb.SendVerificationCodeRequest, context: Any
    ) -> pb.SendVerificationCodeResponse:
        """See the contract."""
        may, _ = _caller()
        id = parse_uuid_name(request.name, _COLLECTION)

        async def send(tx: Tx) -> pb.SendVerificationCodeResponse:
            self._budgets.take(tx.org_id, NOTIFICATIONS)
            until = await send_code(tx, id, self._hints, self._limits, may)
            return pb.SendVerificationCodeResponse(expire_time=timestamp(until))

        return await self._once("SendVerificationCode", request, pb.SendVerificationCodeResponse, send)

    async def VerifyContactMethod(
        self, request: pb.VerifyContactMethodRequest, context: Any
    ) -> pb.VerifyContactMethodResponse:
        """See the contract. A wrong code commits its count before it raises, so it cannot be an idempotent answer."""
        id = parse_uuid_name(request.name, _COLLECTION)
        may, by = _caller()

        async def work(tx: Tx) -> pb.VerifyContactMethodResponse | TocsinError:
            outcome = await take_code(tx, id, request.code, self._cipher, self._notices, may, by)
            if isinstance(outcome, TocsinError):
                return outcome

            async def verified() -> pb.VerifyContactMethodResponse:
                return pb.VerifyContactMethodResponse(contact_method=mapping.contact_to(outcome))

            return await once(tx, "VerifyContactMethod", request, pb.VerifyContactMethodResponse, verified)

        answer = await self._db.run(tenant(), work)
        if isinstance(answer, TocsinError):
            raise answer
        return answer

    async def GetNotificationRules(
        self, request: pb.GetNotificationRulesRequest, context: Any
    ) -> pb.GetNotificationRulesResponse:
        """See the contract."""
        async with self._db.transaction(tenant()) as tx:
            found = await rules.read(tx, request.user)
        return pb.GetNotificationRulesResponse(notification_rules=mapping.rules_to(found))

    async def UpdateNotificationRules(
        self, request: pb.UpdateNotificationRulesRequest, context: Any
    ) -> pb.UpdateNotificationRulesResponse:
        """See the contract."""
        given = request.notification_rules
        may, by = _caller()
        may(given.user)

        async def update(tx: Tx) -> pb.UpdateNotificationRulesResponse:
            before = await rules.read(tx, given.user)
            if before.version == 0:
                await require_room(tx, "rule_sets", self._budgets)
            note_before(mapping.rules_to(before))
            after = await replace_rules(tx, given.user, mapping.rules_from(given), given.etag)
            await self._notices.rules_replaced(tx, by, given.user)
            return pb.UpdateNotificationRulesResponse(notification_rules=mapping.rules_to(after))

        return await self._once("UpdateNotificationRules", request, pb.UpdateNotificationRulesResponse, update)

    async def GetNotificationSettings(
        self, request: pb.GetNotificationSettingsRequest, context: Any
    ) -> pb.GetNotificationSettingsResponse:
        """See the contract."""
        async with self._db.transaction(tenant()) as tx:
            found, counts = await read_effective(tx, request.user, self._bundling)
        return pb.GetNotificationSettingsResponse(
            notification_settings=mapping.settings_row_to(request.user, found),
            effective=mapping.settings_to(request.user, counts),
        )

    async def UpdateNotificationSettings(
        self, request: pb.UpdateNotificationSettingsRequest, context: Any
    ) -> pb.UpdateNotificationSettingsResponse:
        """See the contract."""
        given = request.notification_settings
        may, by = _caller()
        may(given.user)

        async def update(tx: Tx) -> pb.UpdateNotificationSettingsResponse:
            before = (await notification_settings.read(tx, [given.user], lock=True)).get(given.user)
            if before is None:
                await require_room(tx, "notification_settings", self._budgets)
            note_before(mapping.settings_row_to(given.user, before))
            after = await replace_settings(tx, before, given.user, mapping.settings_from(given), given.etag)
            if given.user != EVERYBODY:
                await self._notices.settings_replaced(tx, by, given.user)
            return pb.UpdateNotificationSettingsResponse(
                notification_settings=mapping.settings_row_to(given.user, after)
            )

        return await self._once("UpdateNotificationSettings", request, pb.UpdateNotificationSettingsResponse, update)

    async def SendTestPage(self, request: pb.SendTestPageRequest, context: Any) -> pb.SendTestPageResponse:
        """See the contract."""
        may, _ = _caller()
        may(request.user)
        named = request.contact_method
        method = parse_uuid_name(named, _COLLECTION, field="contact_method") if named else None
        urgency = mapping.URGENCIES.get(request.urgency, Urgency.HIGH)

        async def send(tx: Tx) -> pb.SendTestPageResponse:
            self._budgets.take(tx.org_id, NOTIFICATIONS)
            made = await send_test(tx, request.user, method, urgency, self._hints)
            return pb.SendTestPageResponse(notifications=[f"notifications/{id}" for id in made])

        return await self._once("SendTestPage", request, pb.SendTestPageResponse, send)


def _caller() -> tuple[Owners, str]:
    """A check that raises when the caller may not change what belongs to a user; and the caller."""
    call = current_call()
    return lambda owner: call.require_own(owner, _SCOPE), call.subject
