"""What escalation answers to input that is wrong: the code, the reason, the field, and what to do."""

import uuid
from typing import Any, cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import directory_service_pb2 as dp
from tocsin.escalation.v1 import incident_service_pb2 as ip
from tocsin.escalation.v1 import policy_service_pb2 as pp
from tocsin.escalation.v1 import schedule_pb2 as sp
from tocsin.queue.v1 import queue_service_pb2 as qp
from tocsin.type.v1 import target_pb2
from tocsin_stack import tokens
from tocsin_testkit.clients import Clients
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import failure, refused_by_size

Code = grpc.StatusCode
ELSEWHERE = f"incidents/{uuid.UUID(int=9)}"
ANA = target_pb2.Target(user="users/ana")
LEVEL = pp.Level(targets=[ANA], timeout=Duration(seconds=60))
OFFICE = sp.Window(days=[sp.WEEKDAY_MONDAY], start="09:00", end="17:00")
WEEKS = sp.Window(days=[sp.WEEKDAY_MONDAY], start="09:00", end="17:00", end_days_later=7)
LOW = pp.UrgencyRule(urgency=pp.PAGE_URGENCY_LOW)
IN_TURN = pp.LEVEL_MODE_IN_TURN
FAR = Timestamp(seconds=4102444800)
NEVER = Timestamp(seconds=1 << 50)
NOBODY = f"incidents/{uuid.uuid4()}"


ASKED = ip.Targets(targets=[ANA])


def bulk(**fields: Any) -> ip.BulkChangeIncidentsRequest:
    given = {"filter": ip.ListIncidentsRequest(query="db"), "action": ip.BULK_ACTION_RESOLVE, **fields}
    return ip.BulkChangeIncidentsRequest(**given)


def when(**fields: Any) -> pp.LevelCondition:
    return pp.LevelCondition(**{"severities": [1], "windows": [OFFICE], "time_zone": "UTC", **fields})


def level(**fields: Any) -> pp.Level:
    return pp.Level(targets=[ANA], timeout=Duration(seconds=60), **fields)


