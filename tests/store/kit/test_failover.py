"""Sessions that cannot write, hosts that change their roles, connections that grow old: on real servers."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import asyncpg
import grpc
import pytest
from tocsin_kit.db import connections, dialing
from tocsin_kit.db.dialing import dial, hosts_of
from tocsin_kit.db.migrations import upgrade
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch
from tocsin_testkit.busy import within
from tocsin_testkit.databases import dialed

from .conftest import MIGRATIONS

Eventually = Callable[..., Awaitable[None]]
READ_ONLY = "default_transaction_read_only"


async def alter(server: Postgres, *statements: str) -> None:
    admin = await asyncpg.connect(server.admin_url)
    try:
        for statement in statements:
            await admin.execute(statement)
    finally:
        await admin.close()


async def become_read_only(server: Postgres) -> None:
    await alter(server, f"ALTER SYSTEM SET {READ_ONLY} = on", "SELECT pg_reload_conf()")


async def become_writable(server: Postgres) -> None:
    # The session that does it is read-only itself, and its ALTER SYSTEM is allowed in any case.
    await alter(server, f"ALTER SYSTEM RESET {READ_ONLY}", "SELECT pg_reload_conf()")


async def write(db: Database) -> int:
    async with db.transaction("a") as tx:
        await tx.execute("INSERT INTO widgets (org_id, name) VALUES ('a', gen_random_uuid()::text)")
        port: int = await tx.fetchval("SELECT inet_server_port()")
        return port


async def refused(db: Database) -> bool:
    """Whether a write is answered UNAVAILABLE. Any other error fails the test."""
    try:
        await write(db)
    except TocsinError as error:
        if error.code is not grpc.StatusCode.UNAVAILABLE:
            raise
        return True
    return False


async def accepted(db: Database) -> bool:
    """Whether a write is taken. If a new session takes long to open, it is told UNAVAILABLE meanwhile."""
    return not await refused(db)


@pytest.fixture
async def writable_again(postgres: Postgres) -> AsyncIterator[None]:
    yield
    await become_writable(postgres)


async def test_a_server_that_becomes_read_only_is_away_and_its_return_is_noticed_soon(
    db: Database, postgres: Postgres, eventually: Eventually, writable_again: None
) -> None:
    await write(db)
    await become_read_only(postgres)
    await eventually(lambda: refused(db))  # the reload reaches the sessions one after the other
    with pytest.raises(TocsinError, match=r"cannot be reached|read-only") as caught:
        await db.ping()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert await refused(db), "also without a session of the old kind"
    await become_writable(postgres)
    began = time.monotonic()
    await eventually(lambda: accepted(db))
    assert time.monotonic() - began < within(3.0)
    await db.ping()


async def test_a_session_that_cannot_write_is_closed_and_the_call_served_by_another(open_database: Any) -> None:
    db = await open_database(size=1)
    await write(db)
    connection = await db._connections.acquire()
    await connection.execute(f"SET {READ_ONLY} = on")
    db._connections.release(connection)
    await write(db)
    assert connection.is_closed()


async def test_a_pooler_that_moved_the_session_to_a_standby_is_noticed_by_the_servers_error(
    open_database: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a pooler the server's reports do not arrive: the first statement's error, or the ping, tells."""
    monkeypatch.setattr("tocsin_kit.db.sessions.is_read_only", lambda connection: False)
    db = await open_database(size=1)
    for call in (write, Database.ping):
        await write(db)
        connection = await db._connections.acquire()
        await connection.execute(f"SET {READ_ONLY} = on")
        db._connections.release(connection)
        with pytest.raises(TocsinError, match="read-only") as caught:
            await call(db)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert connection.is_closed()
        await eventually(lambda: accepted(db))


