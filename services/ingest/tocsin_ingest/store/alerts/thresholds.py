"""Alerts that wait for the threshold of their group, and how many triggers of each group have come."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.pauses import Pause
from tocsin_ingest.domain.thresholds import Below, Tally, Threshold

MOST_WOKEN: Final = 1000
"""Alerts of a group that join its incident when its threshold is reached, the newest ones; others join with their next trigger."""
# What pauses alerts is read with it: mostly one of the two is asked for, and both are by the same ids.
WAITING: Final = """
SELECT asked.alert_id, p.due_time, p.labels AS paused_labels, t.group_key, t.count, t.lasts, t.labels
FROM unnest($2::uuid[]) AS asked (alert_id)
LEFT JOIN alert_pauses AS p ON p.alert_id = asked.alert_id AND p.org_id IS NOT DISTINCT FROM $1
LEFT JOIN alert_thresholds AS t ON t.alert_id = asked.alert_id AND t.org_id IS NOT DISTINCT FROM $1
"""
TALLIES: Final = """
SELECT group_key, time, count FROM group_triggers
WHERE group_key = ANY($2) AND org_id IS NOT DISTINCT FROM $1 AND end_time > app_now() ORDER BY time
"""
WRITE: Final = """
WITH gone AS (DELETE FROM alert_thresholds WHERE alert_id = ANY($2) AND org_id IS NOT DISTINCT FROM $1)
INSERT INTO alert_thresholds (org_id, alert_id, group_key, count, lasts, labels)
SELECT $1, alert_id, group_key, count, lasts, labels
FROM unnest($3::uuid[], $4::uuid[], $5::integer[], $6::interval[], $7::bytea[]) AS u(alert_id, group_key, count, lasts, labels)
ON CONFLICT (alert_id) DO UPDATE SET group_key = excluded.group_key, count = excluded.count, lasts = excluded.lasts,
  labels = excluded.labels
WHERE alert_thresholds.org_id = excluded.org_id
"""
# Rows before the window are deleted at once, so a group never has more rows than its window has parts.
TALLY: Final = """
WITH gone AS (
  DELETE FROM group_triggers WHERE group_key = ANY($2) AND org_id IS NOT DISTINCT FROM $1 AND end_time <= app_now()
)
INSERT INTO group_triggers (org_id, group_key, time, count, end_time)
SELECT $1, group_key, time, count, time + lasts
FROM unnest($3::uuid[], $4::timestamptz[], $5::integer[], $6::interval[]) AS u(group_key, time, count, lasts)
ON CONFLICT (group_key, time) DO UPDATE SET count = excluded.count, end_time = excluded.end_time
WHERE group_triggers.org_id = excluded.org_id
"""
# Due at once, as if their pause were over: the next round lets them join the opened incident.
REACHED: Final = """
WITH counted AS (
  DELETE FROM group_triggers WHERE group_key = ANY($2) AND org_id IS NOT DISTINCT FROM $1
), waiting AS (
  SELECT mine.alert_id, mine.labels FROM unnest($2::uuid[]) AS reached (group_key) CROSS JOIN LATERAL (
    SELECT alert_id, labels FROM alert_thresholds AS t
    WHERE t.group_key = reached.group_key AND t.org_id IS NOT DISTINCT FROM $1 ORDER BY alert_id DESC LIMIT $3
  ) AS mine
), gone AS (
  DELETE FROM alert_thresholds USING waiting
  WHERE alert_thresholds.alert_id = waiting.alert_id AND alert_thresholds.org_id IS NOT DISTINCT FROM $1
)
INSERT INTO alert_pauses (org_id, alert_id, due_time, labels)
SELECT $1, alert_id, app_now(), labels FROM waiting ORDER BY alert_id
ON CONFLICT (alert_id) DO UPDATE SET due_time = excluded.due_time, labels = excluded.labels
WHERE alert_pauses.org_id = excluded.org_id
"""


async def waiting(tx: Tx, alert_ids: Sequence[UUID]) -> tuple[dict[UUID, Pause], dict[UUID, Below]]:
    """What pauses those of the alerts that are paused, and what those wait for that are below a threshold."""
    rows = await tx.fetch(WAITING, tx.org_id, list(alert_ids))
    pauses = {
        row["alert_id"]: Pause(row["due_time"], row["paused_labels"]) for row in rows if row["due_time"] is not None
    }
    below = {
        row["alert_id"]: Below(row["group_key"], Threshold(row["count"], row["lasts"]), labels=row["labels"])
        for row in rows
        if row["group_key"] is not None
    }
    return pauses, below


async def tallies(tx: Tx, group_keys: Collection[UUID]) -> dict[UUID, Tally]:
    """The triggers that these groups have had. Their integrations must be locked, or some that are being committed are not seen."""
    found: dict[UUID, list[tuple[datetime, int]]] = {}
    for row in await tx.fetch(TALLIES, tx.org_id, list(group_keys)):
        found.setdefault(row["group_key"], []).append((row["time"], row["count"]))
    return {group_key: Tally(tuple(entries)) for group_key, entries in found.items()}


async def write(tx: Tx, below: Mapping[UUID, Below | None]) -> None:
    """Writes which thresholds alerts wait for from now on; None: for none."""
    ids = sorted(below)  # two batches touch rows in one order
    kept = [(each, wanted) for each in ids if (wanted := below[each]) is not None]
    await tx.execute(
        WRITE,
        tx.org_id,
        [each for each in ids if below[each] is None],
        [each for each, _ in kept],
        [wanted.group_key for _, wanted in kept],
        [wanted.threshold.count for _, wanted in kept],
        [wanted.threshold.window for _, wanted in kept],
        [wanted.labels for _, wanted in kept],
    )


async def count(tx: Tx, tallied: Mapping[UUID, tuple[Tally, Below]]) -> None:
    """Writes the triggers that groups have had."""
    groups = sorted(tallied)
    entries = [(group, at, number, tallied[group][1]) for group in groups for at, number in tallied[group][0].entries]
    await tx.execute(
        TALLY,
        tx.org_id,
        groups,
        [group for group, *_ in entries],
        [at for _, at, *_ in entries],
        [number for *_, number, _ in entries],
        [below.threshold.window for *_, below in entries],
    )


async def reach(tx: Tx, group_keys: Collection[UUID]) -> None:
    """The triggers of these groups count anew, and what waits with them is looked at again at once."""
    await tx.execute(REACHED, tx.org_id, sorted(group_keys), MOST_WOKEN)