def policy(**fields: Any) -> pp.CreatePolicyRequest:
    return pp.CreatePolicyRequest(policy=pp.Policy(**{"display_name": "P", "levels": [LEVEL], **fields}))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (policy(levels=[]), "policy.levels"),
        (policy(levels=[pp.Level(timeout=Duration(seconds=60))]), "policy.levels[0].targets"),
        (policy(levels=[pp.Level(targets=[ANA])]), "policy.levels[0].timeout"),
        (policy(on_gap=9), "policy.on_gap"),
        (policy(on_gap=pp.GAP_CHOICE_FALLBACK), "policy.fallback_target"),
        (policy(levels=[pp.Level(targets=[ANA], timeout=Duration(seconds=0))]), "policy.levels[0].timeout"),
        (policy(levels=[pp.Level(targets=[ANA], timeout=Duration(seconds=31536000))]), "policy.levels[0].timeout"),
        (
            policy(levels=[LEVEL, pp.Level(targets=[target_pb2.Target()], timeout=Duration(seconds=60))]),
            "policy.levels[1].targets[0].kind",
        ),
        (
            policy(levels=[pp.Level(targets=[target_pb2.Target(user="ana")], timeout=Duration(seconds=60))]),
            "policy.levels[0].targets[0].user",
        ),
        (policy(levels=[LEVEL] * 21), "policy.levels"),
        (policy(levels=[level(mode=9)]), "policy.levels[0].mode"),
        (policy(levels=[LEVEL, level(turn_timeout=Duration(seconds=9))]), "policy.levels[1].turn_timeout"),
        (policy(levels=[level(mode=IN_TURN, turn_timeout=Duration(seconds=60))]), "policy.levels[0].turn_timeout"),
        (policy(levels=[level(mode=IN_TURN, turn_timeout=Duration(nanos=1))]), "policy.levels[0].turn_timeout"),
        (policy(levels=[level(repeat_count=10)]), "policy.levels[0].repeat_count"),
        (policy(levels=[level(repeat_count=-1)]), "policy.levels[0].repeat_count"),
        (policy(levels=[level(repeat_count=2)]), "policy.levels[0].repeat_interval"),
        (policy(levels=[level(repeat_interval=Duration(seconds=9))]), "policy.levels[0].repeat_count"),
        (policy(levels=[level(repeat_count=2, repeat_interval=Duration(nanos=1))]), "policy.levels[0].repeat_interval"),
        (
            policy(levels=[level(repeat_count=2, repeat_interval=Duration(seconds=30))]),
            "policy.levels[0].repeat_interval",
        ),
        (
            policy(levels=[level(mode=IN_TURN, repeat_count=1, repeat_interval=Duration(seconds=9))]),
            "policy.levels[0].repeat_count",
        ),
        (policy(levels=[level(condition=pp.LevelCondition())]), "policy.levels[0].condition"),
        (policy(levels=[level(condition=when(severities=[0]))]), "policy.levels[0].condition.severities[0]"),
        (policy(levels=[level(condition=when(severities=[1, 1]))]), "policy.levels[0].condition.severities"),
        (policy(levels=[LEVEL, level(condition=when(time_zone="Mars"))]), "policy.levels[1].condition.time_zone"),
        (policy(levels=[level(condition=when(windows=[]))]), "policy.levels[0].condition.time_zone"),
        (policy(levels=[level(condition=when(windows=[OFFICE] * 11))]), "policy.levels[0].condition.windows"),
        (policy(levels=[level(condition=when(windows=[WEEKS]))]), "policy.levels[0].condition.windows[0]"),
        (policy(urgency_rules=[pp.UrgencyRule()]), "policy.urgency_rules[0].urgency"),
        (policy(urgency_rules=[pp.UrgencyRule(urgency=cast(Any, 9))]), "policy.urgency_rules[0].urgency"),
        (policy(urgency_rules=[LOW] * 11), "policy.urgency_rules"),
        (
            policy(urgency_rules=[LOW, pp.UrgencyRule(urgency=LOW.urgency, condition=when(time_zone="Mars"))]),
            "policy.urgency_rules[1].condition.time_zone",
        ),
        (
            policy(urgency_rules=[pp.UrgencyRule(urgency=LOW.urgency, condition=pp.LevelCondition())]),
            "policy.urgency_rules[0].condition",
        ),
        (
            policy(urgency_rules=[pp.UrgencyRule(urgency=LOW.urgency, condition=when(windows=[WEEKS]))]),
            "policy.urgency_rules[0].condition.windows[0]",
        ),
        (policy(urgency_rules=[pp.UrgencyRule(urgency=pp.PAGE_URGENCY_DEFERRED)]), "policy.urgency_rules[0].urgency"),
        (policy(next_policy="night"), "policy.next_policy"),
        (pp.CreatePolicyRequest(policy_id="me", policy=policy(next_policy="policies/me").policy), "policy.next_policy"),
        (policy(unresolved_after=Duration(seconds=60)), "policy.unresolved_target"),
        (policy(unresolved_target=ANA), "policy.unresolved_after"),
        (policy(unresolved_target=ANA, unresolved_after=Duration(seconds=59)), "policy.unresolved_after"),
        (
            policy(
                unresolved_after=Duration(seconds=60), unresolved_target=target_pb2.Target(schedule="schedules/web")
            ),
            "policy.unresolved_target",
        ),
        (policy(repeat_count=10), "policy.repeat_count"),
        (policy(display_name=""), "policy.display_name"),
        (policy(display_name="x" * 256), "policy.display_name"),
        (policy(status_updates=99), "policy.status_updates"),
        (pp.CreatePolicyRequest(), "policy"),
        (pp.CreatePolicyRequest(policy_id="No Spaces", policy=policy().policy), "policy_id"),
        (pp.CreatePolicyRequest(request_id="not-a-uuid", policy=policy().policy), "request_id"),
    ],
)
async def test_a_policy_that_cannot_be(tenant: Tenant, request_: pp.CreatePolicyRequest, field: str) -> None:
    error = await failure(tenant.admin.policies.CreatePolicy(request_))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert field in error.fields


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pp.CheckPolicyRequest(), "checked"),
        (pp.CheckPolicyRequest(policy="night"), "policy"),
        (pp.CheckPolicyRequest(draft=pp.Policy()), "draft.levels"),
        (
            pp.CheckPolicyRequest(draft=policy(levels=[level(condition=when(time_zone="Mars"))]).policy),
            "draft.levels[0].condition.time_zone",
        ),
        (pp.CheckPolicyRequest(draft=policy().policy, severity=cast(Any, 9)), "severity"),
        (pp.CheckPolicyRequest(policy="policies/night", start_times=[FAR]), "start_times[0]"),
        (pp.CheckPolicyRequest(policy="policies/night", start_times=[Timestamp(), NEVER]), "start_times[1]"),
        (pp.CheckPolicyRequest(policy="policies/night", start_times=[FAR] * 9), "start_times"),
    ],
)
async def test_a_check_that_cannot_be(tenant: Tenant, request_: pp.CheckPolicyRequest, field: str) -> None:
    await tenant.person("ana", webhook=False)
    await tenant.admin.policies.CreatePolicy(pp.CreatePolicyRequest(policy_id="night", policy=policy().policy))
    error = await failure(tenant.admin.policies.CheckPolicy(request_))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert field in error.fields


