"""The widgets of a tenant: reads them, and changes them."""

from tocsin_kit.db.pool import Database


async def names(db: Database, org_id: str) -> list[str]:
    async with db.transaction(org_id) as tx:
        return [row["name"] for row in await tx.fetch("SELECT name FROM widgets ORDER BY name")]


async def run(db: Database, org_id: str, *statements: str) -> None:
    async with db.transaction(org_id) as tx:
        for statement in statements:
            await tx.execute(statement)
