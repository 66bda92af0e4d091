"""NotificationService: decode, call one use case, encode."""

from collections.abc import Sequence
from typing import Any, Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1 import notification_service_pb2 as pb
from tocsin.notify.v1 import notification_service_pb2_grpc as pb_grpc
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import once
from tocsin_kit.errors import not_found
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.call import current_call, tenant
from tocsin_kit.rpc.listing import FEW_ROWS, listed
from tocsin_kit.rpc.paging import PageTokens

from tocsin_notify.app.delivery.redrive import Redrive
from tocsin_notify.rpc import mapping
from tocsin_notify.store.delivery import dead_letters, reads
from tocsin_notify.store.delivery.dead_letters import DeadLetterHead
from tocsin_notify.store.delivery.rows import Shown

_LETTERS: Final = "deadLetters"


class NotificationService(pb_grpc.NotificationServiceServicer):
    """The state of pages. Dead letters of all tenants, including unreadable ones, are shown to all-tenant credentials."""

    def __init__(self, db: Database, redrive: Redrive, pages: PageTokens) -> None:
        self._db = db
        self._redrive = redrive
        self._pages = pages

    async def GetNotification(self, request: pb.GetNotificationRequest, context: Any) -> pb.GetNotificationResponse:
        """See the contract."""
        id = parse_uuid_name(request.name, "notifications")
        async with self._db.transaction(tenant()) as tx:
            found = await reads.notification(tx, id)
        if found is None:
            raise not_found(ErrorReason.ERROR_REASON_NOTIFICATION_NOT_FOUND, request.name)
        return pb.GetNotificationResponse(notification=mapping.notification_to(*found))

    async def ListNotifications(
        self, request: pb.ListNotificationsRequest, context: Any
    ) -> pb.ListNotificationsResponse:
        """See the contract."""
        wanted = reads.Filter(
            incident=parse_uuid_name(request.incident, "incidents", field="incident") if request.incident else None,
            user=request.user,
            states=[mapping.STATES[state] for state in request.states],
            page=parse_uuid_name(request.page, "pages", field="page") if request.page else None,
        )

        async def read(before: Any, limit: int) -> Sequence[Shown]:
            async with self._db.transaction(tenant()) as tx:
                return await reads.notifications(tx, wanted, before, limit)

        found, token = await listed(
            self._pages, request, mapping.LAST, read, mapping.notification_to, mapping.place, portion=FEW_ROWS
        )
        return pb.ListNotificationsResponse(notifications=found, next_page_token=token)

    async def ListDeadLetters(self, request: pb.ListDeadLettersRequest, context: Any) -> pb.ListDeadLettersResponse:
        """See the contract."""

        async def read(before: Any, limit: int) -> Sequence[DeadLetterHead]:
            async with self._db.transaction(current_call().org_id) as tx:
                return await reads.dead_letters(
                    tx, user=request.user, redriven=request.include_redriven, before=before, limit=limit
                )

        letters, token = await listed(
            self._pages, request, mapping.LAST, read, mapping.dead_letter_to, mapping.place, portion=FEW_ROWS
        )
        return pb.ListDeadLettersResponse(dead_letters=letters, next_page_token=token)

    async def GetDeadLetter(self, request: pb.GetDeadLetterRequest, context: Any) -> pb.GetDeadLetterResponse:
        """See the contract."""
        id = parse_uuid_name(request.name, _LETTERS)
        async with self._db.transaction(current_call().org_id) as tx:
            row = await dead_letters.read(tx, id)
        if row is None:
            raise not_found(ErrorReason.ERROR_REASON_DEAD_LETTER_NOT_FOUND, request.name)
        return pb.GetDeadLetterResponse(dead_letter=mapping.dead_letter_to(row))

    async def RedriveDeadLetters(
        self, request: pb.RedriveDeadLettersRequest, context: Any
    ) -> pb.RedriveDeadLettersResponse:
        """See the contract."""
        ids = [parse_uuid_name(name, _LETTERS, field=f"names[{index}]") for index, name in enumerate(request.names)]

        async def work(tx: Tx) -> pb.RedriveDeadLettersResponse:
            async def redrive() -> pb.RedriveDeadLettersResponse:
                found = await self._redrive(tx, ids)
                return pb.RedriveDeadLettersResponse(
                    redriven=[f"{_LETTERS}/{id}" for id in ids if id in found],
                    not_found=[f"{_LETTERS}/{id}" for id in ids if id not in found],
                )

            return await once(tx, "RedriveDeadLetters", request, pb.RedriveDeadLettersResponse, redrive)

        return await self._db.run(current_call().org_id, work)
