"""Pausing: the record is in PostgreSQL, because a flushed Redis must not let a paused queue run."""

from tocsin_kit.db.pool import Database


async def paused(db: Database, queue: str) -> bool:
    """Whether the queue is paused."""
    async with db.system() as tx:
        found: bool = await tx.fetchval("SELECT EXISTS (SELECT FROM queue_pauses WHERE queue = $1)", queue)
    return found


async def set_paused(db: Database, queue: str, value: bool) -> None:
    """Pause or resume; doing it twice changes nothing."""
    async with db.system() as tx:
        if value:
            await tx.execute("INSERT INTO queue_pauses (queue) VALUES ($1) ON CONFLICT DO NOTHING", queue)
        else:
            await tx.execute("DELETE FROM queue_pauses WHERE queue = $1", queue)
