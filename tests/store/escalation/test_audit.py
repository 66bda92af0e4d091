"""The audit log on a real PostgreSQL: rows come with the change they tell of, and stay."""

import contextlib
import re
from collections.abc import Iterator
from datetime import timedelta

import asyncpg
import pytest
from google.protobuf.message import Message
from tocsin.escalation.v1 import directory_service_pb2 as dp
from tocsin.escalation.v1 import schedule_pb2
from tocsin.escalation.v1 import schedule_service_pb2 as sp
from tocsin_kit.auth import Principal
from tocsin_kit.db import audit
from tocsin_kit.db.audit import AuditRow, sweep_audit
from tocsin_kit.db.dialing import Connection, dial
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import once
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc import call
from tocsin_kit.rpc.call import Call, note_before
from tocsin_stack.postgres import tenant_url
from tocsin_testkit.clock import clock_is_ahead

from tests.store.test_plans import cached_plan

ORG = "acme"
ANA = dp.User(name="users/ana", display_name="Ana")


@contextlib.contextmanager
def calling(method: str = "tocsin.escalation.v1.DirectoryService/UpdateUser", org_id: str = ORG) -> Iterator[None]:
    """What runs inside serves this call of the users' administrator."""
    principal = Principal(org_id, "users/boss", frozenset(), "key-1")
    token = call._current.set(Call(method, principal, "0" * 31 + "1", None))
    try:
        yield
    finally:
        call._current.reset(token)


async def change(db: Database, request: Message, response: Message, before: Message | None = None) -> None:
    async def take() -> Message:
        if before is not None:
            note_before(before)
        return response

    async def work(tx: Tx) -> Message:
        return await once(tx, "UpdateUser", request, type(response), take)

    await db.run(ORG, work)


async def log(db: Database, org_id: str = ORG, **filters: str) -> list[AuditRow]:
    async with db.transaction(org_id) as tx:
        wanted = {"actor": "", "resource": "", **filters}
        return await audit.page(tx, wanted["actor"], wanted["resource"], None, None, None, 10)


async def test_a_change_has_one_entry_also_when_the_request_is_repeated(db: Database) -> None:
    renamed = dp.User(name="users/ana", display_name="Ann")
    request = dp.UpdateUserRequest(request_id="6f1c2a52-8f0e-4bb0-9c53-0c3c1a8a1e11", user=renamed)
    with calling():
        for _ in range(2):
            await change(db, request, dp.UpdateUserResponse(user=renamed), ANA)
    [entry] = await log(db)
    assert (entry.actor, entry.method, entry.resources, entry.credential, entry.trace_id[-1]) == (
        "users/boss",
        "tocsin.escalation.v1.DirectoryService/UpdateUser",
        ("users/ana",),
        "key-1",
        "1",
    )
    assert '"display_name": "Ana"' in str(entry.before)
    assert '"display_name": "Ann"' in str(entry.after)
    assert await log(db, "other") == []
    assert await log(db, actor="users/boss", resource="users/ana") == [entry]
    assert await log(db, actor="users/ana") == []
    assert await log(db, resource="users/an") == []


async def test_what_is_rolled_back_is_not_in_the_log(db: Database) -> None:
    async def work(tx: Tx) -> None:
        async def take() -> dp.UpdateUserResponse:
            return dp.UpdateUserResponse()

        await once(tx, "UpdateUser", dp.UpdateUserRequest(), dp.UpdateUserResponse, take)
        raise LookupError

    with calling(), pytest.raises(LookupError):
        await db.run(ORG, work)
    assert await log(db) == []


async def test_the_reason_is_kept_and_what_is_too_large_is_not(db: Database) -> None:
    override = schedule_pb2.Override(schedule="schedules/web", users=["users/ana"], reason="ana is ill")
    large = dp.User(name="users/ana", display_name="x" * audit.MOST_BYTES)
    with calling():
        await change(db, sp.CreateOverrideRequest(override=override), sp.CreateOverrideResponse(override=override))
        await change(db, dp.DeleteUserRequest(name="users/ana"), dp.DeleteUserResponse(), large)
    deleted, made = await log(db)
    assert (made.reason, made.before) == ("ana is ill", None)
    assert made.resources == ("schedules/web",), "what it is about, as long as it has no name of its own"
    assert deleted.before is not None
    assert "left_out_bytes" in deleted.before


