"""Background work for many tenants: a tenant whose work fails delays no other one."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, Protocol, TypeVar

import grpc
from prometheus_client import Counter
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_ingest.app.alerts.intake_times import GAP
from tocsin_ingest.store.alerts import intakes

_log = get_logger(__name__)

_MOST_AWAY: Final = 10
"""If the database was away for this many tenants in a row, it is most likely away for all."""


class OfTenant(Protocol):
    """What belongs to one tenant."""

    @property
    def org_id(self) -> str:
        """The tenant."""


Each = TypeVar("Each", bound=OfTenant)


async def tenant_by_tenant(
    found: Iterable[Each],
    work: Callable[[str, list[Each]], Awaitable[object]],
    *,
    name: str,
    failures: Counter,
    at_once: int = 1,
) -> set[str]:
    """Runs `work` with the items of each tenant, in the order of the tenants' first ones. Returns the tenants for which it
    failed.

    A failure is logged and counted with `name`. A defect may be caused by a single item: the tenant's others are tried again in
    halves, so the changes that `work` makes before it raises must be safe to repeat. Raises the last TocsinError when ten tenants
    in a row had one with UNAVAILABLE, and skips the rest. `at_once`: for how many tenants it runs side by side.
    """
    by_tenant: defaultdict[str, list[Each]] = defaultdict(list)
    for each in found:
        by_tenant[each.org_id].append(each)
    tenants, failed, away = iter(by_tenant.items()), set[str](), 0

    async def take_turns() -> None:
        nonlocal away
        for org_id, mine in tenants:
            try:
                await _in_halves(work, org_id, mine)
            except Exception as error:
                failed.add(org_id)
                failures.labels(name).inc()
                if not isinstance(error, TocsinError):
                    away = 0
                    _log.error("tenant_failed", work=name, org_id=org_id, exc_info=error)
                    continue
                _log.warning("tenant_waits", work=name, org_id=org_id, reason=error.reason_name, error=error.message)
                away = away + 1 if error.code is grpc.StatusCode.UNAVAILABLE else 0
                if away >= _MOST_AWAY:
                    raise
            else:
                away = 0

    # All have ended before this returns, also when one of them raises.
    turns = [take_turns() for _ in range(max(1, min(at_once, len(by_tenant))))]
    for ended in await asyncio.gather(*turns, return_exceptions=True):
        if ended is not None:
            raise ended
    return failed


async def whatever_is_due(
    database: Database,
    due: Callable[..., Awaitable[Sequence[Each]]],
    work: Callable[[str, list[Each], datetime], Awaitable[object]],
    *,
    at_once: int,
    name: str,
    failures: Counter,
) -> None:
    """`tenant_by_tenant` until no more is due: for rows that are timers, each of which a sender could have postponed.

    `due(tx, most, without)`: the due rows of all tenants except those in `without`. `work` also gets the time since which all
    alerts could be received. Nothing is done while that is not known. Raises DATABASE_UNAVAILABLE.
    """
    waiting: set[str] = set()
    while True:
        async with database.autocommit() as tx:
            found = await due(tx, at_once, without=waiting)
        if not found:
            return
        async with database.autocommit() as tx:
            since = await intakes.since(tx, GAP)
        if since is None:
            return

        async def of_tenant(org_id: str, mine: list[Each], since: datetime = since) -> None:
            await work(org_id, mine, since)

        # A tenant with a failure is left out: otherwise it would be first again, and all others would wait with it.
        waiting |= await tenant_by_tenant(found, of_tenant, name=name, failures=failures)
        if len(found) < at_once:
            return


async def _in_halves(work: Callable[[str, list[Each]], Awaitable[object]], org_id: str, mine: list[Each]) -> None:
    try:
        await work(org_id, mine)
    except TocsinError:
        raise
    except Exception as error:
        if len(mine) == 1:
            raise
        middle, failure = len(mine) // 2, error
        for half in (mine[:middle], mine[middle:]):
            try:
                await _in_halves(work, org_id, half)
            except TocsinError:
                raise
            except Exception as again:
                failure = again
        raise failure from None
