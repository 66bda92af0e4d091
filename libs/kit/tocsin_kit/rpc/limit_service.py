"""LimitService: what an operator sees and changes of tenants' limits. One for every service."""

from typing import Any, Final

from tocsin.limits.v1 import limit_service_pb2 as pb
from tocsin.limits.v1 import limit_service_pb2_grpc as pb_grpc

from tocsin_kit.budgets import Budgets, record
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import once
from tocsin_kit.errors import invalid
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.call import current_call, note_before
from tocsin_kit.rpc.paging import PageTokens, page_size
from tocsin_kit.rpc.server import RpcServer
from tocsin_kit.time_slices import TimeSlice

_log = get_logger(__name__)

_MOST: Final = 10**12


class LimitService(pb_grpc.LimitServiceServicer):
    """See the contract."""

    def __init__(self, db: Database, budgets: Budgets, pages: PageTokens) -> None:
        self._db = db
        self._budgets = budgets
        self._pages = pages

    def add_to(self, rpc: RpcServer) -> None:
        """Serve it."""
        rpc.add(self)

    async def GetTenantLimits(self, request: pb.GetTenantLimitsRequest, context: Any) -> pb.GetTenantLimitsResponse:
        """See the contract."""
        return pb.GetTenantLimitsResponse(tenant_limits=self._limits(request.org_id))

    async def UpdateTenantLimits(
        self, request: pb.UpdateTenantLimitsRequest, context: Any
    ) -> pb.UpdateTenantLimitsResponse:
        """See the contract."""
        if not request.allowed:
            raise invalid("allowed", "must name at least one limit")
        for name, value in sorted(request.allowed.items()):
            if not 0 <= value <= _MOST:
                raise invalid(f'allowed["{name}"]', f"must be 0 (the default) to {_MOST}")
            if name not in self._budgets.limits:
                known = ", ".join(sorted(self._budgets.limits))
                raise invalid(f'allowed["{name}"]', f"is no limit of this service; it has {known}")

        async def work(tx: Tx) -> pb.UpdateTenantLimitsResponse:
            async def change() -> pb.UpdateTenantLimitsResponse:
                note_before(self._limits(request.org_id))
                await record.change(tx, request.org_id, request.allowed, current_call().subject)
                self._budgets.choose(await record.read(tx))
                return pb.UpdateTenantLimitsResponse(tenant_limits=self._limits(request.org_id))

            return await once(tx, "UpdateTenantLimits", request, pb.UpdateTenantLimitsResponse, change)

        response = await self._db.run(None, work)
        _log.info(
            "limits_changed", of_org=request.org_id, allowed=dict(request.allowed), subject=current_call().subject
        )
        return response

    async def ListTenantUsage(self, request: pb.ListTenantUsageRequest, context: Any) -> pb.ListTenantUsageResponse:
        """See the contract."""
        size = page_size(request.page_size)
        position = self._pages.decode(request)
        after = str(position[0]) if position else ""
        response = pb.ListTenantUsageResponse()
        time_slice = TimeSlice()
        for org_id in self._budgets.known():
            await time_slice.yield_if_over()
            if org_id <= after:
                continue
            most = max(self._budgets.used(org_id, name) for name in self._budgets.limits)
            if round(most * 100) < request.min_used_percent:
                continue
            limits = self._limits(org_id)
            if len(response.tenants) == size:
                response.next_page_token = self._pages.encode(request, (response.tenants[-1].org_id,))
                break
            response.tenants.append(limits)
        return response

    def _limits(self, org_id: str) -> pb.TenantLimits:
        budgets = self._budgets
        chosen = budgets.chosen.get(org_id, {})
        return pb.TenantLimits(
            org_id=org_id,
            limits=[
                pb.Limit(
                    name=name,
                    allowed=budgets.allowed(org_id, name),
                    changed=name in chosen,
                    used_percent=round(budgets.used(org_id, name) * 100),
                    refused=budgets.refused(org_id, name),
                )
                for name in sorted(budgets.limits)
            ],
        )
