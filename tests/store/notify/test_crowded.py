"""What cannot leave now, because as many calls are under way as there may be, hides nothing that can."""

import asyncio
import uuid
from typing import Any

import pytest
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_notify.domain.page import CRITICAL, Channel
from tocsin_notify.store.delivery import candidates

from tests.store.notify.messages import Sender, mail_to
from tests.store.notify.raw import Line, listening
from tests.store.notify.support import World, job, new_org, until

BUSY: dict[str, Any] = {
    "concurrency": 20,
    "critical_reserve": 5,
    "org_concurrency": 5,
    "shutdown_grace_seconds": 0.2,
    "attempt_timeout_seconds": 60.0,
    "lease_seconds": 90.0,
    "backoff_base_seconds": 3600.0,
    "backoff_cap_seconds": 3600.0,
    "circuit_probe_seconds": 600.0,
    "SMTP_CONNECTIONS": 2,
}


class SomeMailServer:
    """Refuses its first `refuses` sessions, and never says anything in the others."""

    def __init__(self, refuses: int) -> None:
        self.refuses = refuses
        self.hanging = 0

    async def __call__(self, line: Line) -> None:
        if self.refuses:
            self.refuses -= 1
            await line.say(b"421 not now\r\n")
            return
        self.hanging += 1
        await asyncio.Event().wait()


@pytest.mark.parametrize("fails_for_many", [False, True])
async def test_pages_behind_a_full_channel_leave_by_another_one(world: World, fails_for_many: bool) -> None:
    """The mail server hangs, and so many pages of its tenant wait for it that one look finds nothing else.

    If it also fails for many, the page behind them takes its user's next method.
    """
    org, mails = new_org(), SomeMailServer(refuses=5 if fails_for_many else 0)
    for number in range(25):
        await world.method(org, f"users/mail{number}", email=f"u{number}@example.com")
    email = await world.method(org, email="ana@example.com")
    hook = await world.method(org, webhook="ana")
    later = 300 if fails_for_many else 0
    async with listening(mails) as port:
        async with world.replica(works=False) as door:
            await door.set_rules(org, "users/ana", (pb.URGENCY_HIGH, email, 0), (pb.URGENCY_HIGH, hook, later))
            await door.submit(*(job(org, user=f"users/mail{number}") for number in range(25)))
            await door.submit(job(org))
        async with world.replica(**BUSY, SMTP_PORT=port):
            await until(lambda: world.arrived("ana") == 1 and mails.hanging > 0)


async def test_messages_behind_a_full_channel_leave_by_another_one(world: World) -> None:
    """More mails are due than a round takes of them, at a server that says nothing."""
    org, mails = new_org(), SomeMailServer(refuses=0)
    await world.method(org, webhook="ana")
    async with world.replica(works=False) as door:
        sender = Sender(door, world, org)
        for number in range(25):
            await sender.send(address=mail_to(f"u{number}@example.com"))
        await sender.send(user="users/ana")
    async with listening(mails) as port, world.replica(**BUSY, SMTP_PORT=port):
        await until(lambda: world.arrived("ana") == 1 and mails.hanging > 0)


async def test_a_round_goes_on_behind_the_last_tenant_it_looked_at(world: World) -> None:
    """Although nothing of that one is due: else the tenants behind it would not be looked at until it is."""
    first, second, third = sorted(new_org() for _ in range(3))
    async with world.replica(works=False) as notify:
        for org in (first, second, third):
            await world.method(org, webhook=org)
            await notify.submit(job(org))
        await world.admin.execute(
            "UPDATE notifications SET due_time = app_now() + interval '1 hour' WHERE org_id = $1", second
        )
        database = notify.runtime.database

        async def look(after: str, *but_channels: Channel, beyond: int = 10) -> tuple[list[str], str, bool]:
            async with database.system() as tx:
                found = await candidates.due(
                    tx, CRITICAL, after_org=after, orgs=2, per_org=5, beyond=beyond, but_channels=but_channels
                )
            return [each.org_id for each in found.rows], found.last, found.cut

        assert await look("") == ([first], second, False)
        assert await look(second) == ([third], "", False)
        assert await look("", Channel.WEBHOOK) == ([], second, False)
        for _ in range(5):
            await notify.submit(job(first, uuid.uuid4()))
        assert await look("", beyond=1) == ([first] * 3, second, True), "two of each tenant, and so many more"
        assert await look("") == ([first] * 5, second, False), "all that one tenant may take"


async def test_what_a_dead_replica_left_is_taken_in_turns(world: World) -> None:
    org, other = sorted(new_org() for _ in range(2))
    async with world.replica(works=False) as notify:
        for each, pages in ((org, 3), (other, 1)):
            await world.method(each, webhook=each)
            for _ in range(pages):
                await notify.submit(job(each, uuid.uuid4()))
        await world.admin.execute(
            """UPDATE notifications SET state = 'sending', attempts = 1, tries = 1, due_time = NULL,
                 lease_until = app_now() - make_interval(secs => CASE org_id WHEN $1 THEN 60 ELSE 1 END)""",
            org,
        )
        async with notify.runtime.database.system() as tx:
            found = await candidates.expired(tx, 2)
        assert [each.org_id for each in found] == [org, other]
