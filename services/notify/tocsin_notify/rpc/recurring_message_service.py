"""RecurringMessageService: decode, call one use case, encode."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from tocsin.notify.v1 import message_service_pb2
from tocsin.notify.v1 import recurring_message_service_pb2 as pb
from tocsin.notify.v1 import recurring_message_service_pb2_grpc as pb_grpc
from tocsin.notify.v1.notification_pb2 import URGENCY_UNSPECIFIED
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import invalid
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import current_call, tenant
from tocsin_kit.rpc.listing import listed
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.timestamps import duration, timestamp

from tocsin_notify.app.messages import recurring
from tocsin_notify.app.messages.about import is_incident, require_incident
from tocsin_notify.app.messages.groups import require_group
from tocsin_notify.app.messages.recurring import RecurringMessages
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.domain.recurrence import RecurringState
from tocsin_notify.rpc import mapping, message_mapping
from tocsin_notify.store.messages import recurring as store
from tocsin_notify.store.messages.recurring import Recurring

_COLLECTION: Final = "recurringMessages"
_STATES: Final = {
    state: pb.RecurringMessageState.Value(f"RECURRING_MESSAGE_STATE_{state.name}") for state in RecurringState
}


class RecurringMessageService(pb_grpc.RecurringMessageServiceServicer):
    """Messages that are sent again and again."""

    def __init__(self, db: Database, messages: RecurringMessages, pages: PageTokens, escalation: Escalation) -> None:
        self._db = db
        self._once = ApplyOnce(db)
        self._escalation = escalation
        self._messages = messages
        self._pages = pages

    async def CreateRecurringMessage(
        self, request: pb.CreateRecurringMessageRequest, context: Any
    ) -> pb.CreateRecurringMessageResponse:
        """See the contract."""
        for field in ("send_time", "local_time"):
            if request.message.HasField(field):
                raise invalid(f"message.{field}", "must not be set: `start` and `rule` say when it is sent")
        given, sender = message_mapping.given_from(request.message), current_call().subject
        start = request.start.date_time, request.start.time_zone
        if given.content.group or is_incident(given.content.about):
            done = await self._once.answered("CreateRecurringMessage", request, pb.CreateRecurringMessageResponse)
            if done is not None:
                return done
            await require_incident(self._escalation, tenant(), given.content.about)
            if given.content.group:
                await require_group(self._db, self._escalation, tenant(), given.content.group)

        async def create(tx: Tx) -> pb.CreateRecurringMessageResponse:
            made = await self._messages.create(tx, given, start, request.rule, sender)
            return pb.CreateRecurringMessageResponse(recurring_message=recurring_to(made))

        return await self._once("CreateRecurringMessage", request, pb.CreateRecurringMessageResponse, create)

    async def GetRecurringMessage(
        self, request: pb.GetRecurringMessageRequest, context: Any
    ) -> pb.GetRecurringMessageResponse:
        """See the contract."""
        async with self._db.transaction(tenant()) as tx:
            row = await recurring.find(tx, parse_uuid_name(request.name, _COLLECTION))
        return pb.GetRecurringMessageResponse(recurring_message=recurring_to(row))

    async def ListRecurringMessages(
        self, request: pb.ListRecurringMessagesRequest, context: Any
    ) -> pb.ListRecurringMessagesResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[Recurring]:
            async with self._db.transaction(tenant()) as tx:
                return await store.page(tx, after, limit)

        found, token = await listed(self._pages, request, mapping.FIRST, read, recurring_to, mapping.place)
        return pb.ListRecurringMessagesResponse(recurring_messages=found, next_page_token=token)

    async def PauseRecurringMessage(
        self, request: pb.PauseRecurringMessageRequest, context: Any
    ) -> pb.PauseRecurringMessageResponse:
        """See the contract."""
        id = parse_uuid_name(request.name, _COLLECTION)

        async def pause(tx: Tx) -> pb.PauseRecurringMessageResponse:
            return pb.PauseRecurringMessageResponse(recurring_message=recurring_to(await recurring.pause(tx, id)))

        return await self._once("PauseRecurringMessage", request, pb.PauseRecurringMessageResponse, pause)

    async def ResumeRecurringMessage(
        self, request: pb.ResumeRecurringMessageRequest, context: Any
    ) -> pb.ResumeRecurringMessageResponse:
        """See the contract."""
        id = parse_uuid_name(request.name, _COLLECTION)

        async def resume(tx: Tx) -> pb.ResumeRecurringMessageResponse:
            return pb.ResumeRecurringMessageResponse(recurring_message=recurring_to(await recurring.resume(tx, id)))

        return await self._once("ResumeRecurringMessage", request, pb.ResumeRecurringMessageResponse, resume)

    async def EndRecurringMessage(
        self, request: pb.EndRecurringMessageRequest, context: Any
    ) -> pb.EndRecurringMessageResponse:
        """See the contract."""
        id, by = parse_uuid_name(request.name, _COLLECTION), current_call().subject

        async def end(tx: Tx) -> pb.EndRecurringMessageResponse:
            return pb.EndRecurringMessageResponse(recurring_message=recurring_to(await recurring.end(tx, id, by)))

        return await self._once("EndRecurringMessage", request, pb.EndRecurringMessageResponse, end)


def recurring_to(row: Recurring) -> pb.RecurringMessage:
    """A recurring message for the contract."""
    message = message_service_pb2.Message(
        subject=row.subject,
        text=row.body,
        about=row.about,
        urgency=mapping.URGENCIES_OF.get(row.urgency, URGENCY_UNSPECIFIED),
        expire_after=duration(None if row.expire_seconds is None else timedelta(seconds=row.expire_seconds)),
        sender=row.sender,
    )
    message_mapping.set_receiver(message, row.user_id, row.channel, row.address)
    return pb.RecurringMessage(
        name=f"{_COLLECTION}/{row.id}",
        message=message,
        start=message_service_pb2.LocalTime(date_time=row.start_time, time_zone=row.time_zone),
        rule=row.rule,
        state=_STATES.get(row.state, pb.RECURRING_MESSAGE_STATE_UNSPECIFIED),
        state_reason=row.state_reason,
        next_time=timestamp(row.next_time),
        sent_count=row.sent_count,
        latest_message=f"messages/{row.latest_message}" if row.latest_message else "",
        create_time=timestamp(row.create_time),
    )
