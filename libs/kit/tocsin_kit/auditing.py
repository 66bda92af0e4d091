"""What a service adds to serve its audit log and delete old entries."""

from typing import Final, TypeVar

from tocsin_kit.db.audit import sweep_audit
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.loops import RETENTION_FIRST, Sweep
from tocsin_kit.rpc.audit_service import AuditService
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)
_EVERY: Final = 600.0
"""Seconds between two rounds of retention."""


def serve_audit(runtime: Runtime[S], pages: PageTokens) -> None:
    """AuditService, and the loop of its retention."""
    database, days = runtime.database, runtime.settings.audit_retention_days
    AuditService(database, pages).add_to(runtime.rpc)

    async def sweep() -> None:
        await sweep_audit(database, days)

    runtime.loops.add("audit-retention", Sweep(_EVERY, sweep, first=RETENTION_FIRST))