async def test_a_check_of_what_is_not_there(tenant: Tenant) -> None:
    error = await failure(tenant.admin.policies.CheckPolicy(pp.CheckPolicyRequest(policy="policies/nope")))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "POLICY_NOT_FOUND")
    error = await failure(tenant.admin.policies.CheckPolicy(pp.CheckPolicyRequest(draft=policy().policy)))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "USER_NOT_FOUND")
    assert list(error.fields) == ["draft.levels[0].targets[0]"]


async def test_a_policy_that_names_no_user(tenant: Tenant) -> None:
    error = await failure(tenant.admin.policies.CreatePolicy(policy()))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "USER_NOT_FOUND")
    assert list(error.fields) == ["policy.levels[0].targets[0]"]


async def test_a_policy_whose_next_one_is_not_there(tenant: Tenant) -> None:
    await tenant.person("ana", webhook=False)
    error = await failure(tenant.admin.policies.CreatePolicy(policy(next_policy="policies/nope")))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "POLICY_NOT_FOUND")
    assert list(error.fields) == ["policy.next_policy"]


async def test_an_id_that_is_taken(tenant: Tenant) -> None:
    request = dp.CreateUserRequest(user_id="ana", user=dp.User(display_name="Ana"))
    await tenant.admin.directory.CreateUser(request)
    error = await failure(tenant.admin.directory.CreateUser(request))
    assert (error.code, error.reason) == (Code.ALREADY_EXISTS, "ALREADY_EXISTS")


async def test_the_same_request_id_with_another_body(tenant: Tenant) -> None:
    request_id = str(uuid.uuid4())
    first = dp.CreateUserRequest(request_id=request_id, user_id="ana", user=dp.User(display_name="Ana"))
    assert await tenant.admin.directory.CreateUser(first) == await tenant.admin.directory.CreateUser(first)
    other = dp.CreateUserRequest(request_id=request_id, user_id="ben", user=dp.User(display_name="Ben"))
    error = await failure(tenant.admin.directory.CreateUser(other))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert list(error.fields) == ["request_id"]


