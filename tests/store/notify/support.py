"""Notify on real servers: databases cloned from a migrated template, Valkey, SMTP, HTTP, whole replicas in this process."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import asyncpg
import grpc
import pytest
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin_notify.app.delivery import looks
from tocsin_notify.wiring import delivery
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch
from tocsin_stack.valkey import Valkey
from tocsin_testkit.busy import until, within
from tocsin_testkit.hooks import HookServer
from tocsin_testkit.inbox import Inbox
from tocsin_testkit.mail import MailServer
from tocsin_testkit.notify_world import (
    CRITICAL,
    KEYS,
    SECRET,
    WARNING,
    Notify,
    bearer,
    internal,
    job,
    new_org,
    operator,
)
from tocsin_testkit.notify_world import (
    NotifyWorld as World,
)

from tests.store.emptied import Emptied

__all__ = [
    "ALLOWED",
    "CRITICAL",
    "KEYS",
    "SECRET",
    "WARNING",
    "Notify",
    "World",
    "bearer",
    "database_url",
    "emptied",
    "hooks",
    "inbox",
    "internal",
    "job",
    "looks_often",
    "mail",
    "new_org",
    "notify",
    "operator",
    "reads",
    "redis_url",
    "refused",
    "shared_valkey",
    "until",
    "world",
]

MIGRATIONS = Path(__file__).parents[3] / "services/notify/migrations"
_TEMPLATE = "tocsin_notify"
_LOOK_SECONDS: Final = 0.2
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
async def shared_valkey() -> AsyncIterator[Valkey]:
    """One server for all tests that do not stop it; each uses a database number of its own."""
    with scratch("tocsin-notify-valkey-") as folder:
        server = Valkey(folder, appendonly=False, extra=("--databases", "1000"))
        await server.start()
        yield server
        await server.stop()


@pytest.fixture(scope="session")
async def emptied(postgres: Postgres) -> AsyncIterator[Emptied]:
    databases = Emptied(postgres, _TEMPLATE, "notify")
    yield databases
    await databases.close()


@pytest.fixture
async def database_url(emptied: Emptied) -> AsyncIterator[str]:
    """An empty, migrated database."""
    async with emptied.lent() as url:
        yield url


@pytest.fixture
async def redis_url(shared_valkey: Valkey) -> str:
    """An empty Redis."""
    return f"{shared_valkey.url.rpartition('/')[0]}/{next(_numbers)}"


@pytest.fixture
async def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def mail(inbox: Inbox) -> AsyncIterator[MailServer]:
    server = MailServer(inbox)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def hooks(inbox: Inbox) -> AsyncIterator[HookServer]:
    server = HookServer(inbox)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests move the time of the database, and replicas see it at their next look: not after a second each time."""
    monkeypatch.setattr(looks, "_LOOK_SECONDS", _LOOK_SECONDS)
    monkeypatch.setattr(delivery, "_DUE_SECONDS", _LOOK_SECONDS)


@pytest.fixture
async def world(
    database_url: str, redis_url: str, inbox: Inbox, mail: MailServer, hooks: HookServer, looks_often: None
) -> AsyncIterator["World"]:
    """Everything a replica needs, and none started yet."""
    admin = await asyncpg.connect(database_url, server_settings={"tocsin.org_id": "*"})
    world = World(database_url, redis_url, admin, inbox, mail, hooks)
    await world.escalation.start()
    yield world
    await world.escalation.stop()
    await admin.close()


@pytest.fixture
async def notify(world: "World") -> AsyncIterator["Notify"]:
    """One replica."""
    async with world.replica() as replica:
        yield replica


async def reads(notify: Notify, org: str, user: str, language: str) -> None:
    """They choose their language."""
    chosen = contact_pb.NotificationSettings(user=user, language=language)
    request = contact_pb.UpdateNotificationSettingsRequest(notification_settings=chosen)
    await notify.contacts.UpdateNotificationSettings(request, metadata=bearer(org, subject=user))


async def refused(world: World, org: str, pages: int = 1) -> None:
    """So many wait for their second attempt.

    A page is pending before its first one, too: what is not tried yet would be refused after the time was moved, and wait from
    then on.
    """

    async def there() -> bool:
        return len(await world.states("org_id = $1 AND state = 'pending' AND tries = 1", org)) == pages

    await until(there)


class _Allowed:
    """A permit for channels that are tested by themselves."""

    async def begin(self, call: Callable[[], Awaitable[Any]], *, repeat: bool = False) -> Any:
        return await call()


ALLOWED = _Allowed()


async def insists(call: Callable[[], Awaitable[object]]) -> None:
    """Until it is OK, as escalation does: on a busy machine a session may be ended, or a cancel be told to come again."""
    async with asyncio.timeout(within(60.0)):
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                    raise
                await asyncio.sleep(0.1)
            else:
                return


async def waits_for_a_lock(world: World) -> bool:
    """Whether a session waits for an advisory lock: a cancel for the gate."""
    return bool(await world.admin.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
