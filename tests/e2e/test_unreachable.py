"""Responders see a page that can reach no one, and the next level does not wait for it."""

import asyncio

from tocsin.escalation.v1 import directory_service_pb2, incident_pb2, incident_service_pb2
from tocsin.notify.v1 import contact_service_pb2
from tocsin_testkit.busy import within
from tocsin_testkit.inbox import PATIENCE
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Tenant

NOBODY = incident_pb2.REACHED_NOBODY
SOMEBODY = incident_pb2.REACHED_SOMEBODY


async def without_method(tenant: Tenant, name: str) -> Person:
    """A user who never added a contact method."""
    user = directory_service_pb2.User(display_name=name.title())
    await tenant.admin.directory.CreateUser(directory_service_pb2.CreateUserRequest(user_id=name, user=user))
    return Person(tenant.world, tenant.org_id, name)


async def says(tenant: Tenant, incident: str, text: str) -> list[str]:
    """The timeline, once it holds `text`."""
    async with asyncio.timeout(within(PATIENCE)):
        while True:
            messages = [entry.message for entry in await tenant.timeline(incident)]
            if text in messages:
                return messages
            await asyncio.sleep(0.02)


async def test_ana_has_no_contact_method_so_ben_is_paged_at_once(tenant: Tenant) -> None:
    ana, ben = await without_method(tenant, "ana"), await tenant.person("ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=60))
    incident = await prom.triggers("db down")
    await ben.is_paged(incident, level=2)
    messages = await says(tenant, incident, "webhook to ben accepted")
    assert messages == [
        "db down",
        "level 1: paging users/ana",
        "ana could not be reached: no verified contact method",
        "level 1 left at once: nobody of it can be reached (ana)",
        "level 2: paging users/ben",
        "webhook to ben accepted",
    ]
    assert (await tenant.incident(incident)).reached == SOMEBODY


async def test_when_no_user_can_be_reached_the_incident_says_so_and_is_found(tenant: Tenant) -> None:
    ana, cem = await without_method(tenant, "ana"), await without_method(tenant, "cem")
    prom = await tenant.integration(await tenant.policy([ana], [cem], minutes=60))
    incident = await prom.triggers("nobody hears of it")
    assert await tenant.incidents_titled("nobody hears of it") == [incident]
    await says(tenant, incident, "cem could not be reached: no verified contact method")
    found = incident_service_pb2.ListIncidentsRequest(states=[incident_pb2.INCIDENT_STATE_EXHAUSTED], reached=[NOBODY])
    answer = await tenant.admin.incidents.ListIncidents(found)
    assert [each.name for each in answer.incidents] == [incident]
    found.reached[:] = [SOMEBODY]
    assert not (await tenant.admin.incidents.ListIncidents(found)).incidents


async def test_who_leaves_while_an_incident_waits_gets_no_more_and_their_successor_nothing_of_theirs(
    tenant: Tenant,
) -> None:
    ana, ben = await tenant.people("ana", "ben")
    await ana.wants(("high", ana.methods[0], 10))
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=60))
    incident = await prom.triggers("db down")
    await tenant.incidents_titled("db down")
    await tenant.admin.directory.DeleteUser(directory_service_pb2.DeleteUserRequest(name=ana.name))
    await ben.is_paged(incident, level=2)
    user = directory_service_pb2.User(display_name="Another Ana")
    await tenant.admin.directory.CreateUser(directory_service_pb2.CreateUserRequest(user_id="ana", user=user))
    listing = contact_service_pb2.ListContactMethodsRequest(user=ana.name)
    assert not (await tenant.admin.contacts.ListContactMethods(listing)).contact_methods
    await ben.acknowledges(incident)
    await tenant.passes(minutes=11)
