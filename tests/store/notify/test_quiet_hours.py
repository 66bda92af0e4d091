"""Quiet hours: pages of low urgency wait until they end, high urgency never does, and nothing that was answered is sent."""

import asyncio
import uuid
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import internal_service_pb2 as internal_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1.severity_pb2 import SEVERITY_ERROR, SEVERITY_INFO
from tocsin.type.v1.weekday_pb2 import Weekday
from tocsin_kit.db.pool import Tx
from tocsin_notify.app.delivery.failures import Failures
from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.app.pages.bundles import Bundles
from tocsin_notify.domain.attempt import RetryPolicy
from tocsin_notify.domain.bundling import BundlePolicy
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.named import Named
from tocsin_notify.store.pages import bundles
from tocsin_notify.store.pages.bundles import BundledPage

from tests.store.notify.support import WARNING, Notify, World, bearer, internal, job, new_org, until

ANA, BEN = "users/ana", "users/ben"
OVER = timedelta(minutes=61)


def incident_of(page: pb.NotificationJob) -> uuid.UUID:
    return uuid.UUID(page.incident.rpartition("/")[2])


async def choose(notify: Notify, org: str, user: str, *windows: contact_pb.QuietWindow) -> None:
    """The user's quiet hours; none for an empty user."""
    quiet = contact_pb.QuietHours(time_zone="UTC" if windows else "", windows=windows)
    chosen = contact_pb.NotificationSettings(user=user, quiet_hours=quiet)
    request = contact_pb.UpdateNotificationSettingsRequest(notification_settings=chosen)
    await notify.contacts.UpdateNotificationSettings(request, metadata=bearer(org, subject=user))


async def now_quiet(world: World, *, after: int = -60) -> contact_pb.QuietWindow:
    """From an hour ago (or `after` so many minutes) for two hours, in UTC."""
    now: datetime = await world.admin.fetchval("SELECT app_now()")
    start, end = now + timedelta(minutes=after), now + timedelta(minutes=after + 120)
    return contact_pb.QuietWindow(days=Weekday.values()[1:], start=f"{start:%H:%M}", end=f"{end:%H:%M}")


async def reason(world: World, page: pb.NotificationJob) -> tuple[str, str]:
    """State and reason of the page's one notification."""
    row = await world.row(
        "SELECT state, state_reason FROM notifications WHERE page_id = $1", uuid.UUID(page.page.removeprefix("pages/"))
    )
    return row["state"], row["state_reason"]


async def waits_no_more(world: World) -> bool:
    return not await world.admin.fetch("SELECT FROM quiet_bundles")


async def test_low_urgency_waits_for_the_end_of_the_organisations_quiet_hours(world: World) -> None:
    org, other = new_org(), new_org()
    for tenant, user, path in [(org, ANA, "ana"), (org, BEN, "ben"), (org, "users/cem", "cem"), (other, ANA, "other")]:
        await world.method(tenant, user, webhook=path)
    async with world.replica(storm_pages=10) as notify:
        await choose(notify, org, "users/*", await now_quiet(world))
        await choose(notify, org, "users/cem")
        waiting = [job(org, severity=severity) for severity in (WARNING, SEVERITY_INFO, WARNING)]
        urgent, bens = job(org, severity=SEVERITY_ERROR), job(org, user=BEN, severity=WARNING)
        news = job(org, severity=WARNING, type=pb.NOTIFICATION_TYPE_RESOLUTION, level=0)
        others = [job(org, user="users/cem", severity=WARNING), job(other, severity=WARNING)]
        await notify.submit(*waiting, urgent, bens, news, *others)
        await until(lambda: [world.arrived(path) for path in ("ana", "cem", "other")] == [1, 1, 1])
        state, why = await reason(world, waiting[0])
        assert (state, why.partition(" at ")[0]) == ("bundled", "waits for the end of quiet hours")
        assert await reason(world, news) == (
            "cancelled",
            "not sent: it came within quiet hours, and is news of an incident of low urgency",
        )
        asked = internal_pb.ExplainDeliveriesRequest(org_id=org, incident=waiting[0].incident, user=ANA)
        told = await notify.internal.ExplainDeliveries(asked, metadata=internal())
        assert "in UTC" in told.quiet_hours
        assert told.notifications[0].state_reason == why
        assert (await notify.cancel(org, incident_of(waiting[1]))).cancelled == 1
        await world.forward(OVER)
        await until(lambda: world.arrived("ana") == 2 and world.arrived("ben") == 1)
        kinds = {each.address: (each.kind, each.subject) for each in world.inbox.messages}
        assert kinds["ana"][0] == "bundle"
        assert kinds["ana"][1].startswith("[warning] 2 pages that waited: 2 warning, the oldest since")
        assert kinds["ben"] == ("new_incident", "[warning] Disk full on db-1 (level 1)"), "one page is sent as it is"
        await until(partial(waits_no_more, world))
        assert await reason(world, waiting[1]) == ("cancelled", "acknowledged by users/ana")


