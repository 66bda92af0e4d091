"""MessageService: decode, call one use case, encode."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from tocsin.notify.v1 import message_service_pb2 as pb
from tocsin.notify.v1 import message_service_pb2_grpc as pb_grpc
from tocsin_kit.db.group_commit import GroupCommit
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import current_call, tenant
from tocsin_kit.rpc.listing import Position, listed
from tocsin_kit.rpc.masks import apply_update_mask
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.validation import validate

from tocsin_notify.app.messages.about import is_incident, missing_incidents, require_incident
from tocsin_notify.app.messages.groups import missing_groups, require_group
from tocsin_notify.app.messages.messages import MessageInput, Messages, find, steps_of
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.domain.message import Step
from tocsin_notify.rpc import mapping, message_mapping
from tocsin_notify.store.delivery import reads
from tocsin_notify.store.messages import groups
from tocsin_notify.store.messages import messages as store
from tocsin_notify.store.messages.messages import Message

WRITABLE: Final = (
    "user",
    "address",
    "team",
    "schedule",
    "subject",
    "text",
    "about",
    "urgency",
    "send_time",
    "local_time",
    "expire_after",
)
_COLLECTION: Final = "messages"
_MOST_STEPS: Final = 100
_MOST_RECEIVERS: Final = 500


class MessageService(pb_grpc.MessageServiceServicer):
    """Messages to people, at once or at a time."""

    def __init__(self, db: Database, messages: Messages, pages: PageTokens, escalation: Escalation) -> None:
        self._db = db
        self._once = ApplyOnce(db)
        self._escalation = escalation
        self._messages = messages
        self._pages = pages
        self._sent = GroupCommit(db, "SendMessage", pb.SendMessageResponse, self._send)
        self._cancelled = GroupCommit(db, "CancelMessage", pb.CancelMessageResponse, self._cancel)

    async def SendMessage(self, request: pb.SendMessageRequest, context: Any) -> pb.SendMessageResponse:
        """See the contract."""
        org_id, sender = tenant(), current_call().subject
        given = message_mapping.sent_from(request.message)
        if given.content.group or is_incident(given.content.about):
            done = await self._once.answered("SendMessage", request, pb.SendMessageResponse)
            if done is not None:
                return done
            await require_incident(self._escalation, org_id, given.content.about)
            if given.content.group:
                await require_group(self._db, self._escalation, org_id, given.content.group)
        return await self._sent.once_together(request, (given, sender))

    async def BatchSendMessages(
        self, request: pb.BatchSendMessagesRequest, context: Any
    ) -> pb.BatchSendMessagesResponse:
        """See the contract."""
        org_id, sender = tenant(), current_call().subject
        done = await self._once.answered("BatchSendMessages", request, pb.BatchSendMessagesResponse)
        if done is not None:
            return done
        asked = list(map(message_mapping.try_sent_from, request.messages))
        groups = {each.content.group: None for each in asked if isinstance(each, MessageInput) and each.content.group}
        missing = await missing_groups(self._db, self._escalation, org_id, list(groups))
        about = [each.content.about for each in asked if isinstance(each, MessageInput)]
        missing |= await missing_incidents(self._escalation, org_id, about)
        checked = [_checked(each, missing) if isinstance(each, MessageInput) else each for each in asked]
        wanted = [(each, sender) for each in checked if isinstance(each, MessageInput)]

        async def send(tx: Tx) -> pb.BatchSendMessagesResponse:
            made = iter(await self._messages.send(tx, wanted))
            answers = [next(made) if isinstance(each, MessageInput) else each for each in checked]
            return pb.BatchSendMessagesResponse(results=map(message_mapping.sent_to, answers))

        return await self._once("BatchSendMessages", request, pb.BatchSendMessagesResponse, send)

    async def GetMessage(self, request: pb.GetMessageRequest, context: Any) -> pb.GetMessageResponse:
        """See the contract."""
        id = parse_uuid_name(request.name, _COLLECTION)
        async with self._db.transaction(tenant()) as tx:
            row = await find(tx, id)
            steps = (await steps_of(tx, [row]))[id]
            receivers = await groups.receivers(tx, id, _MOST_RECEIVERS) if row.group else ()
            made = await reads.notifications(tx, reads.Filter(page=id), mapping.LAST, _MOST_STEPS)
            attempts = await reads.attempts_of(tx, [each.id for each in made])
        return pb.GetMessageResponse(
            message=message_mapping.message_to(row, steps),
            notifications=[mapping.notification_to(each, attempts.get(each.id, ())) for each in reversed(made)],
            receivers=receivers,
        )

    async def ListMessages(self, request: pb.ListMessagesRequest, context: Any) -> pb.ListMessagesResponse:
        """See the contract."""
        end = mapping.FIRST if request.scheduled else mapping.LAST
        rows_of = store.upcoming if request.scheduled else store.latest
        parent = parse_uuid_name(request.parent, _COLLECTION, field="parent") if request.parent else None
        which = store.Filter(request.user, parent)

        async def read(beyond: Any, limit: int) -> Sequence[tuple[Message, Sequence[Step]]]:
            async with self._db.transaction(tenant()) as tx:
                rows = await rows_of(tx, which, beyond, limit)
                steps = await steps_of(tx, rows)
            return [(row, steps[row.id]) for row in rows]

        def place(told: tuple[Message, Sequence[Step]]) -> Position:
            return told[0].send_time, told[0].id

        messages, token = await listed(
            self._pages, request, end, read, lambda told: message_mapping.message_to(*told), place
        )
        return pb.ListMessagesResponse(messages=messages, next_page_token=token)

    async def UpdateMessage(self, request: pb.UpdateMessageRequest, context: Any) -> pb.UpdateMessageResponse:
        """See the contract."""
        given = request.message
        id = parse_uuid_name(given.name, _COLLECTION, field="message.name")
        paths, to = request.update_mask.paths, given.WhichOneof("to")
        if to in ("team", "schedule") and (not paths or to in paths):
            group = given.team or given.schedule
            validate(
                pb.Message(team=given.team, text="-") if given.team else pb.Message(schedule=group, text="-"), "message"
            )
            if await self._once.answered("UpdateMessage", request, pb.UpdateMessageResponse) is None:
                await require_group(self._db, self._escalation, tenant(), group)

        if is_incident(given.about) and (not paths or "about" in paths):
            validate(pb.Message(user="users/a", text="-", about=given.about), "message")
            if await self._once.answered("UpdateMessage", request, pb.UpdateMessageResponse) is None:
                await require_incident(self._escalation, tenant(), given.about)

        def change(before: Message) -> MessageInput:
            merged = message_mapping.message_to(before, ())
            written = apply_update_mask(merged, given, request.update_mask, writable=WRITABLE)
            heads = {path.partition(".")[0] for path in written}
            if {"send_time", "local_time"} <= heads and given.HasField("send_time") and given.HasField("local_time"):
                raise invalid("message.local_time", "must not be set together with send_time; give one of them")
            if "send_time" in heads and given.HasField("send_time"):
                merged.ClearField("local_time")
            validate(merged, "message")
            return message_mapping.given_from(merged)

        async def update(tx: Tx) -> pb.UpdateMessageResponse:
            row = await self._messages.update(tx, id, given.etag, change)
            return pb.UpdateMessageResponse(message=message_mapping.message_to(row, ()))

        return await self._once("UpdateMessage", request, pb.UpdateMessageResponse, update)

    async def CancelMessage(self, request: pb.CancelMessageRequest, context: Any) -> pb.CancelMessageResponse:
        """See the contract."""
        tenant()
        id = parse_uuid_name(request.name, _COLLECTION)
        return await self._cancelled.once_together(request, (id, current_call().subject))

    async def BatchCancelMessages(
        self, request: pb.BatchCancelMessagesRequest, context: Any
    ) -> pb.BatchCancelMessagesResponse:
        """See the contract."""
        by = current_call().subject
        wanted = [
            (parse_uuid_name(name, _COLLECTION, field=f"names[{place}]"), by)
            for place, name in enumerate(request.names)
        ]

        async def cancel(tx: Tx) -> pb.BatchCancelMessagesResponse:
            answers = await self._messages.cancel(tx, wanted)
            results = map(message_mapping.cancel_result_to, request.names, answers)
            return pb.BatchCancelMessagesResponse(results=results)

        return await self._once("BatchCancelMessages", request, pb.BatchCancelMessagesResponse, cancel)

    async def _send(
        self, tx: Tx, wanted: Sequence[tuple[MessageInput, str]]
    ) -> list[pb.SendMessageResponse | TocsinError]:
        return [
            each
            if isinstance(each, TocsinError)
            else pb.SendMessageResponse(message=message_mapping.message_to(each, ()))
            for each in await self._messages.send(tx, wanted)
        ]

    async def _cancel(self, tx: Tx, wanted: Sequence[tuple[UUID, str]]) -> list[pb.CancelMessageResponse | TocsinError]:
        return [
            each if isinstance(each, TocsinError) else message_mapping.cancelled_to(each)
            for each in await self._messages.cancel(tx, wanted)
        ]


def _checked(given: MessageInput, missing: Mapping[str, TocsinError]) -> MessageInput | TocsinError:
    return missing.get(given.content.group) or missing.get(given.content.about) or given
