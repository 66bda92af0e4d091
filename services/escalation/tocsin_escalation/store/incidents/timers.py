"""Live timers in PostgreSQL: the record; every delayed task in Redis is only a copy."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from tocsin_kit.db import queues
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.queues import RecordFigures

from tocsin_escalation.domain.escalation import Escalation


class LiveTimer(NamedTuple):
    """One escalation's live timer. A tuple, because an empty Redis is filled with up to a million of them."""

    incident_id: UUID
    timer_id: UUID
    generation: int
    due_time: datetime
    urgent: bool
    """Of a critical or error incident: never waits behind others."""


COLUMNS: Final = ", ".join(LiveTimer._fields)


_timer = LiveTimer._make
"""A row of COLUMNS."""


async def replace(tx: Tx, runs: Sequence[Escalation]) -> None:
    """Make each run's timer the live one; delete the timer of a run that has none."""
    gone = [run for run in runs if run.timer is None]
    if gone:
        await tx.execute(
            """DELETE FROM timers t USING unnest($1::uuid[], $2::text[]) AS n(incident_id, org_id)
               WHERE t.incident_id = n.incident_id AND t.org_id IS NOT DISTINCT FROM n.org_id""",
            [run.incident_id for run in gone],
            [run.org_id for run in gone],
        )
    armed = [(run, run.timer) for run in runs if run.timer is not None]
    if armed:
        await tx.execute(
            """INSERT INTO timers (incident_id, org_id, timer_id, kind, generation, due_time, urgent, level_end)
               SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::int[], $6::timestamptz[], $7::boolean[],
                 $8::timestamptz[])
               ON CONFLICT ON CONSTRAINT timers_one_live_per_escalation DO UPDATE SET timer_id = excluded.timer_id,
                 kind = excluded.kind, generation = excluded.generation, due_time = excluded.due_time,
                 urgent = excluded.urgent, attempts = 0, retry_time = NULL, level_end = excluded.level_end
               WHERE timers.org_id = excluded.org_id""",
            [run.incident_id for run, _ in armed],
            [run.org_id for run, _ in armed],
            [timer.id for _, timer in armed],
            [timer.kind.value for _, timer in armed],
            [timer.generation for _, timer in armed],
            [timer.due_time for _, timer in armed],
            [run.facts.urgent for run, _ in armed],
            [timer.level_end for _, timer in armed],
        )


DUE: Final = "due_time <= app_now() - make_interval(secs => $1) AND (retry_time IS NULL OR retry_time <= app_now())"
_GOES_ON: Final = f"NOT {queues.paused('$3')}"
_OLDEST: Final = (
    f"SELECT {COLUMNS} FROM timers WHERE {DUE} AND {_GOES_ON} ORDER BY due_time LIMIT $2 FOR UPDATE SKIP LOCKED"
)
# The recursion goes from tenant to tenant by index, however many timers each of them has.
_FAIR: Final = f"""
WITH RECURSIVE orgs AS (
  (SELECT org_id FROM timers ORDER BY org_id LIMIT 1)
  UNION ALL
  SELECT (SELECT t.org_id FROM timers t WHERE t.org_id > orgs.org_id ORDER BY t.org_id LIMIT 1)
    FROM orgs WHERE orgs.org_id IS NOT NULL),
turns AS (
  SELECT mine.incident_id, mine.urgent, mine.due_time,
    row_number() OVER (PARTITION BY orgs.org_id ORDER BY mine.urgent DESC, mine.due_time) AS turn
  FROM orgs CROSS JOIN LATERAL (
    (SELECT incident_id, urgent, due_time FROM timers WHERE org_id = orgs.org_id AND urgent AND {DUE}
      ORDER BY due_time LIMIT $2)
    UNION ALL
    (SELECT incident_id, urgent, due_time FROM timers WHERE org_id = orgs.org_id AND NOT urgent AND {DUE}
      ORDER BY due_time LIMIT $2)) AS mine)
SELECT {COLUMNS} FROM timers
 WHERE incident_id IN (SELECT incident_id FROM turns ORDER BY turn, urgent DESC, due_time LIMIT $2) AND {_GOES_ON}
 ORDER BY urgent DESC, due_time FOR UPDATE SKIP LOCKED"""


