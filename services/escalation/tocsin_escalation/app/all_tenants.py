"""One round over all tenants: a few of them are read together, and one that fails delays no other."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from tocsin_kit.db.pool import Database, Tx

from tocsin_escalation.app.bisection import bisect, run_transaction
from tocsin_escalation.store.notices import shift_notices
from tocsin_escalation.store.schedules import on_call

Work = Callable[[Sequence[str], Sequence[on_call.Key]], Awaitable[object]]
"""Work on these tenants and their schedules."""


async def work_on(
    database: Database,
    tenants: Callable[[Tx, str, int], Awaitable[Sequence[str]]],
    work: Work,
    failed: Callable[[str], None],
    *,
    together: int,
    schedules: int,
) -> None:
    """One round. `tenants` returns up to so many tenants after a given one; `failed` is called for a tenant whose `work` raises.

    `together`: tenants that are read together, and `schedules`: of all of them. A transaction that reads for many seconds keeps
    PostgreSQL from vacuuming. Raises DATABASE_UNAVAILABLE.
    """

    async def of(org_ids: Sequence[str]) -> None:
        keys = await run_transaction(database, None, partial(shift_notices.schedules, org_ids=org_ids))
        if len(keys) > schedules and len(org_ids) > 1:
            for some in (org_ids[: len(org_ids) // 2], org_ids[len(org_ids) // 2 :]):
                await of(some)
            return
        await work(org_ids, keys)

    after = ""
    while True:
        async with database.system() as tx:
            org_ids = await tenants(tx, after, together)
        if org_ids:
            await bisect(org_ids, of, failed)
            after = org_ids[-1]
        if len(org_ids) < together:
            return
