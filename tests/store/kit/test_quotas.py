"""A tenant has as many objects of a kind as it may have, and no more."""

import pytest
from tocsin_kit.budgets import OBJECTS, Budgets, Limit
from tocsin_kit.db.pool import Database
from tocsin_kit.db.quotas import require_room
from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics


async def add(db: Database, org_id: str, name: str, most: int) -> None:
    budgets = Budgets((Limit(OBJECTS, 1000),), Metrics())
    budgets.choose({org_id: {OBJECTS: most}})
    async with db.transaction(org_id) as tx:
        await require_room(tx, "widgets", budgets)
        await tx.execute("INSERT INTO widgets (org_id, name, size) VALUES ($1, $2, 1)", org_id, name)


async def test_a_tenant_has_its_number_and_another_one_has_its_own(db: Database) -> None:
    for number in range(3):
        await add(db, "a", f"w{number}", 3)
    with pytest.raises(TocsinError) as caught:
        await add(db, "a", "w3", 3)
    error = caught.value
    assert (error.reason_name, error.code.name) == ("LIMIT_REACHED", "RESOURCE_EXHAUSTED")
    assert (dict(error.metadata), error.retry_after) == ({"limit": "widgets", "allowed": "3"}, 60.0)
    await add(db, "b", "w0", 3)
    await add(db, "a", "w3", 4)
