"""OutboxService: an operator's view of messages that could not be delivered, and actions on them. One for every service."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Final

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError, Message
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.outbox.v1 import outbox_service_pb2 as pb
from tocsin.outbox.v1 import outbox_service_pb2_grpc as pb_grpc

from tocsin_kit.auth import ALL_ORGS
from tocsin_kit.db import outbox_admin, outbox_figures
from tocsin_kit.db.outbox_figures import OutboxFigures
from tocsin_kit.db.outbox_rows import StoredRow
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import once
from tocsin_kit.errors import invalid, not_found
from tocsin_kit.fresh_cache import FreshCache
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.call import current_call
from tocsin_kit.rpc.listing import listed
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.server import RpcServer
from tocsin_kit.rpc.timestamps import timestamp

_log = get_logger(__name__)

_PREFIX: Final = "outboxMessages/"
_COUNTED_ANEW_SECONDS: Final = 2.0
_Read = Callable[[Tx, Sequence[str], int, int], Awaitable[list[StoredRow]]]


class OutboxService(pb_grpc.OutboxServiceServicer):
    """See the contract."""

    def __init__(
        self,
        db: Database,
        pages: PageTokens,
        payloads: Mapping[str, type[Message]],
        nudge: Callable[[], None],
        *,
        destination: str,
        max_age: float,
    ) -> None:
        """`payloads`: the type of each kind's payload; the service knows these kinds only. `nudge` wakes the relays.
        `destination`: the service that they are delivered to. A tenant whose oldest message is older than `max_age` seconds
        counts as late."""
        self._db = db
        self._pages = pages
        self._payloads = payloads
        self._nudge = nudge
        self._destination = destination
        self._max_age = max_age
        self._counted: FreshCache[None, pb.GetOutboxResponse] = FreshCache(
            self._count, ttl=_COUNTED_ANEW_SECONDS, size=1
        )

    def add_to(self, rpc: RpcServer) -> None:
        """Serve it."""
        rpc.add(self)

    async def GetOutbox(self, request: pb.GetOutboxRequest, context: Any) -> pb.GetOutboxResponse:
        """See the contract."""
        return await self._counted.get(None)

    async def ListWaitingMessages(
        self, request: pb.ListWaitingMessagesRequest, context: Any
    ) -> pb.ListWaitingMessagesResponse:
        """See the contract."""

        async def read(tx: Tx, kinds: Sequence[str], after: int, limit: int) -> list[StoredRow]:
            return await outbox_admin.list_waiting(
                tx, kinds, after_id=after, limit=limit, org_id=request.org_id, blocked=request.blocked
            )

        messages, following = await self._page(request, read)
        return pb.ListWaitingMessagesResponse(messages=messages, next_page_token=following)

    async def ListDeadMessages(self, request: pb.ListDeadMessagesRequest, context: Any) -> pb.ListDeadMessagesResponse:
        """See the contract."""
        tenant = current_call().org_id
        if request.org_id and tenant not in (ALL_ORGS, request.org_id):
            raise invalid("org_id", "must be empty or the credential's own tenant")

        async def read(tx: Tx, kinds: Sequence[str], after: int, limit: int) -> list[StoredRow]:
            return await outbox_admin.list_dead(tx, kinds, after_id=after, limit=limit, org_id=request.org_id)

        messages, following = await self._page(request, read)
        return pb.ListDeadMessagesResponse(messages=messages, next_page_token=following)

    async def GetMessage(self, request: pb.GetMessageRequest, context: Any) -> pb.GetMessageResponse:
        """See the contract."""
        async with self._transaction() as tx:
            row = await outbox_admin.find(tx, self._payloads, _id(request.name))
            if row is None:
                raise not_found(ErrorReason.ERROR_REASON_OUTBOX_MESSAGE_NOT_FOUND, request.name)
            behind = await outbox_admin.waiting_behind(tx, self._payloads, row)
        payload_type = self._payloads[row.kind]
        response = pb.GetMessageResponse(
            message=_message(row),
            payload_type=payload_type.DESCRIPTOR.full_name,
            waiting_behind=behind.count,
            waiting_since=timestamp(behind.since),
        )
        try:
            response.payload_json = MessageToJson(
                payload_type.FromString(row.payload), preserving_proto_field_name=True, indent=None
            )
        except (DecodeError, ValueError):
            response.payload = row.payload
        return response

    async def RedriveMessages(self, request: pb.RedriveMessagesRequest, context: Any) -> pb.RedriveMessagesResponse:
        """See the contract."""

        async def work(tx: Tx) -> pb.RedriveMessagesResponse:
            async def redrive() -> pb.RedriveMessagesResponse:
                done = await outbox_admin.redrive(tx, self._payloads, [_id(name) for name in request.names])
                _log.info("outbox_redriven", ids=sorted(done), subject=current_call().subject)
                return pb.RedriveMessagesResponse(**_split(request.names, done, "redriven"))

            tx.after_commit(self._nudge)
            return await once(tx, "RedriveMessages", request, pb.RedriveMessagesResponse, redrive)

        async with self._transaction() as tx:
            return await work(tx)

    async def DiscardMessages(self, request: pb.DiscardMessagesRequest, context: Any) -> pb.DiscardMessagesResponse:
        """See the contract."""
        discarded: list[StoredRow] = []

        async def discard() -> pb.DiscardMessagesResponse:
            discarded[:] = await outbox_admin.discard(tx, self._payloads, [_id(name) for name in request.names])
            return pb.DiscardMessagesResponse(**_split(request.names, [row.id for row in discarded], "discarded"))

        async with self._transaction() as tx:
            response = await once(tx, "DiscardMessages", request, pb.DiscardMessagesResponse, discard)
        for row in discarded:
            _log.warning(
                "outbox_discarded",
                id=row.id,
                kind=row.kind,
                of_org=row.org_id,
                ordering_key=row.ordering_key,
                died_of=row.reason,
                reason=request.reason,
                subject=current_call().subject,
            )
        return response

    async def _count(self, _: None) -> pb.GetOutboxResponse:
        async with self._db.system() as tx:
            figures = await outbox_figures.figures(tx, self._payloads)
            ids = [id for each in figures.waiting for id in (each.oldest_id, each.failed_id) if id is not None]
            ids += [each.oldest_id for each in figures.blocked.values()]
            rows = await outbox_admin.find_many(tx, self._payloads, ids)
        return pb.GetOutboxResponse(backlogs=[self._backlog(kind, figures, rows) for kind in self._payloads])

    def _backlog(self, kind: str, figures: OutboxFigures, rows: Mapping[int, StoredRow]) -> pb.OutboxBacklog:
        waiting = figures.waiting_of(kind)
        backlog = pb.OutboxBacklog(
            kind=kind,
            destination=self._destination,
            waiting=sum(each.rows for each in waiting),
            failed=sum(each.failed for each in waiting),
            late_tenants=sum(each.oldest_seconds > self._max_age for each in waiting),
            dead=figures.dead.get(kind, 0),
        )
        if waiting:
            backlog.oldest_age.FromTimedelta(timedelta(seconds=max(each.oldest_seconds for each in waiting)))
            _copy(backlog.oldest, rows.get(min(each.oldest_id for each in waiting)))
        if failed := [each.failed_id for each in waiting if each.failed_id is not None]:
            oldest = rows.get(min(failed))
            backlog.error = oldest.reason if oldest is not None else ""
        if blocked := figures.blocked.get(kind):
            backlog.blocked = blocked.rows
            _copy(backlog.oldest_blocked, rows.get(blocked.oldest_id))
        return backlog

    async def _page(self, request: Any, read: _Read) -> tuple[list[pb.OutboxMessage], str]:
        """Of a list, and the token of the next one. `read`: so many of these kinds from after an id."""
        kinds = [request.kind] if request.kind in self._payloads else [] if request.kind else [*self._payloads]

        async def read_rows(after: Any, limit: int) -> Sequence[StoredRow]:
            async with self._transaction() as tx:
                return await read(tx, kinds, after[0], limit)

        return await listed(self._pages, request, (0,), read_rows, _message, lambda row: (row.id,))

    def _transaction(self) -> AbstractAsyncContextManager[Tx]:
        """Of the caller's tenant; a credential for every tenant sees all."""
        org_id = current_call().org_id
        return self._db.system() if org_id == ALL_ORGS else self._db.transaction(org_id)