async def test_a_stale_etag_and_a_wrong_mask(tenant: Tenant) -> None:
    created = await tenant.admin.directory.CreateUser(
        dp.CreateUserRequest(user_id="ana", user=dp.User(display_name="A"))
    )
    user = created.user
    changed = dp.User(name=user.name, etag=user.etag, display_name="Ana")
    await tenant.admin.directory.UpdateUser(dp.UpdateUserRequest(user=changed))
    error = await failure(tenant.admin.directory.UpdateUser(dp.UpdateUserRequest(user=changed)))
    assert (error.code, error.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    mask = FieldMask(paths=["shoe_size"])
    error = await failure(
        tenant.admin.directory.UpdateUser(dp.UpdateUserRequest(user=dp.User(name=user.name), update_mask=mask))
    )
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "UPDATE_MASK_INVALID")
    zone = dp.User(name=user.name, time_zone="Mars/Olympus")
    error = await failure(tenant.admin.directory.UpdateUser(dp.UpdateUserRequest(user=zone)))
    assert list(error.fields) == ["user.time_zone"]


async def test_a_page_token_of_another_query(tenant: Tenant) -> None:
    for name in ("ana", "ben", "cem"):
        await tenant.admin.directory.CreateUser(dp.CreateUserRequest(user_id=name, user=dp.User(display_name=name)))
    page = await tenant.admin.directory.ListUsers(dp.ListUsersRequest(page_size=2))
    assert [user.name for user in page.users] == ["users/ana", "users/ben"]
    rest = await tenant.admin.directory.ListUsers(dp.ListUsersRequest(page_token=page.next_page_token))
    assert [user.name for user in rest.users] == ["users/cem"]
    assert rest.next_page_token == ""
    for call in (
        tenant.admin.directory.ListTeams(dp.ListTeamsRequest(page_token=page.next_page_token)),
        tenant.admin.directory.ListUsers(dp.ListUsersRequest(page_token=page.next_page_token[:-2])),
        tenant.world.clients("other").directory.ListUsers(dp.ListUsersRequest(page_token=page.next_page_token)),
    ):
        error = await failure(call)
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
    error = await failure(tenant.admin.directory.ListUsers(dp.ListUsersRequest(page_size=-1)))
    assert list(error.fields) == ["page_size"]


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("GetIncident", ip.GetIncidentRequest(name="incidents/1"), "name"),
        ("GetIncident", ip.GetIncidentRequest(name="incidents/" + "-" * 36), "name"),
        ("SnoozeIncident", ip.SnoozeIncidentRequest(name=NOBODY), "duration"),
        ("SnoozeIncident", ip.SnoozeIncidentRequest(name=NOBODY, duration=Duration(seconds=604801)), "duration"),
        ("EscalateIncident", ip.EscalateIncidentRequest(name=NOBODY, level=21), "level"),
        ("ReassignIncident", ip.ReassignIncidentRequest(name=NOBODY), "to"),
        ("AddResponders", ip.AddRespondersRequest(name=NOBODY), "targets"),
        ("RestartIncident", ip.RestartIncidentRequest(name="incidents/x"), "name"),
        ("UpdateIncident", ip.UpdateIncidentRequest(name="x", title="y"), "name"),
        ("UpdateIncident", ip.UpdateIncidentRequest(name=NOBODY, title="x" * 1025), "title"),
        ("UpdateIncident", ip.UpdateIncidentRequest(name=NOBODY, severity=cast(Any, 9)), "severity"),
        ("MergeIncident", ip.MergeIncidentRequest(name="incidents/x", into=NOBODY), "name"),
        ("MergeIncident", ip.MergeIncidentRequest(name=NOBODY), "into"),
        ("MergeIncident", ip.MergeIncidentRequest(name=NOBODY, into="incidents/" + "-" * 36), "into"),
        ("MergeIncident", ip.MergeIncidentRequest(name=NOBODY, into=ELSEWHERE, request_id="x"), "request_id"),
        ("MergeIncident", ip.MergeIncidentRequest(name=NOBODY, into=ELSEWHERE, etag="x" * 65), "etag"),
        ("UnmergeIncident", ip.UnmergeIncidentRequest(name="incidents/x"), "name"),
        ("UnmergeIncident", ip.UnmergeIncidentRequest(name=NOBODY, request_id="x"), "request_id"),
        ("AddNote", ip.AddNoteRequest(name=NOBODY), "text"),
        ("AddNote", ip.AddNoteRequest(name=NOBODY, text="x" * 4097), "text"),
        ("BatchAcknowledgeIncidents", ip.BatchAcknowledgeIncidentsRequest(names=[NOBODY, NOBODY]), "names"),
        ("ListIncidents", ip.ListIncidentsRequest(states=cast(Any, [0])), "states[0]"),
        ("ListIncidents", ip.ListIncidentsRequest(states=cast(Any, [42])), "states[0]"),
        ("BulkChangeIncidents", bulk(filter=None), "filter"),
        ("BulkChangeIncidents", bulk(filter=ip.ListIncidentsRequest()), "filter"),
        ("BulkChangeIncidents", bulk(filter=ip.ListIncidentsRequest(policy="night")), "filter.policy"),
        ("BulkChangeIncidents", bulk(filter=ip.ListIncidentsRequest(query="a b c d e f g h i j k")), "filter.query"),
        ("BulkChangeIncidents", bulk(action=0), "action"),
        ("BulkChangeIncidents", bulk(action=99), "action"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_SNOOZE), "snooze_duration"),
        ("BulkChangeIncidents", bulk(snooze_duration=Duration(seconds=60)), "snooze_duration"),
        ("BulkChangeIncidents", bulk(max_incidents=251), "max_incidents"),
        ("BulkChangeIncidents", bulk(level=2), "level"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_ESCALATE, level=21), "level"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_ESCALATE, note="why"), "note"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_REASSIGN), "targets"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_REASSIGN, targets=ip.Targets()), "targets.targets"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_REASSIGN, policy="night"), "policy"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_REASSIGN, policy="policies/a", targets=ASKED), "policy"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_ADD_RESPONDERS, policy="policies/a"), "policy"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_ADD_RESPONDERS), "targets"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_SET_SEVERITY), "severity"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_SET_SEVERITY, severity=cast(Any, 9)), "severity"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_ADD_NOTE), "note"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_ADD_NOTE, note="a" * 4097), "note"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_MERGE), "into"),
        ("BulkChangeIncidents", bulk(action=ip.BULK_ACTION_MERGE, into="db"), "into"),
        ("BulkChangeIncidents", bulk(into=NOBODY), "into"),
        ("BulkChangeIncidents", bulk(request_id="x"), "request_id"),
        ("ExplainPage", ip.ExplainPageRequest(user="users/ana"), "incident"),
        ("ExplainPage", ip.ExplainPageRequest(incident=NOBODY), "user"),
        ("ExplainPage", ip.ExplainPageRequest(incident=NOBODY, user="ana"), "user"),
        ("SimulateIncident", ip.SimulateIncidentRequest(), "origin"),
        ("SimulateIncident", ip.SimulateIncidentRequest(policy="night"), "policy"),
        ("SimulateIncident", ip.SimulateIncidentRequest(incident="night"), "incident"),
        ("SimulateIncident", ip.SimulateIncidentRequest(policy="policies/a", severity=cast(Any, 9)), "severity"),
        ("SimulateIncident", ip.SimulateIncidentRequest(policy="policies/a", start_time=FAR), "start_time"),
        ("SimulateIncident", ip.SimulateIncidentRequest(policy="policies/a", start_time=NEVER), "start_time"),
        ("SimulateIncident", ip.SimulateIncidentRequest(incident=NOBODY, start_time=FAR), "start_time"),
        ("SimulateIncident", ip.SimulateIncidentRequest(incident=NOBODY, severity=cast(Any, 1)), "severity"),
    ],
)
async def test_a_command_that_cannot_be(tenant: Tenant, method: str, request_: Any, field: str) -> None:
    error = await failure(getattr(tenant.admin.incidents, method)(request_))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert field in error.fields


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetIncident", ip.GetIncidentRequest(name=NOBODY)),
        ("AcknowledgeIncident", ip.AcknowledgeIncidentRequest(name=NOBODY)),
        ("SnoozeIncident", ip.SnoozeIncidentRequest(name=NOBODY, duration=Duration(seconds=60))),
        ("EscalateIncident", ip.EscalateIncidentRequest(name=NOBODY)),
        ("RestartIncident", ip.RestartIncidentRequest(name=NOBODY)),
        ("MergeIncident", ip.MergeIncidentRequest(name=NOBODY, into=ELSEWHERE)),
        ("UnmergeIncident", ip.UnmergeIncidentRequest(name=NOBODY)),
        ("UpdateIncident", ip.UpdateIncidentRequest(name=NOBODY, title="disk full")),
        ("ResolveIncident", ip.ResolveIncidentRequest(name=NOBODY)),
        ("ListTimeline", ip.ListTimelineRequest(incident=NOBODY)),
        ("ExplainPage", ip.ExplainPageRequest(incident=NOBODY, user="users/ana")),
        ("SimulateIncident", ip.SimulateIncidentRequest(incident=NOBODY)),
    ],
)
async def test_an_incident_that_is_not_there(tenant: Tenant, method: str, request_: Any) -> None:
    error = await failure(getattr(tenant.admin.incidents, method)(request_))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "INCIDENT_NOT_FOUND")


