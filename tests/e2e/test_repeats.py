"""A level that rings again while no one answers, as its people experience it."""

from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import incident_pb2 as ip
from tocsin.escalation.v1 import policy_service_pb2 as pp
from tocsin_testkit.tenant import Tenant, target


async def test_a_user_who_sleeps_through_the_first_page_gets_another_before_the_next_level_does(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    again = pp.Level(
        targets=[target(ana)], timeout=Duration(seconds=900), repeat_count=2, repeat_interval=Duration(seconds=300)
    )
    levels = [again, pp.Level(targets=[target(ben)], timeout=Duration(seconds=900))]
    created = await tenant.admin.policies.CreatePolicy(
        pp.CreatePolicyRequest(policy_id="again", policy=pp.Policy(display_name="Again", levels=levels))
    )
    assert created.policy.levels[0].repeat_interval == again.repeat_interval
    incident = await (await tenant.integration("policies/again")).triggers("db down")
    await ana.is_paged(incident, level=1)
    await tenant.passes(minutes=5.1)
    await ana.is_paged(incident, level=1)
    await tenant.passes(minutes=5)
    await ana.is_paged(incident, level=1)
    assert ben.pages(incident) == []
    await tenant.passes(minutes=5)
    await ben.is_paged(incident, level=2)
    paged = [entry for entry in await tenant.timeline(incident) if entry.kind == ip.TIMELINE_KIND_LEVEL_PAGED]
    assert [(entry.level, list(entry.paged_users)) for entry in paged] == [
        (1, [ana.name]),
        (1, [ana.name]),
        (1, [ana.name]),
        (2, [ben.name]),
    ]
    await ana.acknowledges(incident)
    await ben.is_told(incident, "acknowledgment")
