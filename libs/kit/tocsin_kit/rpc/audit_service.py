"""AuditService: who changed what here. One for every service."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import Parse
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.audit.v1 import audit_service_pb2 as pb
from tocsin.audit.v1 import audit_service_pb2_grpc as pb_grpc

from tocsin_kit.auth import ALL_ORGS
from tocsin_kit.db import audit
from tocsin_kit.db.audit import AuditRow
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import invalid
from tocsin_kit.rpc.call import current_call
from tocsin_kit.rpc.listing import FEW_ROWS, listed
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.server import RpcServer


class AuditService(pb_grpc.AuditServiceServicer):
    """The audit log of one service. A tenant's credential sees the changes in the tenant, an operator's those of operators."""

    def __init__(self, db: Database, pages: PageTokens) -> None:
        self._db = db
        self._pages = pages

    def add_to(self, rpc: RpcServer) -> None:
        """Serve it."""
        rpc.add(self)

    async def ListAuditEntries(self, request: pb.ListAuditEntriesRequest, context: Any) -> pb.ListAuditEntriesResponse:
        """See the contract."""
        org_id = current_call().org_id
        since, until = _time(request, "start_time"), _time(request, "end_time")
        if since is not None and until is not None and since >= until:
            raise invalid("end_time", "must be later than start_time")

        async def read(after: Any, limit: int) -> Sequence[audit.AuditRow]:
            async with self._db.system() if org_id == ALL_ORGS else self._db.transaction(org_id) as tx:
                return await audit.page(tx, request.actor, request.resource, since, until, after[0], limit)

        found, token = await listed(
            self._pages, request, (None,), read, _entry, lambda row: (row.id,), portion=FEW_ROWS
        )
        return pb.ListAuditEntriesResponse(entries=found, next_page_token=token)


def _time(request: pb.ListAuditEntriesRequest, field: str) -> datetime | None:
    value: Timestamp = getattr(request, field)
    return value.ToDatetime(UTC) if request.HasField(field) else None  # type: ignore[arg-type]


def _entry(row: AuditRow) -> pb.AuditEntry:
    entry = pb.AuditEntry(
        name=f"auditEntries/{row.id}",
        actor=row.actor,
        method=row.method,
        resources=row.resources,
        reason=row.reason,
        credential=row.credential,
        trace_id=row.trace_id,
    )
    entry.create_time.FromDatetime(row.create_time)
    if row.before is not None:
        Parse(row.before, entry.before)
    if row.after is not None:
        Parse(row.after, entry.after)
    return entry
