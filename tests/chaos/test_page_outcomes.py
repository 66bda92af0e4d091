"""Ana has no contact method, so Ben is paged within a second, whichever process dies on the way; and nothing is reported twice."""

import time

import pytest
from tocsin.escalation.v1 import directory_service_pb2
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Sender, Tenant

from tests.chaos.fleet import Breakpoint, Fleet, tell

pytestmark = pytest.mark.chaos

STORY = [
    "db down",
    "level 1: paging users/ana",
    "ana could not be reached: no verified contact method",
    "level 1 left at once: nobody of it can be reached (ana)",
    "level 2: paging users/ben",
    "webhook to ben accepted",
]


async def on_call(tenant: Tenant) -> tuple[Sender, Person]:
    """Ana, who never added a contact method, then Ben, an hour later if all were well."""
    user = directory_service_pb2.User(display_name="Ana")
    await tenant.admin.directory.CreateUser(directory_service_pb2.CreateUserRequest(user_id="ana", user=user))
    ben = await tenant.person("ben")
    return await tenant.integration(await tenant.policy(["users/ana"], [ben], minutes=60)), ben


async def test_everybody_lives(fleet: Fleet, tenant: Tenant) -> None:
    prom, ben = await on_call(tenant)
    began = time.monotonic()
    incident = await prom.triggers("db down")
    page = await ben.is_paged(incident, level=2)
    await says(fleet, tenant, incident)
    tell("ana has no contact method", alert_to_ben_ms=round((page.at - began) * 1000))


@pytest.mark.parametrize(
    ("service", "table", "event"),
    [
        ("notify", "outbox", "INSERT"),  # it knows, and has not written it down
        pytest.param("notify", "outbox", "UPDATE", marks=pytest.mark.long),  # it has stored it, and has not reported it
        ("escalation", "escalations", "UPDATE OF level"),  # it was told, and has not committed
        pytest.param(
            "notify", "outbox", "DELETE", marks=pytest.mark.long
        ),  # it has told, and does not know that it has
    ],
)
async def test_a_process_dies_between_the_page_and_the_next_level(
    fleet: Fleet, tenant: Tenant, service: str, table: str, event: str
) -> None:
    prom, ben = await on_call(tenant)
    row = "OLD" if event == "DELETE" else "NEW"
    when = f"{row}.org_id = '{tenant.org_id}'" + (" AND NEW.level = 2" if table == "escalations" else "")
    async with fleet.breakpoint(service, table, event, when) as point:
        incident = await prom.triggers("db down")
        died = await kill(point)
    page = await ben.is_paged(incident, level=2)
    await fleet.orphans_come_due()  # and what the dead held is delivered once more
    await fleet.until("notify", "SELECT NOT EXISTS (SELECT FROM outbox WHERE org_id = $1)", tenant.org_id)
    await says(fleet, tenant, incident)
    tell(
        f"{service} dies at {event} of {table}, ana has no contact method",
        after_death_ms=round((page.at - died) * 1000),
    )


async def kill(point: Breakpoint) -> float:
    (await point.reached()).kill()
    return time.monotonic()


async def says(fleet: Fleet, tenant: Tenant, incident: str) -> None:
    """The timeline tells the whole story, each line of it once."""
    id = incident.removeprefix("incidents/")
    sent = "SELECT count(*) > 0 FROM timeline WHERE incident_id = $1 AND kind = 'page_sent'"
    await fleet.until("escalation", sent, id)
    assert [entry.message for entry in await tenant.timeline(incident)] == STORY