async def test_a_policy_that_is_not_there_cannot_be_played_through(tenant: Tenant) -> None:
    request = ip.SimulateIncidentRequest(policy="policies/nope")
    error = await failure(tenant.admin.incidents.SimulateIncident(request))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "POLICY_NOT_FOUND")


async def test_a_batch_answers_each_by_itself(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    request = ip.BatchAcknowledgeIncidentsRequest(names=[NOBODY, incident])
    results = (await ana.own.incidents.BatchAcknowledgeIncidents(request)).results
    assert [result.WhichOneof("result") for result in results] == ["error", "incident"]
    assert results[0].error.code == Code.NOT_FOUND.value[0]
    resolved = await ana.own.incidents.BatchResolveIncidents(ip.BatchResolveIncidentsRequest(names=[incident, NOBODY]))
    assert [result.WhichOneof("result") for result in resolved.results] == ["incident", "error"]
    error = await failure(ana.acknowledges(incident))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "INCIDENT_RESOLVED")


async def test_an_unknown_queue(tenant: Tenant) -> None:
    operator = tenant.world.operator()
    error = await failure(operator.escalation_queues.PauseQueue(qp.PauseQueueRequest(name="queues/nope")))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "QUEUE_NOT_FOUND")


async def test_who_may_not(tenant: Tenant) -> None:
    channels, keys = tenant.world.channels, tenant.world.stack.plan.signing_keys
    get = ip.GetIncidentRequest(name=NOBODY)
    nobody = await failure(Clients(channels, "").incidents.GetIncident(get))
    assert (nobody.code, nobody.reason) == (Code.UNAUTHENTICATED, "CREDENTIAL_MISSING")
    damaged = await failure(Clients(channels, "x.y.z").incidents.GetIncident(get))
    assert (damaged.code, damaged.reason) == (Code.UNAUTHENTICATED, "CREDENTIAL_INVALID")
    expired = tokens.mint(keys, tenant.org_id, ["incidents:read"], subject="users/ana", ttl=-3600)
    late = await failure(Clients(channels, expired).incidents.GetIncident(get))
    assert (late.code, late.reason) == (Code.UNAUTHENTICATED, "CREDENTIAL_EXPIRED")
    reader = tokens.mint(keys, tenant.org_id, ["incidents:read"], subject="users/ana")
    poor = await failure(
        Clients(channels, reader).incidents.AcknowledgeIncident(ip.AcknowledgeIncidentRequest(name=NOBODY))
    )
    assert (poor.code, poor.reason) == (Code.PERMISSION_DENIED, "SCOPE_MISSING")


async def test_five_megabytes_are_too_much(tenant: Tenant) -> None:
    request = ip.AddNoteRequest(name=NOBODY, text="x" * 5_000_000)
    assert await refused_by_size(lambda: tenant.admin.incidents.AddNote(request)) is Code.RESOURCE_EXHAUSTED
