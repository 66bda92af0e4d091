"""Scheduled messages: made and cancelled, a million that wait, ten thousand that are due at one instant.

notify runs as its own process on PostgreSQL with fsync, and so does the mail server. The processor time of each is what the kernel
counts for it. BENCH_PARTS names parts to run instead of all: calls, due, pending. Floors: of the calls,
as many calls that read nothing but an empty list; of batches, 5,000 messages per second; of what waits, the same process without
any; of what is due, 5 seconds; of the pages beside, their latency before, and their latency beside processes that only burn as much
processor time as what is due took.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import asyncpg
import grpc
from redis.asyncio import Redis
from tocsin.notify.v1 import message_service_pb2 as pb
from tocsin.notify.v1 import notification_pb2
from tocsin.notify.v1.message_service_pb2_grpc import MessageServiceStub
from tocsin_kit.auth import SigningKeys, mint
from tocsin_testkit.busy import until

from tests.bench.bench_notify_delivery import KEYS, Receiver, notify
from tests.bench.bench_notify_digests import DIGESTS, Pages, floor_seconds
from tests.bench.burners import burning
from tests.bench.mailbox import Mailbox
from tests.bench.processor import Watched, beyond
from tests.bench.report import report

PARTS: Final = os.environ.get("BENCH_PARTS", "calls,due,pending").split(",")
CALLS: Final = 10_000
AT_ONCE: Final = 100
BATCH: Final = 200
BATCHES_AT_ONCE: Final = 10
WANTED: Final = 5000.0
"""Messages per second that have to be possible."""
WAITING: Final = int(os.environ.get("BENCH_WAITING", "1000000"))
WATCHED_SECONDS: Final = 20.0
DUE: Final = DIGESTS
TENANTS: Final = 50
TIMES: Final = 3
"""One time has too few pages beside it for a 99th percentile."""
CALM: Final = 300
_INSERT: Final = """
INSERT INTO messages (id, org_id, sender, user_id, channel, address, subject, body, about, urgency, send_time)
SELECT gen_random_uuid(), 'org-' || number % $1, 'users/bench', '', 'email', 'u' || number || '@example.com', '', 'Standup.', '',
  'low', now() + $3::interval + number * $4::interval
