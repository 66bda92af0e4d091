"""Heartbeats of integrations: when one came, and which have not come in time. The row is the timer."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import INTERVAL
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Statement, columns_of, param

from tocsin_ingest.store.alerts.intakes import able_since
from tocsin_ingest.store.tables import integrations

_AWAITED: Final = "heartbeat_interval IS NOT NULL AND NOT heartbeat_missing"
# Tenants alternate: the heartbeat of one tenant must not wait behind thousands of missing ones of another.
DUE: Final = f"""
WITH RECURSIVE orgs AS (
  (SELECT org_id FROM integrations WHERE {_AWAITED} ORDER BY org_id LIMIT 1)
  UNION ALL
  SELECT (SELECT i.org_id FROM integrations AS i WHERE {_AWAITED} AND i.org_id > orgs.org_id ORDER BY i.org_id LIMIT 1)
  FROM orgs WHERE orgs.org_id IS NOT NULL
), turns AS (
  SELECT orgs.org_id, mine.*, row_number() OVER (PARTITION BY orgs.org_id ORDER BY mine.heartbeat_due_time) AS turn
  FROM orgs CROSS JOIN LATERAL (
    SELECT integration_id, display_name, heartbeat_interval, heartbeat_time, heartbeat_due_time, heartbeat_missing
    FROM integrations
    WHERE integrations.org_id = orgs.org_id AND {_AWAITED} AND heartbeat_due_time <= app_now()
    ORDER BY heartbeat_due_time LIMIT $1
  ) AS mine
  WHERE orgs.org_id <> ALL($2::text[])
)
SELECT org_id, integration_id, display_name, heartbeat_interval, heartbeat_time, heartbeat_due_time, heartbeat_missing
FROM turns ORDER BY turn, heartbeat_due_time LIMIT $1
"""
_ABLE_SINCE: Final = able_since("$3")
_PUT_OFF: Final = f"""
UPDATE integrations SET heartbeat_due_time = {_ABLE_SINCE} + heartbeat_interval
WHERE org_id = $1 AND integration_id = ANY($2) AND {_AWAITED} AND {_ABLE_SINCE} + heartbeat_interval > heartbeat_due_time
"""
_MISS: Final = f"""
UPDATE integrations SET heartbeat_missing = true
WHERE org_id = $1 AND integration_id = ANY($2) AND {_AWAITED} AND heartbeat_due_time <= app_now()
RETURNING integration_id
"""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The heartbeat that is expected of one integration. `heartbeat_time`: when the newest came; None: none has come."""

    org_id: str
    integration_id: str
    display_name: str
    heartbeat_interval: timedelta
    heartbeat_time: datetime | None
    heartbeat_due_time: datetime
    heartbeat_missing: bool


_ONE: Final = sa.and_(
    integrations.c.org_id == param("org_id"), integrations.c.integration_id == param("integration_id")
)
_EXPECTED: Final = sa.and_(_ONE, integrations.c.heartbeat_interval.is_not(None))
_LOCK: Final = Statement(sa.select(*columns_of(integrations, Heartbeat)).where(_EXPECTED).with_for_update())
_COUNTED_ANEW: Final = {
    "heartbeat_due_time": sa.func.app_now() + integrations.c.heartbeat_interval,
    "heartbeat_watch_time": sa.func.app_now(),
}
_BEAT: Final = (
    sa.update(integrations)
    .values({**_COUNTED_ANEW, "heartbeat_time": sa.func.app_now(), "heartbeat_missing": sa.false()})
    .returning(integrations.c.heartbeat_due_time)
)
_RECEIVE: Final = Statement(_BEAT.where(_EXPECTED, sa.not_(integrations.c.heartbeat_missing)))
_RETURN: Final = Statement(_BEAT.where(_EXPECTED))
# The cast tells PostgreSQL the type where the value is only compared with NULL.
_INTERVAL: Final = sa.cast(param("interval", INTERVAL), INTERVAL)
_EXPECT: Final = Statement(
    sa.update(integrations)
    .where(_ONE)
    .values(
        heartbeat_interval=_INTERVAL,
        heartbeat_due_time=sa.func.app_now() + _INTERVAL,
        heartbeat_watch_time=sa.case((_INTERVAL.is_not(None), sa.func.app_now())),
        heartbeat_time=sa.case((_INTERVAL.is_not(None), integrations.c.heartbeat_time)),
        heartbeat_missing=sa.and_(integrations.c.heartbeat_missing, _INTERVAL.is_not(None)),
    )
)


async def expect(tx: Tx, integration_id: str, interval: timedelta | None) -> None:
    """From now on a heartbeat must come once in `interval`; None: none is expected any more."""
    await tx.execute(*_EXPECT(org_id=tx.org_id, integration_id=integration_id, interval=interval))


async def receive(tx: Tx, integration_id: str) -> datetime | None:
    """A heartbeat came. When the next must have come; None, and nothing is written: it was missing, or none is expected."""
    due: datetime | None = await tx.fetchval(*_RECEIVE(org_id=tx.org_id, integration_id=integration_id))
    return due


async def lock(tx: Tx, integration_id: str) -> Heartbeat | None:
    """What is expected of the integration, which must be locked for decisions before; None: nothing."""
    row = await tx.fetchrow(*_LOCK(org_id=tx.org_id, integration_id=integration_id))
    return Heartbeat(*row) if row else None


async def come_back(tx: Tx, integration_id: str) -> datetime | None:
    """A heartbeat came, whether or not it was missing. When the next must have come; None: none is expected."""
    due: datetime | None = await tx.fetchval(*_RETURN(org_id=tx.org_id, integration_id=integration_id))
    return due


async def due(tx: Tx, limit: int, *, without: Collection[str]) -> list[Heartbeat]:
    """Up to `limit` heartbeats that have not come in time and are not marked so, of all tenants but those in `without`."""
    return [Heartbeat(*row) for row in await tx.fetch(DUE, limit, sorted(without))]


async def miss(tx: Tx, integration_ids: Sequence[str]) -> set[str]:
    """Marks those of the tenant's heartbeats that are still due as missing; which that were."""
    rows = await tx.fetch(_MISS, tx.org_id, list(integration_ids))
    return {row["integration_id"] for row in rows}


async def put_off(tx: Tx, integration_ids: Sequence[str], since: datetime) -> None:
    """Gives those of the tenant's heartbeats their whole time again that could not be taken for a part of it.

    `since`: what `intakes.since` tells. The integrations must be locked for decisions.
    """
    await tx.execute(_PUT_OFF, tx.org_id, list(integration_ids), since)