async def test_what_waits_is_sent_when_quiet_hours_are_given_up_or_its_urgency_rises(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    await world.method(org, BEN, webhook="ben")
    async with world.replica() as notify:
        window = await now_quiet(world)
        for user in (ANA, BEN):
            await choose(notify, org, user, window)
        bens = job(org, user=BEN, severity=WARNING)
        await notify.submit(job(org, severity=WARNING), job(org, severity=WARNING), bens)
        await choose(notify, org, ANA, window, await now_quiet(world, after=30))
        await notify.cancel(org, incident_of(bens), reason="superseded: the severity was raised")
        await notify.submit(job(org, incident_of(bens), user=BEN, severity=SEVERITY_ERROR, generation=2))
        await until(lambda: world.arrived("ben") == 1)
        assert (await reason(world, bens))[0] == "cancelled"
        await world.forward(OVER)
        due = "SELECT FROM quiet_bundles WHERE user_id = $1 AND due_time > app_now() + interval '1 hour'"

        async def put_off() -> bool:
            return bool(await world.admin.fetch(due, ANA))

        await until(put_off)
        assert world.arrived("ana") == 0, "the quiet hours were made longer"
        await choose(notify, org, ANA)
        await until(lambda: world.arrived("ana") == 2)
        assert {each.kind for each in world.inbox.messages} == {"new_incident"}, (
            "nothing is bundled in this installation"
        )


async def test_what_is_answered_while_it_is_being_sent_at_the_end_of_quiet_hours_does_not_ring(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender has read the pages of the bundle as true, and commits its message once the last of them is acknowledged."""
    org = new_org()
    await world.method(org, webhook="ana")
    read, go, real = asyncio.Event(), asyncio.Event(), bundles.members

    async def slow(tx: Tx, named: Collection[Named]) -> dict[uuid.UUID, list[BundledPage]]:
        found = await real(tx, named)
        read.set()
        await go.wait()
        return found

    hints: Any = SimpleNamespace(now=lambda ids: None, arm=lambda later: None)
    async with world.replica(works=False) as notify:
        await choose(notify, org, "users/*", await now_quiet(world))
        waiting = [job(org, severity=WARNING) for _ in range(2)]
        await notify.submit(*waiting)
        await world.forward(OVER)
        monkeypatch.setattr(bundles, "members", slow)
        metrics = NotifyMetrics(CollectorRegistry())
        failures = Failures(RetryPolicy(), metrics, hints, lambda: None)
        sender = Bundles(
            notify.runtime.database, hints, metrics, failures, BundlePolicy(pages=10), PeopleFirst(), asyncio.Event()
        )
        sending = asyncio.create_task(sender())
        await read.wait()
        cancels = [asyncio.create_task(notify.cancel(org, incident_of(page))) for page in waiting]

        async def crossed() -> bool:
            held_up = await world.admin.fetch(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'"
            )
            return len(held_up) == len(cancels) or all(each.done() for each in cancels)

        await until(crossed)
        go.set()
        await asyncio.gather(sending, *cancels)
        assert await world.states("org_id = $1 AND incident = page_id", org) == ["cancelled"], (
            "the message of the bundle"
        )


async def test_steps_that_would_be_due_within_quiet_hours_wait_as_well(world: World) -> None:
    """Those of a page that came before, and a page through a chosen channel: it cannot be shown with others."""
    org = new_org()
    first = await world.method(org, webhook="ana")
    later = await world.method(org, webhook="later")
    async with world.replica() as notify:
        await notify.set_rules(org, ANA, (pb.URGENCY_LOW, first, 0), (pb.URGENCY_LOW, later, 600))
        await choose(notify, org, ANA, await now_quiet(world, after=5))
        await notify.submit(job(org, severity=WARNING))
        await until(lambda: world.arrived("ana") == 1)
        row = await world.row(
            """SELECT due_time > app_now() + interval '100 minutes' AS late, state_reason
               FROM notifications WHERE state = 'pending'"""
        )
        assert row["late"]
        assert row["state_reason"].startswith("waits for the end of quiet hours at")
        await world.forward(timedelta(minutes=10))
        chosen = job(org, severity=WARNING, channel_override=pb.CHANNEL_WEBHOOK)
        await notify.submit(chosen)
        states = await world.states("page_id = $1", uuid.UUID(chosen.page.removeprefix("pages/")))
        assert states == ["pending", "pending"]
        await world.forward(timedelta(minutes=130))
        await until(lambda: world.arrived("ana") == 2 and world.arrived("later") == 2)
