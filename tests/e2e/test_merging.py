"""Two incidents about one thing: merged, and taken apart again."""

import grpc
from google.protobuf.json_format import MessageToDict
from tocsin.audit.v1 import audit_service_pb2
from tocsin.escalation.v1 import incident_pb2
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import failure


async def test_ana_merges_two_incidents_and_is_paged_for_one_of_them(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=30))
    database, disk = await prom.triggers("db down", dedup_key="db"), await prom.triggers("disk full", dedup_key="disk")
    for incident in (database, disk):
        await ana.is_paged(incident, level=1)
    merging = pb.MergeIncidentRequest(name=database, into=disk)
    answer = await ana.own.incidents.MergeIncident(merging)
    merged = answer.incident
    assert (answer.target.name, answer.target.state) == (disk, incident_pb2.INCIDENT_STATE_TRIGGERED)
    assert (merged.state, merged.merged_into) == (incident_pb2.INCIDENT_STATE_MERGED, disk)
    assert (await ana.own.incidents.MergeIncident(merging)).already_merged
    error = await failure(ana.own.incidents.AcknowledgeIncident(pb.AcknowledgeIncidentRequest(name=database)))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INCIDENT_STATE")
    await tenant.passes(minutes=31)
    await ben.is_paged(disk, level=2)
    assert ben.pages(database) == []
    assert await prom.triggers("db still down", dedup_key="db") == database, "its key leads to it, and no page follows"
    await ben.acknowledges(disk)
    await ana.is_told(disk, "acknowledgment")
    await prom.resolves("disk")
    for person in (ana, ben):
        await person.is_told(disk, "resolution")
    await ana.is_paged(database, level=1)
    kinds = [incident_pb2.TimelineKind.Name(entry.kind) for entry in await tenant.timeline(database)]
    assert [kind for kind in kinds if "MERGED" in kind] == ["TIMELINE_KIND_MERGED", "TIMELINE_KIND_UNMERGED"]
    await ana.resolves(database)


async def test_the_audit_log_finds_a_merge_by_either_incident(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    database, disk = await prom.triggers("db down", dedup_key="db"), await prom.triggers("disk full", dedup_key="disk")
    for incident in (database, disk):
        await ana.is_paged(incident, level=1)
    await ana.own.incidents.MergeIncident(pb.MergeIncidentRequest(name=database, into=disk))
    taken_out = await ana.own.incidents.UnmergeIncident(pb.UnmergeIncidentRequest(name=database))
    assert (taken_out.incident.merged_into, taken_out.target.name) == ("", disk)
    await ana.is_paged(database, level=1)
    for incident in (database, disk):
        asked = audit_service_pb2.ListAuditEntriesRequest(resource=incident)
        found = (await tenant.admin.audit["escalation"].ListAuditEntries(asked)).entries
        assert [entry.method.rpartition("/")[2] for entry in found] == ["UnmergeIncident", "MergeIncident"]
        assert {entry.actor for entry in found} == {ana.name}
        before = [MessageToDict(entry.before)["state"] for entry in found]
        assert before == ["INCIDENT_STATE_MERGED", "INCIDENT_STATE_TRIGGERED"]
    await ana.resolves(database)
    await ana.resolves(disk)


async def test_a_person_who_resolves_the_one_resolves_the_other_with_it(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    database, disk = await prom.triggers("db down", dedup_key="db"), await prom.triggers("disk full", dedup_key="disk")
    for incident in (database, disk):
        await ana.is_paged(incident, level=1)
    await ana.own.incidents.MergeIncident(pb.MergeIncidentRequest(name=database, into=disk))
    by_phone = pb.AcknowledgeIncidentRequest(name=database, via="SMS")
    answered = await ana.own.incidents.AcknowledgeIncident(by_phone)
    assert (answered.incident.name, answered.incident.acknowledged_by) == (disk, ana.name)
    by_link = pb.ResolveIncidentRequest(name=database, via="link")
    assert (await ana.own.incidents.ResolveIncident(by_link)).incident.name == disk
    for incident in (database, disk):
        found = await tenant.incident(incident)
        assert (found.state, found.resolved_by) == (incident_pb2.INCIDENT_STATE_RESOLVED, ana.name)
    anew = await prom.triggers("db down", dedup_key="db")
    assert anew != database, "its key is free again"
    await ana.is_paged(anew, level=1)
    await ana.resolves(anew)
