"""Following an incident: news, and no pages."""

import grpc
from tocsin.escalation.v1 import follow_service_pb2 as pb
from tocsin.escalation.v1 import incident_service_pb2 as ip
from tocsin.notify.v1 import notification_pb2 as np
from tocsin_testkit.clients import Clients
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import failure


async def followers(tenant: Tenant, incident: str) -> list[str]:
    answer = await tenant.admin.follows.ListFollowers(pb.ListFollowersRequest(name=incident))
    return [each.user for each in answer.followers]


async def test_who_follows_an_incident_hears_of_it_until_they_stop_and_is_never_paged(tenant: Tenant) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    prom = await tenant.integration(await tenant.policy([ana], [ben], name="web"))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident, level=1)
    follows = tenant.admin.follows
    made = await follows.FollowIncident(
        pb.FollowIncidentRequest(name=incident, user=cem.name, channel=np.CHANNEL_WEBHOOK)
    )
    assert (made.follower.user, made.follower.channel) == (cem.name, np.CHANNEL_WEBHOOK)
    await follows.FollowIncident(pb.FollowIncidentRequest(name=incident, user=ana.name))
    assert await followers(tenant, incident) == [ana.name, cem.name]
    mine = await tenant.admin.incidents.ListIncidents(ip.ListIncidentsRequest(follower=cem.name))
    assert [each.name for each in mine.incidents] == [incident]
    assert not (await tenant.admin.incidents.ListIncidents(ip.ListIncidentsRequest(follower=ben.name))).incidents

    await tenant.passes(minutes=6)
    await ben.is_paged(incident, level=2)
    for one in (ana, cem):
        assert b"level 2: paging users/ben" in (await one.is_told("", "message")).body
    await ana.acknowledges(incident)
    await ben.is_told(incident, "acknowledgment")
    assert b"acknowledged by users/ana" in (await cem.is_told("", "message")).body
    await follows.UnfollowIncident(pb.UnfollowIncidentRequest(name=incident, user=cem.name))
    await follows.UnfollowIncident(pb.UnfollowIncidentRequest(name=incident, user=cem.name))
    assert await followers(tenant, incident) == [ana.name]
    await follows.UnfollowIncident(pb.UnfollowIncidentRequest(name=incident, user=ana.name))
    await tenant.admin.incidents.AddNote(ip.AddNoteRequest(name=incident, text="found it"))
    assert cem.pages(incident) == []


async def test_a_user_follows_for_themselves_and_for_no_other_user(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    incident = await (await tenant.integration(await tenant.policy([ana]))).triggers("db down")
    await ana.is_paged(incident)
    token = tenant.world.token(tenant.org_id, ("contacts:self", "incidents:read"), subject=ben.name)
    viewer = Clients(tenant.world.channels, token)
    await viewer.follows.FollowIncident(pb.FollowIncidentRequest(name=incident))
    assert await followers(tenant, incident) == [ben.name]
    error = await failure(viewer.follows.FollowIncident(pb.FollowIncidentRequest(name=incident, user=ana.name)))
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")


async def test_what_cannot_be_followed(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    incident = await (await tenant.integration(await tenant.policy([ana]))).triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    follows, code = tenant.admin.follows, grpc.StatusCode
    nothing = "incidents/00000000-0000-0000-0000-000000000000"
    for request, status, reason, field in (
        (pb.FollowIncidentRequest(name="incidents/1", user=ben.name), code.INVALID_ARGUMENT, "INVALID_FIELD", "name"),
        (pb.FollowIncidentRequest(name=incident, user="ben"), code.INVALID_ARGUMENT, "INVALID_FIELD", "user"),
        (pb.FollowIncidentRequest(name=incident, user="users/eve"), code.INVALID_ARGUMENT, "USER_NOT_FOUND", "user"),
        (
            pb.FollowIncidentRequest(name=incident, user=ben.name, channel=np.CHANNEL_VOICE),
            code.INVALID_ARGUMENT,
            "INVALID_FIELD",
            "channel",
        ),
        (
            pb.FollowIncidentRequest(name=incident, user=ben.name, request_id="x"),
            code.INVALID_ARGUMENT,
            "INVALID_FIELD",
            "request_id",
        ),
        (pb.FollowIncidentRequest(name=nothing, user=ben.name), code.NOT_FOUND, "INCIDENT_NOT_FOUND", ""),
    ):
        error = await failure(follows.FollowIncident(request))
        assert (error.code, error.reason) == (status, reason), request
        assert not field or field in error.fields, request
    for call in (
        follows.UnfollowIncident(pb.UnfollowIncidentRequest(name=nothing, user=ben.name)),
        follows.ListFollowers(pb.ListFollowersRequest(name=nothing)),
    ):
        assert (await failure(call)).reason == "INCIDENT_NOT_FOUND"
    wrong = ip.ListIncidentsRequest(follower="ben")
    assert "follower" in (await failure(tenant.admin.incidents.ListIncidents(wrong))).fields
    await ana.resolves(incident)
    error = await failure(follows.FollowIncident(pb.FollowIncidentRequest(name=incident, user=ben.name)))
    assert (error.code, error.reason) == (code.FAILED_PRECONDITION, "INCIDENT_RESOLVED")
