"""A storm of pages for one person, and what becomes of it."""

import uuid
from datetime import timedelta
from typing import Any

from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_testkit.received import Received

from tests.store.notify.support import WARNING, Notify, World, job, until

TWO: dict[str, Any] = {"storm_pages": 2, "storm_window_seconds": 300.0, "storm_collect_seconds": 30.0}
PUBLIC = "https://tocsin.example.com"
COLLECTED = timedelta(seconds=31)
SENT = escalation_pb.PAGE_OUTCOME_KIND_SENT
DELAYED = escalation_pb.PAGE_OUTCOME_KIND_DELAYED
FAILED = escalation_pb.PAGE_OUTCOME_KIND_FAILED


def bundles(world: World, address: str = "ana") -> list[Received]:
    return [each for each in world.inbox.messages if each.kind == "bundle" and each.address == address]


async def storm(notify: Notify, org: str, *severities: int, user: str = "users/ana") -> list[pb.NotificationJob]:
    """So many pages, each of another incident; the first two are sent by themselves."""
    jobs = [job(org, uuid.uuid4(), user=user, severity=severity) for severity in severities]
    for each in jobs:
        await notify.submit(each)
    return jobs


async def delayed_bundle(world: World, notify: Notify, org: str, answers: list[Any]) -> list[pb.NotificationJob]:
    """Two pages, and two more in one message, which the provider answers like this and which then waits."""
    jobs = await storm(notify, org, WARNING, WARNING)
    await until(lambda: world.arrived("ana") == 2)
    jobs += await storm(notify, org, WARNING, WARNING)
    world.hooks.will_answer("ana", answers)
    await world.forward(COLLECTED)
    await until(lambda: len(outcomes(world, DELAYED)) == 2)
    return jobs


def incident_of(page: pb.NotificationJob) -> uuid.UUID:
    return uuid.UUID(page.incident.rpartition("/")[2])


def outcomes(world: World, kind: int) -> dict[str, str]:
    """Pages of which this was told, each with the reason."""
    return {each.page: each.reason for each in world.escalation.outcomes if each.kind == kind}


async def nothing_collects(world: World) -> bool:
    return not await world.admin.fetch("SELECT FROM paces WHERE bundle IS NOT NULL")
