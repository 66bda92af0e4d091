"""Messages that were appended and not delivered: read, rewritten, hurried and confirmed by the service that appended them.

All of it without row security, so that only the statements themselves keep the tenants apart.
"""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from tocsin_kit.db import outbox
from tocsin_kit.db.dialing import Connection
from tocsin_kit.db.pool import Database
from tocsin_kit.db.tx import Tx
from tocsin_stack.postgres import Postgres

KIND = "thing"


@pytest.fixture
def admin_url(postgres: Postgres, url: str) -> str:
    """The test's database, as a role that sees all tenants."""
    return postgres.url(url.rpartition("/")[2])


@pytest.fixture
async def connection(admin_url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(admin_url)
    yield opened
    await opened.close()


@pytest.fixture
def tx(connection: Connection) -> Tx:
    """Of the tenant `a`."""
    return Tx(connection, "a")


async def put(
    tx: Tx, *messages: tuple[str, str], org_id: str = "a", kind: str = KIND, delay: float = 60.0
) -> list[int]:
    return await outbox.append_mixed(tx, [(kind, org_id, key, text.encode(), delay) for key, text in messages])


async def payloads(tx: Tx) -> list[bytes]:
    return [row["payload"] for row in await tx.fetch("SELECT payload FROM outbox ORDER BY id")]


async def due(tx: Tx) -> set[bytes]:
    return {row["payload"] for row in await tx.fetch("SELECT payload FROM outbox WHERE due_time <= app_now()")}


async def test_pending_messages_are_those_of_the_tenant_the_kind_and_the_keys_in_order(tx: Tx) -> None:
    [first] = await put(tx, ("k", "1"))
    await put(tx, ("k", "foreign"), org_id="b")
    await put(tx, ("k", "other kind"), kind="other")
    [dead, _, second] = await put(tx, ("k", "dead"), ("", "no key"), ("m", "2"))
    await tx.execute("UPDATE outbox SET dead_time = app_now() WHERE id = $1", dead)
    await tx.execute("UPDATE outbox SET attempts = 1, lease_until = app_now() WHERE id = $1", first)
    assert await outbox.pending_of(tx, KIND, ["m", "k", "", "unknown"]) == [(first, b"1"), (second, b"2")]


async def test_confirmed_messages_go_with_their_tenants_and_wake_what_waits_behind_them(tx: Tx, db: Database) -> None:
    nudges: list[int] = []
    confirmed = outbox.Confirmed(db, lambda: nudges.append(1))
    [alone] = await put(tx, ("alone", "1"))
    [foreign] = await put(tx, ("k", "foreign"), org_id="b")
    confirmed.note([(alone, "a"), (foreign, "a")])
    await confirmed.drain()
    assert (await payloads(tx), nudges) == ([b"foreign"], [])
    [first, _] = await put(tx, ("k", "1"), ("k", "behind"))
    confirmed.note([(first, "a")])
    await confirmed.drain()
    assert (await payloads(tx), nudges) == ([b"foreign", b"behind"], [1])


async def test_a_database_that_is_away_leaves_confirmed_messages_to_the_relay(tx: Tx, db: Database) -> None:
    [row] = await put(tx, ("k", "1"))
    confirmed = outbox.Confirmed(db, lambda: None)
    await db.close()
    confirmed.note([(row, "a")])
    await confirmed.drain()
    assert await payloads(tx) == [b"1"]


async def test_what_has_not_been_tried_is_hurried(tx: Tx) -> None:
    await put(tx, ("k", "waits"), ("m", "another key"))
    await put(tx, ("k", "foreign"), org_id="b")
    await put(tx, ("k", "other kind"), kind="other")
    [tried] = await put(tx, ("k", "tried"))
    await tx.execute("UPDATE outbox SET attempts = 1 WHERE id = $1", tried)
    await outbox.hurry(tx, KIND, ["k", "", "unknown"])
    assert await due(tx) == {b"waits"}


async def test_a_message_is_rewritten_until_its_delivery_begins(tx: Tx, admin_url: str) -> None:
    [first, second, taken, tried] = await put(tx, ("k", "1"), ("k", "2"), ("k", "taken"), ("k", "tried"))
    [foreign] = await put(tx, ("k", "foreign"), org_id="b")
    await tx.execute("UPDATE outbox SET attempts = 1 WHERE id = $1", tried)
    relay = await asyncpg.connect(admin_url)
    try:
        async with relay.transaction():
            await relay.execute("SELECT FROM outbox WHERE id = $1 FOR UPDATE", taken)
            found = await tx.fetch(outbox.lock_untried(KIND, "$2::text[]"), "a", ["k"])
    finally:
        await relay.close()
    assert [tuple(row) for row in found] == [(first, "k", b"1"), (second, "k", b"2")]
    rewrite = outbox.rewrite_from(
        "SELECT $1::text AS org_id, * FROM unnest($2::bigint[], $3::bytea[], $4::boolean[]) AS u (id, payload, urgent)"
    )
    await tx.execute(rewrite, "a", [first, second, foreign], [b"one", b"two", b"mine"], [True, False, True])
    assert await payloads(tx) == [b"one", b"two", b"taken", b"tried", b"foreign"]
    assert await due(tx) == {b"one"}


async def test_a_statement_of_another_table_sees_whether_messages_are_on_their_way(tx: Tx) -> None:
    await tx.execute(
        "INSERT INTO widgets (org_id, name) VALUES ('a', 'k'), ('a', 'm'), ('a', 'dead'), ('a', ''), ('b', 'k')"
    )
    [_, dead, _] = await put(tx, ("k", "1"), ("dead", "2"), ("", "3"))
    await tx.execute("UPDATE outbox SET dead_time = app_now() WHERE id = $1", dead)
    condition = outbox.on_its_way("widgets.name", "widgets.org_id")
    found = await tx.fetch(f"SELECT org_id, name FROM widgets WHERE {condition}")
    assert [tuple(row) for row in found] == [("a", "k")]


async def test_a_larger_statement_appends_at_once_or_later(tx: Tx) -> None:
    row = "SELECT 'a' AS org_id, '' AS ordering_key, 'thing' AS kind, 'x'::bytea AS payload"
    await tx.execute(outbox.insert_from(row))
    await tx.execute(outbox.insert_from(f"{row}, 60.0::float8 AS delay", delayed=True))
    rows = await tx.fetch("SELECT due_time - create_time AS wait FROM outbox ORDER BY id")
    assert [row["wait"].total_seconds() for row in rows] == [0.0, 60.0]
