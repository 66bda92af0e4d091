"""A policy warns when one of its targets reaches no one."""

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


async def test_creating_changing_and_reading_a_policy_warn_until_a_user_can_be_reached(tenant: Tenant) -> None:
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


async def test_a_policy_is_checked_before_it_is_saved_and_says_who_would_be_paged(tenant: Tenant) -> None:
    ana, ben, cem = await without_method(tenant, "ana"), await tenant.person("ben"), await tenant.person("cem")
    weekly = await tenant.schedule("web", ben, cem)
    draft = pb.Policy(
        display_name="Draft",
        levels=[
            pb.Level(targets=[target(ana)], timeout=Duration(seconds=300)),
            pb.Level(targets=[target(weekly)], timeout=Duration(seconds=300)),
        ],
        repeat_count=3,
    )
    checked = await tenant.admin.policies.CheckPolicy(pb.CheckPolicyRequest(draft=draft))
    assert [(each.kind, each.level) for each in checked.warnings] == [(UNREACHABLE, 1)]
    assert checked.reachability_known
    here, later = checked.forecasts
    assert later.start_time.seconds - here.start_time.seconds == 7 * 24 * 3600
    paged = [[list(step.paged_users) for step in each.steps if step.paged_users] for each in (here, later)]
    assert sorted(paged) == [[["users/ana"], ["users/ben"]], [["users/ana"], ["users/cem"]]], (
        "one has this week, one the next"
    )
    assert [step.level for step in here.steps if step.paged_users] == [1, 2]
    assert not here.truncated
    listed = await tenant.admin.policies.ListPolicies(pb.ListPoliciesRequest())
    assert not listed.policies, "nothing is stored"

    await create(tenant, "night", ben)
    saved = pb.CheckPolicyRequest(policy="policies/night", start_times=[later.start_time])
    [forecast] = (await tenant.admin.policies.CheckPolicy(saved)).forecasts
    assert (forecast.start_time, [list(step.paged_users) for step in forecast.steps]) == (
        later.start_time,
        [["users/ben"], []],
    ), "and at the end that nobody answered"
    await tenant.passes(minutes=30)
