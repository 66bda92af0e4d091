"""Pools of sessions for tests."""

from typing import Any

from tocsin_kit.db.pool import Database

from tocsin_testkit.busy import within


async def dialed(url: str, *, name: str, **options: Any) -> Database:
    """What `Database.open` returns, once the first session of each login is there.

    Before that a call waits for half a second and is told that the database is away: on a busy machine that is how long a
    session takes.
    """
    database = await Database.open(url, name=name, **options)
    if await database.connected(within(30)):
        return database
    await database.close()
    raise TimeoutError(f"no session of {name} after {within(30):.0f} s")
