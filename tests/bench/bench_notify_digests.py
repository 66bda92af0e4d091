"""10,000 digests that are due in one minute, and pages beside them.

notify runs as its own process on PostgreSQL with fsync, and so does the mail server; this process is escalation and the webhook of
the pages.
The floor of the time is one session that hands the same number of mails of that size to the same server; that of the pages is
their latency before the digests.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Final

import asyncpg
import grpc
from aiosmtplib import SMTP
from tocsin.escalation.v1.internal_service_pb2 import SummarizeForDigestsResponse
from tocsin.notify.v1 import digest_pb2
from tocsin.notify.v1 import internal_service_pb2 as pb
from tocsin.notify.v1.internal_service_pb2_grpc import NotifyInternalServiceStub
from tocsin_kit.auth import SigningKeys, mint
from tocsin_testkit.fake_escalation import FakeEscalation

from tests.bench.bench_notify_delivery import KEYS, Receiver, job, notify
from tests.bench.mailbox import Mailbox
from tests.bench.report import report

TENANTS: Final = 20
USERS: Final = 500
DIGESTS: Final = TENANTS * USERS
RATE: Final = 20.0
CALM: Final = 300
FLOOR: Final = 1000
_DUE: Final = """
WITH new AS (
  INSERT INTO contact_methods (id, org_id, user_id, display_name, channel, address, key_id, disabled, verify_time)
  SELECT gen_random_uuid(), 'org-' || number % $1, 'users/u' || number / $1, '', 'email', 'u' || number || '@example.com', '',
    false, now()
  FROM generate_series(0, $2 - 1) AS number RETURNING org_id, user_id
)
INSERT INTO digests (org_id, user_id, frequency, hour, weekday, time_zone, when_empty, next_time)
SELECT org_id, user_id, 'daily', extract(hour FROM now() AT TIME ZONE 'UTC'), 0, 'UTC', 'nothing', date_trunc('hour', now())
FROM new
"""


class Escalation(FakeEscalation):
    """Tells every user the same busy day."""

    async def SummarizeForDigests(self, request: object, context: object) -> SummarizeForDigestsResponse:
        titles = [f"KubePodCrashLooping checkout-{number} in production" for number in range(5)]
        return SummarizeForDigestsResponse(
            figures=digest_pb2.DigestFigures(
                opened=31,
                resolved=29,
                open=5,
                open_incidents=[digest_pb2.DigestIncident(title=title) for title in titles],
                noisiest=[digest_pb2.DigestNoise(title=title, incidents=3, alerts=9) for title in titles],
            ),
            people=[digest_pb2.DigestPerson(user=user, pages=2) for user in request.users],  # type: ignore[attr-defined]
        )


async def floor_seconds(mailbox: Mailbox) -> float:
    """For as many mails of the same size over one session, told from fewer."""
    session = SMTP(hostname="127.0.0.1", port=mailbox.port, start_tls=False)
    await session.connect()
    size = (await mailbox.now()).size
    mail = b"Subject: x\r\n\r\n" + b"x" * 70 * (size // 72) + b"\r\n"
    began = time.monotonic()
    for number in range(FLOOR):
        await session.sendmail("a@example.com", [f"u{number}@example.com"], mail)
    session.close()
    return (time.monotonic() - began) * DIGESTS / FLOOR


async def main() -> None:
    receiver, mailbox = Receiver(), Mailbox()
    await asyncio.gather(receiver.start(), mailbox.start())
    escalation = Escalation()  # type: ignore[abstract]
    await escalation.start()
    token = mint(SigningKeys.parse(KEYS), org_id="*", subject="services/bench", scopes=("internal",), ttl=1800)
    metadata = (("authorization", f"Bearer {token}"),)
    around = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.port),
        "ESCALATION_TARGET": f"127.0.0.1:{escalation.port}",
    }
    async with notify(receiver, **around) as (channel, admin):
        pages = Pages(channel, receiver, metadata)
        await pages.paced(lambda: pages.count < 50)  # connected, and compiled
        pages.waits.clear()
        await pages.paced(lambda: pages.count < 50 + CALM)
        calm = pages.waits
        pages.waits = []
        began = time.monotonic()
        await due(admin)
        sending = asyncio.create_task(mailbox.until(DIGESTS))
        await pages.paced(lambda: not sending.done())
        took = sending.result().time - began
        beside = pages.waits
        digests = await admin.fetchval("SELECT count(*) FROM pages WHERE type = 'digest'")
        assert digests == DIGESTS == (await mailbox.now()).mails
    floor = await floor_seconds(mailbox)
    report("notify.digests: 10,000 due in one minute, handed to the mail server", took, "s", floor, took / floor)
    for name, place in (("p50", 49), ("p99", 98)):
        value = statistics.quantiles(beside, n=100)[place] * 1000
        least = statistics.quantiles(calm, n=100)[place] * 1000
        report(f"notify.submit_to_webhook_beside_digests.{name}", value, "ms", least, value / least)
    await escalation.stop()
    await receiver.stop()
    await mailbox.stop()


async def due(admin: asyncpg.Connection) -> None:
    """All of them at once."""
    await admin.execute(_DUE, TENANTS, DIGESTS)


class Pages:
    """One page after another, at a rate."""

    def __init__(self, channel: grpc.aio.Channel, receiver: Receiver, metadata: tuple[tuple[str, str], ...]) -> None:
        self._submit = NotifyInternalServiceStub(channel).SubmitNotifications
        self._receiver = receiver
        self._metadata = metadata
        self.count = 0
        self.waits: list[float] = []
        """From the submit of each to its webhook."""

    async def paced(self, more: Callable[[], bool]) -> None:
        due = time.monotonic()
        while more():
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            one = job(f"u{self.count % 50}")
            sent = time.monotonic()
            await self._submit(pb.SubmitNotificationsRequest(jobs=[one]), metadata=self._metadata)
            while one.page not in self._receiver.arrivals:
                await self._receiver.until(self._receiver.count + 1)
            self.waits.append(self._receiver.arrivals[one.page] - sent)
            self.count += 1


if __name__ == "__main__":
    asyncio.run(main())
