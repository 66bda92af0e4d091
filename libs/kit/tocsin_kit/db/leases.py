"""Work that only one replica at a time should do."""

import zlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tocsin_kit.db.pool import Database, Tx

T = TypeVar("T")


async def only_one(database: Database, name: str, work: Callable[[Tx], Awaitable[T]]) -> T | None:
    """`work` in a system transaction, unless another replica is at it: then None, at once.

    The advisory lock is the transaction's: it goes with it, however it ends. For short work in SQL only.
    """
    async with database.system() as tx:
        if not await tx.fetchval("SELECT pg_try_advisory_xact_lock($1, $2)", _CLASS, _key(name)):
            return None
        return await work(tx)


_CLASS = 0x746F63  # "toc": apart from other users of advisory locks in this database


def _key(name: str) -> int:
    number = zlib.crc32(name.encode())
    return number - (1 << 32) if number >= 1 << 31 else number