FROM generate_series(0, $2 - 1) AS number
"""

_LEFT: Final = (
    "SELECT extract(epoch FROM min(send_time) - now()) FROM messages WHERE org_id = 'org-1' AND state = 'scheduled'"
)


async def main() -> None:
    receiver, mailbox = Receiver(), Mailbox()
    await asyncio.gather(receiver.start(), mailbox.start())
    around = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.port),
        "SMTP_CONNECTIONS": "50",
        "TENANT_RPCS_PER_SECOND": "1000000",
        "NOTIFY_TENANT_SCHEDULED_MESSAGES": "10000000",
        "NOTIFY_TENANT_ADDRESSED_MESSAGES_PER_MINUTE": "10000000",
        "NOTIFY_TENANT_NOTIFICATIONS_PER_MINUTE": "10000000",
        "NOTIFY_ORG_RATE": "0",
        "NOTIFY_RETENTION_DAYS": "400",
    }
    async with notify(receiver, **around) as (channel, admin):
        if "calls" in PARTS:
            await calls(channel)
        if "due" in PARTS:
            await due_at_once(channel, receiver, mailbox, admin)
        if "pending" in PARTS:
            await pending(admin)
    floor = await floor_seconds(mailbox)
    report(f"notify.scheduled: {DUE} mails by one session", floor, "s", floor, 1.0)
    await receiver.stop()
    await mailbox.stop()


async def calls(channel: grpc.aio.Channel) -> None:
    """Calls that are committed when they are answered."""
    token = mint(SigningKeys.parse(KEYS), org_id="org-0", subject="users/bench", scopes=("messages:write",), ttl=1800)
    metadata = (("authorization", f"Bearer {token}"),)
    reader = mint(SigningKeys.parse(KEYS), org_id="org-x", subject="users/bench", scopes=("messages:read",), ttl=1800)
    stub, nobody = MessageServiceStub(channel), (("authorization", f"Bearer {reader}"),)
    made: list[str] = []

    async def schedule() -> None:
        message = pb.Message(text="Standup.")
        message.address.channel, message.address.address = notification_pb2.CHANNEL_EMAIL, "ana@example.com"
        message.send_time.FromSeconds(int(time.time()) + 30 * 86_400)
        made.append((await stub.SendMessage(pb.SendMessageRequest(message=message), metadata=metadata)).message.name)

    async def cancel() -> None:
        answer = await stub.CancelMessage(pb.CancelMessageRequest(name=made.pop()), metadata=metadata)
        assert answer.in_time

    async def schedule_batch() -> None:
        batch = pb.BatchSendMessagesRequest()
        for number in range(BATCH):
            message = batch.messages.add(text="Standup.")
            message.address.channel, message.address.address = notification_pb2.CHANNEL_EMAIL, f"u{number}@example.com"
            message.send_time.FromSeconds(int(time.time()) + 30 * 86_400)
        answer = await stub.BatchSendMessages(batch, metadata=metadata)
        made.extend(each.name for each in answer.results)

    async def cancel_batch() -> None:
        names = [made.pop() for _ in range(BATCH)]
        answer = await stub.BatchCancelMessages(pb.BatchCancelMessagesRequest(names=names), metadata=metadata)
        assert all(each.cancelled.in_time for each in answer.results)

    async def nothing() -> None:
        await stub.ListMessages(pb.ListMessagesRequest(), metadata=nobody)

    await repeated(nothing, 1000)
    least, least_cpu = await repeated(nothing, CALLS)
    for name, call in (("scheduled", schedule), ("cancelled", cancel)):
        rate, cpu = await repeated(call, CALLS)
        report(f"notify.messages_{name}", rate, "calls/s", least, rate / least)
        report(f"notify.messages_{name}: processor time of a call", cpu, "ms", least_cpu, cpu / least_cpu)
    for name, call in (("scheduled", schedule_batch), ("cancelled", cancel_batch)):
        rate, cpu = await repeated(call, CALLS // BATCH, BATCHES_AT_ONCE)
        report(
            f"notify.messages_{name} in batches of {BATCH}", rate * BATCH, "messages/s", WANTED, rate * BATCH / WANTED
        )
        report(f"notify.messages_{name} in batches: processor time of one", cpu / BATCH, "ms", 1.0, cpu / BATCH)


async def repeated(call: Callable[[], Awaitable[None]], count: int, at_once: int = AT_ONCE) -> tuple[float, float]:
    """Calls per second, and milliseconds of notify's processor time for each."""

    async def lane() -> None:
        for _ in range(count // at_once):
            await call()

    began, cpu = time.monotonic(), processor_seconds()
    await asyncio.gather(*(lane() for _ in range(at_once)))
    return count / (time.monotonic() - began), (processor_seconds() - cpu) * 1000 / count


async def due_at_once(
    channel: grpc.aio.Channel, receiver: Receiver, mailbox: Mailbox, admin: asyncpg.Connection
) -> None:
    """From the instant until the last was handed to the mail server, with pages beside; a few times."""
    token = mint(SigningKeys.parse(KEYS), org_id="*", subject="services/bench", scopes=("internal",), ttl=1800)
    pages = Pages(channel, receiver, (("authorization", f"Bearer {token}"),))
    await pages.paced(lambda: pages.count < 50)
    pages.waits.clear()
    watched = Watched()
    await pages.paced(lambda: pages.count < 50 + CALM)
    in_calm, calm = watched.shares(), pages.waits
    took, beside = list[float](), list[float]()
    cpu, server, mails = processor_seconds(), mailbox.processor_seconds(), (await mailbox.now()).mails
    for _ in range(TIMES):
        mails += DUE
        await admin.execute(_INSERT, TENANTS, DUE, timedelta(seconds=15), timedelta())
        await armed(DUE)
        left = float(await admin.fetchval(_LEFT))
        instant, sending = time.monotonic() + left, asyncio.create_task(mailbox.until(mails))
        await asyncio.sleep(left)
        pages.waits, watched = [], Watched()
        await pages.paced(lambda sending=sending: not sending.done())  # type: ignore[misc]
        in_use, arrived = watched.shares(), sending.result()
        assert (arrived.mails, arrived.addresses) == (mails, DUE), "each of them once"
        took.append(arrived.time - instant)
        beside += pages.waits
    slowest, due = max(took), TIMES * DUE
    report(
        f"notify.scheduled: {DUE} due at one instant, handed over; the slowest of {TIMES}",
        slowest,
        "s",
        5.0,
        slowest / 5.0,
    )
    of_server = (mailbox.processor_seconds() - server) * 1000 / due
    report("notify.scheduled: processor time of the mail server for one", of_server, "ms", of_server, 1.0)
    each = (processor_seconds() - cpu) * 1000 / due
    report("notify.scheduled: processor time of one that is due", each, "ms", each, 1.0)
    pages.waits, count = [], pages.count + CALM
    async with burning(beyond(in_use, in_calm)):
        await pages.paced(lambda: pages.count < count)
    for name, place in (("p50", 49), ("p99", 98)):
        value, burned, least = (
            statistics.quantiles(waits, n=100)[place] * 1000 for waits in (beside, pages.waits, calm)
        )
        report(f"notify.submit_to_webhook_beside_scheduled.{name}", value, "ms", least, value / least)
        report(f"notify.submit_to_webhook_beside_burners.{name}", burned, "ms", least, burned / least)


async def pending(admin: asyncpg.Connection) -> None:
    """What a million that wait cost: processor time while nothing is due, and bytes of Redis."""
    redis = Redis.from_url(redis_url())
    idle = await watched()
    await redis.flushall()
    before = (await redis.info("memory"))["used_memory"]
    await admin.execute(_INSERT, TENANTS, WAITING, timedelta(days=1), timedelta(seconds=1))
    await redis.flushall()  # notify notices, and fills it from the rows
    while (size := (await redis.info("memory"))["used_memory"]) - before < 50 * WAITING or size != await still(redis):
        await asyncio.sleep(1)
    each = (size - before) / WAITING
    report(f"notify.scheduled: Redis for each of {WAITING} that wait", each, "bytes", 400.0, each / 400)
    await asyncio.sleep(5)
    share = await watched()
    report(f"notify.scheduled: part of a core while {WAITING} wait", share, "of a core", idle, share / idle)
    await redis.aclose()


async def armed(count: int) -> None:
    """Have notify make the timers of rows that were written beside it, as it does for messages that are made by RPC."""
    redis = Redis.from_url(redis_url())
    await redis.flushall()  # notify notices, and fills it from the rows

    async def enough() -> bool:
        return sum([await redis.zcard(key) async for key in redis.scan_iter(_type="zset")]) >= count

    await until(enough)
    await redis.aclose()


async def still(redis: Redis) -> int:
    """The same once more, two seconds later."""
    await asyncio.sleep(2)
    size: int = (await redis.info("memory"))["used_memory"]
    return size


async def watched() -> float:
    """The part of a core that notify uses."""
    began, cpu = time.monotonic(), processor_seconds()
    await asyncio.sleep(WATCHED_SECONDS)
    return (processor_seconds() - cpu) / (time.monotonic() - began)


def processor_seconds() -> float:
    """Of notify, since it began (proc(5): fields 14 and 15 of stat)."""
    fields = (_notify() / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def redis_url() -> str:
    """That of the running notify."""
    environment = (_notify() / "environ").read_bytes().split(b"\0")
    return next(each for each in environment if each.startswith(b"REDIS_URL=")).decode().partition("=")[2]


def _notify() -> Path:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and b"tocsin_notify" in (folder / "cmdline").read_bytes():
                return folder
        except OSError:
            continue  # it has ended
    raise LookupError("notify does not run")


if __name__ == "__main__":
    asyncio.run(main())