@pytest.mark.parametrize(
    "code", ["53100", "53200", "53300", "53400", "57014", "57P01", "55006", "58030", "XX000", "0A000", "26000", "08006"]
)
async def test_a_session_that_met_a_failure_of_the_server_is_replaced(
    open_database: Any, eventually: Eventually, code: str
) -> None:
    db = await open_database(size=1)

    async def fail() -> int:
        async with db.transaction("a") as tx:
            pid: int = await tx.fetchval("SELECT pg_backend_pid()")
            pids.append(pid)
            await tx.execute(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$")
        raise AssertionError("unreachable")

    pids: list[int] = []
    for _ in range(2):
        with pytest.raises(TocsinError) as caught:
            await fail()
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert pids[0] != pids[1]
    await eventually(lambda: accepted(db))


async def test_connections_are_replaced_at_their_age_and_not_all_at_once(
    open_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = await open_database(size=1, max_age=100.0)

    async def pid() -> int:
        async with db.system() as tx:
            number: int = await tx.fetchval("SELECT pg_backend_pid()")
            return number

    first = await pid()
    assert await pid() == first
    with monkeypatch.context() as later:
        later.setattr(connections, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 101.0))
        assert await pid() != first
    many = await open_database(size=20, max_age=100.0)
    lent = [await many._connections.acquire() for _ in range(20)]
    ages = sorted(many._connections._expiry.values())
    for connection in lent:
        many._connections.release(connection)
    assert ages[-1] - ages[0] > 5, "they end at different times"


def test_a_url_with_several_hosts() -> None:
    assert hosts_of("postgresql://u:p%40@a:1,b,[::1]:3/name?x=1") == [
        "postgresql://u:p%40@a:1/name?x=1",
        "postgresql://u:p%40@b/name?x=1",
        "postgresql://u:p%40@[::1]:3/name?x=1",
    ]
    assert hosts_of("postgresql:///name?host=/run/pg") == ["postgresql:///name?host=/run/pg"]


@pytest.fixture(scope="module")
async def pair() -> AsyncIterator[tuple[Postgres, Postgres, str]]:
    """Two servers with one database's name and password, and the URL that names both."""
    with scratch("kit-pair-") as folder:
        servers = Postgres(folder / "one", fsync=False), Postgres(folder / "two", fsync=False)
        try:
            for server in servers:
                await server.start()
                await server.ensure_database("app", "app")
                await alter(server, "ALTER ROLE app PASSWORD 'same'")
            hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
            yield *servers, f"postgresql://app:same@{hosts}/app"
        finally:
            for server in servers:
                server.kill()


async def test_the_host_that_can_write_is_followed_by_pool_and_migrations(
    pair: tuple[Postgres, Postgres, str], eventually: Eventually
) -> None:
    one, two, url = pair
    await become_read_only(one)
    assert await upgrade(url, MIGRATIONS), "only the second server takes a migration"
    assert not await upgrade(url, MIGRATIONS)
    db = await dialed(url, name="pair", size=3)
    try:
        assert await write(db) == two.port
        await become_writable(one)
        assert await upgrade(f"postgresql://app:same@127.0.0.1:{one.port}/app", MIGRATIONS)
        await become_read_only(two)
        began = time.monotonic()

        async def moved() -> bool:
            return await accepted(db) and await write(db) == one.port

        await eventually(moved)
        assert time.monotonic() - began < within(5.0)
        await db.ping()

        two.pause()  # a host that is silent delays no call for longer than a moment
        try:
            backwards = f"postgresql://app:same@127.0.0.1:{two.port},127.0.0.1:{one.port}/app"
            began = time.monotonic()
            connection = await dial(backwards, name="backwards")
            # The host that is silent would be waited for until the dial's own limit of 5 s.
            assert time.monotonic() - began < within(dialing._STAGGER + 2.0)
            await connection.close()
        finally:
            two.resume()
        two.kill()  # and one that refuses, not at all
        await (await dial(backwards, name="backwards")).close()
    finally:
        await db.close()


async def test_no_host_can_write(pair: tuple[Postgres, Postgres, str]) -> None:
    one, _, _ = pair
    await become_read_only(one)
    try:
        with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
            await dial(f"postgresql://app:same@127.0.0.1:{one.port}/app", name="none")
    finally:
        await become_writable(one)