async def overdue(tx: Tx, grace: float, limit: int, queue: str, *, fair: bool = False) -> list[LiveTimer]:
    """Timers that were due `grace` seconds ago and that no other replica holds, oldest first, at most `limit`.

    `fair`, when there are more than that: tenants alternate, because the timer of one tenant must not wait behind a hundred
    thousand overdue timers of another. SKIP LOCKED leaves out those that another replica holds. None while `queue` is paused.
    """
    return [_timer(record) for record in await tx.fetch(_FAIR if fair else _OLDEST, grace, limit, queue)]


async def postpone(tx: Tx, incident_id: UUID, backoff: float = 5.0, most: float = 300.0) -> int:
    """Postpone a timer whose firing failed; returns how often it has failed. Pauses are seconds.

    Without this, one broken row would be the first of every sweep for ever, and the others would wait behind it.
    """
    attempts: int | None = await tx.fetchval(
        """UPDATE timers SET attempts = attempts + 1,
             retry_time = app_now()
               + make_interval(secs => least($4::float, $3::float * power(2, least(attempts, 16))) * (0.5 + random() / 2))
           WHERE incident_id = $1 AND ($2 = '*' OR org_id = $2) RETURNING attempts""",
        incident_id,
        tx.org_id,
        backoff,
        most,
    )
    return attempts or 0


async def nearest(tx: Tx, after: tuple[datetime, UUID] | None, limit: int) -> list[LiveTimer]:
    """Live timers by due time, nearest first, after `after`, to fill an empty Redis."""
    if after is None:
        query = f"SELECT {COLUMNS} FROM timers ORDER BY due_time, incident_id LIMIT $1"
        return [_timer(record) for record in await tx.fetch(query, limit)]
    query = (
        f"SELECT {COLUMNS} FROM timers WHERE (due_time, incident_id) > ($1, $2) ORDER BY due_time, incident_id LIMIT $3"
    )
    return [_timer(record) for record in await tx.fetch(query, *after, limit)]


async def due_within(tx: Tx, seconds: float, limit: int) -> list[LiveTimer]:
    """Live timers due soon: they are added to Redis again now and then, so that a lost addition costs nothing."""
    query = f"""SELECT {COLUMNS} FROM timers WHERE due_time > app_now() AND due_time <= app_now() + make_interval(secs => $1)
                ORDER BY due_time LIMIT $2"""
    return [_timer(record) for record in await tx.fetch(query, seconds, limit)]


async def figures(tx: Tx) -> RecordFigures:
    """The queue's figures from PostgreSQL."""
    record = await tx.fetchrow(
        """SELECT count(*) FILTER (WHERE due_time > app_now()) AS delayed, count(*) FILTER (WHERE due_time <= app_now()) AS overdue,
             coalesce(extract(epoch FROM app_now() - min(due_time) FILTER (WHERE due_time <= app_now())), 0)::float8 AS oldest,
             min(due_time) FILTER (WHERE due_time > app_now()) AS next FROM timers"""
    )
    assert record is not None, "an aggregate has one row"
    return RecordFigures(record["delayed"], record["overdue"], record["oldest"], record["next"])


async def missing(tx: Tx) -> list[UUID]:
    """Escalations whose state needs a timer and that have none."""
    records = await tx.fetch(
        """SELECT e.incident_id FROM escalations e
           LEFT JOIN timers t ON t.incident_id = e.incident_id AND t.org_id IS NOT DISTINCT FROM e.org_id
           WHERE e.state IN ('triggered', 'snoozed') AND t.incident_id IS NULL LIMIT 1000"""
    )
    return [record["incident_id"] for record in records]


async def insert_due_now(tx: Tx, ids: Sequence[tuple[UUID, UUID]]) -> list[LiveTimer]:
    """A timer due now for each (incident, timer id), of the kind that its escalation's state needs."""
    records = await tx.fetch(
        f"""INSERT INTO timers (incident_id, org_id, timer_id, kind, generation, due_time, urgent)
            SELECT e.incident_id, e.org_id, n.timer_id,
              CASE e.state WHEN 'snoozed' THEN 'snooze_end' ELSE 'level_timeout' END, e.generation, app_now(), e.severity <= 2
            FROM unnest($1::uuid[], $2::uuid[]) AS n(incident_id, timer_id) JOIN escalations e USING (incident_id)
            ON CONFLICT DO NOTHING RETURNING {COLUMNS}""",
        [incident_id for incident_id, _ in ids],
        [timer_id for _, timer_id in ids],
    )
    return [_timer(record) for record in records]
