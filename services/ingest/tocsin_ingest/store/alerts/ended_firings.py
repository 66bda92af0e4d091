"""Which firing of a key ended last, by its sender's clock."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

# A copy is late by as long as its request hangs, that of another Alertmanager by 15 seconds for each before it. A firing that its
# sender takes up again after it seemed to be over, with the same start, must page: Prometheus and Alertmanager were parted, or
# one of two Prometheus servers said that it was over. Alertmanager tells of it with its next group, once, and again only after
# `repeat_interval`. So this must be well below `group_interval`, whose default is five minutes.
READ: Final = """
SELECT key, start_time FROM ended_firings
WHERE key = ANY($2) AND org_id IS NOT DISTINCT FROM $1 AND end_time > app_now() - interval '2 minutes'
"""
WRITE: Final = """
INSERT INTO ended_firings (org_id, key, start_time)
SELECT $1, key, start_time FROM unnest($2::uuid[], $3::timestamptz[]) AS u(key, start_time)
ON CONFLICT (key) DO UPDATE SET start_time = greatest(ended_firings.start_time, excluded.start_time), end_time = app_now()
WHERE ended_firings.org_id = excluded.org_id
"""


async def read(tx: Tx, keys: Sequence[UUID]) -> dict[UUID, datetime]:
    """When the last firing of each key began that ended a short while ago."""
    return {row["key"]: row["start_time"] for row in await tx.fetch(READ, tx.org_id, keys)}


async def write(tx: Tx, ended: Mapping[UUID, datetime]) -> None:
    """These firings, each by its key and start, are over."""
    keys = sorted(ended)  # two batches touch rows in one order
    await tx.execute(WRITE, tx.org_id, keys, [ended[key] for key in keys])
