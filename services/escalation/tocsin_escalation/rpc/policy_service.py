"""PolicyService: decode, call one use case, encode."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any, Final

import grpc
from tocsin.escalation.v1 import policy_service_pb2 as pb
from tocsin.escalation.v1 import policy_service_pb2_grpc as pb_grpc
from tocsin.type.v1 import severity_pb2
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.ids import new_id, parse_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.listing import FEW_ROWS, listed
from tocsin_kit.rpc.masks import apply_update_mask
from tocsin_kit.rpc.paging import PageTokens, page_size
from tocsin_kit.rpc.server import current_call
from tocsin_kit.rpc.timestamps import timestamp
from tocsin_kit.rpc.validation import validate

from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.foresight import gap_warnings
from tocsin_escalation.app.foresight.check_policy import PolicyCheck, check_policy
from tocsin_escalation.app.people import policies, reach
from tocsin_escalation.app.people.reach import Reaching
from tocsin_escalation.domain.policy import Policy
from tocsin_escalation.rpc import foresight_mapping, mapping
from tocsin_escalation.store.people import policies as store
from tocsin_escalation.store.people.policies import PolicyRow

Context = grpc.aio.ServicerContext[Any, Any]

WRITABLE: Final = (
    "display_name",
    "team",
    "levels",
    "repeat_count",
    "fallback_target",
    "ack_timeout",
    "tenant_fallback",
    "status_updates",
    "urgency_raise",
    "on_gap",
    "next_policy",
    "unresolved_after",
    "unresolved_target",
    "urgency_rules",
)


class PolicyService(pb_grpc.PolicyServiceServicer):
    """Escalation policies."""

    def __init__(self, db: Database, notify: Reaching, pages: PageTokens, budgets: Budgets, gap_days: int) -> None:
        self._gap_days = gap_days
        self._notify = notify
        self._db = db
        self._once = ApplyOnce(db)
        self._pages = pages
        self._budgets = budgets

    async def CreatePolicy(self, request: pb.CreatePolicyRequest, context: Context) -> pb.CreatePolicyResponse:
        """See the contract."""
        computations = Computations()

        async def create(tx: Tx) -> pb.CreatePolicyResponse:
            given = request.policy
            policy = mapping.policy_from(request.policy_id or str(new_id()), given)
            await require_room(tx, "policies", self._budgets)
            row = await policies.create(tx, policy, given.display_name, given.tenant_fallback, computations)
            return pb.CreatePolicyResponse(policy=mapping.policy_to(row))

        response = await computations.run(
            current_call().org_id, lambda: self._once("CreatePolicy", request, pb.CreatePolicyResponse, create)
        )
        await self._warn([response.policy])
        return response

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: Context) -> pb.GetPolicyResponse:
        """See the contract."""
        row = await policies.get(self._db, current_call().org_id, parse_name(request.name, "policies"))
        response = pb.GetPolicyResponse(policy=mapping.policy_to(row))
        await self._warn([response.policy])
        return response

    async def ListPolicies(self, request: pb.ListPoliciesRequest, context: Context) -> pb.ListPoliciesResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[PolicyRow]:
            async with self._db.transaction(current_call().org_id) as tx:
                return await store.page(tx, after[0], limit)

        found, token = await listed(
            self._pages, request, ("",), read, mapping.policy_to, lambda row: (row.policy.id,), portion=FEW_ROWS
        )
        response = pb.ListPoliciesResponse(policies=found, next_page_token=token)
        await self._warn(response.policies)
        return response

    async def CheckPolicy(self, request: pb.CheckPolicyRequest, context: Context) -> pb.CheckPolicyResponse:
        """See the contract."""
        org_id, saved = current_call().org_id, request.WhichOneof("checked") == "policy"
        if saved:
            policy = (await policies.get(self._db, org_id, parse_name(request.policy, "policies"))).policy
        else:
            policy = mapping.policy_from(request.draft.name.removeprefix("policies/") or "draft", request.draft)
        check = PolicyCheck(
            policy,
            [time.ToDatetime(UTC) for time in request.start_times],
            request.severity or severity_pb2.SEVERITY_CRITICAL,
            self._gap_days,
            saved,
        )
        found = await check_policy(self._db, self._notify, org_id, check)
        return pb.CheckPolicyResponse(
            warnings=[*mapping.warnings_to(found.reachability), *mapping.gap_warnings_to(found.gaps)],
            forecasts=[
                pb.PolicyForecast(
                    start_time=timestamp(each.start),
                    steps=list(map(foresight_mapping.step_to, each.steps)),
                    truncated=each.truncated,
                )
                for each in found.forecasts
            ],
            reachability_known=found.reachability_known,
        )

    async def ListUnreachableTargets(
        self, request: pb.ListUnreachableTargetsRequest, context: Context
    ) -> pb.ListUnreachableTargetsResponse:
        """See the contract."""
        cursor = self._pages.decode(request)
        after = (str(cursor[0]), int(str(cursor[1]))) if cursor else ("", 0)
        size = page_size(request.page_size)
        found, following = await reach.list_unreachable(self._db, self._notify, current_call().org_id, after, size)
        return pb.ListUnreachableTargetsResponse(
            targets=[
                pb.UnreachableTarget(
                    policy=f"policies/{each.policy}",
                    level=each.warned.level,
                    target=mapping.target_to(each.warned.target) if each.warned.target else None,
                    message=each.warned.message,
                )
                for each in found
            ],
            next_page_token=self._pages.encode(request, following) if following else "",
        )

    async def UpdatePolicy(self, request: pb.UpdatePolicyRequest, context: Context) -> pb.UpdatePolicyResponse:
        """See the contract."""
        computations = Computations()
        id = parse_name(request.policy.name, "policies", field="policy.name")

        def change(row: PolicyRow) -> tuple[Policy, str, bool]:
            merged = mapping.policy_to(row)
            apply_update_mask(merged, request.policy, request.update_mask, writable=WRITABLE)
            validate(merged, "policy")
            return mapping.policy_from(id, merged), merged.display_name, merged.tenant_fallback

        async def update(tx: Tx) -> pb.UpdatePolicyResponse:
            row = await policies.update(tx, id, request.policy.etag, change, computations)
            return pb.UpdatePolicyResponse(policy=mapping.policy_to(row))

        response = await computations.run(
            current_call().org_id, lambda: self._once("UpdatePolicy", request, pb.UpdatePolicyResponse, update)
        )
        await self._warn([response.policy])
        return response

    async def _warn(self, shown: Sequence[pb.Policy]) -> None:
        """Add what is known of the targets today. After the transaction: no connection is held while notify is asked."""
        wanted = [mapping.policy_from(policy.name.removeprefix("policies/"), policy) for policy in shown]
        org_id = current_call().org_id
        answers = await reach.of_policies(self._db, self._notify, org_id, wanted)
        ahead = await gap_warnings.of_policies(self._db, org_id, wanted, self._gap_days)
        for policy, answer, found in zip(shown, answers, ahead, strict=True):
            policy.warnings.extend(mapping.warnings_to(answer))
            policy.warnings.extend(mapping.gap_warnings_to(found))

    async def DeletePolicy(self, request: pb.DeletePolicyRequest, context: Context) -> pb.DeletePolicyResponse:
        """See the contract."""

        async def delete(tx: Tx) -> pb.DeletePolicyResponse:
            row = await policies.delete(tx, parse_name(request.name, "policies"), request.etag)
            note_before(mapping.policy_to(row))
            return pb.DeletePolicyResponse()

        return await self._once("DeletePolicy", request, pb.DeletePolicyResponse, delete)
