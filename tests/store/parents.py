"""A row that is deleted while another row is written that refers to it, in both orders and without chance."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import until

# Of each table and of each partition that is not a part of the table's own.
_KEYS = """
SELECT conrelid::regclass::text || ' -> ' || confrelid::regclass FROM pg_constraint
WHERE contype = 'f' AND conparentid = 0 ORDER BY 1
"""
_BEHIND = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND $1 = ANY(pg_blocking_pids(pid))"


@dataclass(frozen=True, slots=True)
class Write:
    """Writes a row of `child`. `delete`: a statement that ends the row to which it refers."""

    child: str
    delete: str
    work: Callable[[], Awaitable[object]]


async def foreign_keys(db: Database) -> set[str]:
    """All of the database, as `child -> parent`."""
    async with db.system() as tx:
        return {row[0] for row in await tx.fetch(_KEYS)}


async def deleted_before(db: Database, write: Write) -> str:
    """The parent is deleted and not committed yet when the write comes: how that ends, see `_ending`."""
    async with db.system() as tx:
        holder = await tx.fetchval("SELECT pg_backend_pid()")
        await tx.execute(write.delete)
        writing = asyncio.create_task(_ending(write.work()))
        await _wait(db, holder, writing)
    return await writing


async def deleted_after(db: Database, write: Write) -> str:
    """The parent is deleted when the write has looked at it and has not written yet: how both end, see `_ending`."""
    async with db.system() as gate:
        holder = await gate.fetchval("SELECT pg_backend_pid()")
        await gate.execute(f"LOCK TABLE {write.child} IN SHARE MODE")
        writing = asyncio.create_task(_ending(write.work()))
        [writer] = await _wait(db, holder, writing)
        deleting = asyncio.create_task(_ending(_delete(db, write.delete)))
        # One that does not wait for the writer would wait for the gate, to delete what belongs to the parent.
        await until(lambda: _stands(db, holder, writer, deleting))
    return f"{await writing}{await deleting}"


async def _stands(db: Database, gate: int, writer: int, deleting: asyncio.Task[str]) -> bool:
    async with db.system() as tx:
        behind_gate = await tx.fetch(_BEHIND, gate)
        return bool(await tx.fetch(_BEHIND, writer)) or len(behind_gate) > 1 or deleting.done()


async def _delete(db: Database, statement: str) -> None:
    async with db.system() as tx:
        await tx.execute(statement)


async def _wait(db: Database, holder: int, task: asyncio.Task[str]) -> list[int]:
    """Until something waits for the holder; who that is. Nobody: the task has ended without."""
    found = list[int]()

    async def waits() -> bool:
        async with db.system() as tx:
            found[:] = [row["pid"] for row in await tx.fetch(_BEHIND, holder)]
        return bool(found) or task.done()

    await until(waits)
    return found


async def _ending(work: Awaitable[object]) -> str:
    """The reason that a caller is told, with the name of what was raised where the contract has none; empty when it was done."""
    try:
        await work
    except TocsinError as error:
        return error.reason_name
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