def _id(name: str) -> int:
    return int(name.removeprefix(_PREFIX))


def _split(names: Sequence[str], done: Sequence[int], word: str) -> dict[str, list[str]]:
    ids = set(done)
    return {
        word: [name for name in names if _id(name) in ids],
        "not_found": [name for name in names if _id(name) not in ids],
    }


def _copy(into: pb.OutboxMessage, row: StoredRow | None) -> None:
    if row is not None:
        into.CopyFrom(_message(row))


def _message(row: StoredRow) -> pb.OutboxMessage:
    dead = row.dead_time is not None
    return pb.OutboxMessage(
        name=f"{_PREFIX}{row.id}",
        org_id=row.org_id,
        kind=row.kind,
        ordering_key=row.ordering_key,
        state=pb.OUTBOX_MESSAGE_STATE_DEAD if dead else pb.OUTBOX_MESSAGE_STATE_WAITING,
        reason=row.reason,
        attempts=row.attempts,
        create_time=timestamp(row.create_time),
        due_time=None if dead else timestamp(row.due_time),
        dead_time=timestamp(row.dead_time),
        payload_bytes=row.payload_bytes,
        blocked=row.blocked,
        substituted=row.substituted,
        substituted_by=f"{_PREFIX}{row.substituted_by}" if row.substituted_by is not None else "",
    )