async def test_what_was_done_to_a_schedule_is_also_what_was_done_to_its_overrides(db: Database) -> None:
    override = schedule_pb2.Override(
        name="overrides/1", schedule="schedules/web", user="users/ana", users=["users/ben"], reason="ana is ill"
    )
    with calling():
        asked = sp.CreateOverrideRequest(override=override)
        await change(db, asked, sp.CreateOverrideResponse(override=override))
        await change(db, sp.DeleteOverrideRequest(name="overrides/1"), sp.DeleteOverrideResponse(), override)
        batch = sp.BatchCreateOverridesRequest(overrides=[override])
        await change(db, batch, sp.BatchCreateOverridesResponse(overrides=[override]))
    entries = await log(db, resource="schedules/web")
    assert [set(entry.resources) for entry in entries] == [{"overrides/1", "schedules/web"}] * 3
    assert await log(db, resource="overrides/1") == entries


@pytest.mark.parametrize("org_id", [ORG, "*"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET actor = 'users/somebody' WHERE org_id = 'acme'",
        "DELETE FROM audit_entries WHERE org_id = 'acme'",
        "TRUNCATE audit_entries",
        "UPDATE audit_resources SET resource = 'users/somebody' WHERE org_id = 'acme'",
        "DELETE FROM audit_resources WHERE org_id = 'acme'",
        "TRUNCATE audit_resources",
    ],
)
async def test_no_login_changes_or_deletes_an_entry(db: Database, statement: str, org_id: str) -> None:
    with calling():
        await change(db, dp.UpdateUserRequest(user=ANA), dp.UpdateUserResponse(user=ANA))
    with pytest.raises(TocsinError) as refused:
        async with db.system() if org_id == "*" else db.transaction(org_id) as tx:
            await tx.execute(statement)
    assert isinstance(refused.value.__cause__, asyncpg.InsufficientPrivilegeError)
    assert len(await log(db)) == len(await log(db, resource="users/ana")) == 1


async def test_old_entries_go_after_their_time_and_none_before_thirty_days(db: Database, url: str) -> None:
    with calling():
        await change(db, dp.UpdateUserRequest(user=ANA), dp.UpdateUserResponse(user=ANA))
    connection = await asyncpg.connect(url)
    try:
        for days, left in ((29, 1), (31, 0)):
            await connection.execute(clock_is_ahead(timedelta(days=days)))
            assert await sweep_audit(db, 1) == 1 - left
            assert len(await log(db)) == len(await log(db, resource="users/ana")) == left
            assert await connection.fetchval("SELECT count(*) FROM audit_resources") in (left, 0)
    finally:
        await connection.close()


@pytest.mark.parametrize("asked", [{}, {"actor": "users/boss"}, {"resource": "users/ana"}])
async def test_a_question_enters_an_index_at_its_own_entries(url: str, asked: dict[str, str]) -> None:
    """Under row security, with the login of calls, with any estimate of the planner for a table without statistics."""
    wanted = {"actor": "", "resource": "", **asked}
    session = await dial(tenant_url(url), name="plans", settings={"plan_cache_mode": "force_generic_plan"})
    tx = Explaining(session)
    try:
        await audit.page(tx, wanted["actor"], wanted["resource"], None, None, 100, 10)  # type: ignore[arg-type]
    finally:
        await session.close()
    conditions = re.findall(r"Index Cond: (.*)", tx.plan)
    assert len(conditions) == 1 + ("resource" in asked), tx.plan
    for column in ("org_id", *asked, "id"):
        assert any(f"{column} " in each for each in conditions), tx.plan
    assert "Seq Scan" not in tx.plan
    assert "Sort" not in tx.plan, "a page is read in the order of the index"


class Explaining:
    """Stands where a statement's transaction is expected, and asks for its plan instead."""

    org_id = ORG

    def __init__(self, session: Connection) -> None:
        self.plan = ""
        self._session = session

    async def fetch(self, sql: str, *values: object) -> list[asyncpg.Record]:
        self.plan = await cached_plan(self._session, sql)
        return []
