"""A policy says when nobody can be reached through one of its targets."""

from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import policy_service_pb2 as pb
from tocsin_testkit.tenant import Tenant, target

from tests.e2e.test_unreachable import without_method

UNREACHABLE = pb.POLICY_WARNING_KIND_UNREACHABLE


async def create(tenant: Tenant, name: str, *levels: object) -> pb.Policy:
    policy = pb.Policy(
        display_name=name,
        levels=[pb.Level(targets=[target(one)], timeout=Duration(seconds=300)) for one in levels],  # type: ignore[arg-type]
    )
    request = pb.CreatePolicyRequest(policy_id=name, policy=policy)
    return (await tenant.admin.policies.CreatePolicy(request)).policy  # type: ignore[no-any-return]


async def test_creating_changing_and_reading_a_policy_warn_until_somebody_can_be_reached(tenant: Tenant) -> None:
    ana, ben = await without_method(tenant, "ana"), await tenant.person("ben")
    night = await create(tenant, "night", ben, ana)
    [warning] = night.warnings
    assert (warning.kind, warning.level, warning.target.user) == (UNREACHABLE, 2, "users/ana")
    assert warning.message == "users/ana cannot be reached: no verified contact method"

    night.display_name = "Night shift"
    changed = (await tenant.admin.policies.UpdatePolicy(pb.UpdatePolicyRequest(policy=night))).policy
    assert list(changed.warnings) == [warning]
    [listed] = (await tenant.admin.policies.ListPolicies(pb.ListPoliciesRequest())).policies
    assert list(listed.warnings) == [warning]

    tenant.everybody["ana"] = ana
    await ana.adds_webhook()
    read = (await tenant.admin.policies.GetPolicy(pb.GetPolicyRequest(name="policies/night"))).policy
    assert not read.warnings


async def test_every_such_target_of_every_policy_is_listed_page_by_page(tenant: Tenant) -> None:
    ana, ben = await without_method(tenant, "ana"), await tenant.person("ben")
    empty = await tenant.team("empty")
    await create(tenant, "a", ana, ben, empty)
    await create(tenant, "b", ben)
    await create(tenant, "c", ben, ana)
    request = pb.ListUnreachableTargetsRequest(page_size=1)
    seen = []
    while True:
        answer = await tenant.admin.policies.ListUnreachableTargets(request)
        seen += [(each.policy, each.level, each.target.user or each.target.team) for each in answer.targets]
        if not answer.next_page_token:
            break
        assert len(answer.targets) <= 1
        request.page_token = answer.next_page_token
    assert seen == [
        ("policies/a", 1, "users/ana"),
        ("policies/a", 3, "teams/empty"),
        ("policies/c", 2, "users/ana"),
    ]
