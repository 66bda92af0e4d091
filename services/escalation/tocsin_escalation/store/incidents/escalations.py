"""Escalations and their live timers in PostgreSQL, always as sets: one statement for any number of them."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.row_arrays import RowArrays
from tocsin_kit.db.statements import Statement, constant, param

from tocsin_escalation.domain.escalation import Escalation, Facts, Reached, State, Timer, TimerKind
from tocsin_escalation.store import tables
from tocsin_escalation.store.incidents import pages
from tocsin_escalation.store.people import policies

E: Final = tables.escalations.alias("e")
_T: Final = tables.timers.alias("t")
# IS NOT DISTINCT FROM where rows are found by incident ids: it cannot use an index, so the planner uses the id's index.
SELECT: Final = sa.select(
    *E.c,
    _T.c.timer_id,
    _T.c.kind.label("timer_kind"),
    _T.c.due_time,
    _T.c.generation.label("timer_generation"),
    _T.c.level_end,
).outerjoin_from(E, _T, sa.and_(_T.c.incident_id == E.c.incident_id, _T.c.org_id.is_not_distinct_from(E.c.org_id)))
"""Escalations with their live timers, in the form that `to_row` reads."""
_NAMED: Final = E.c.incident_id == sa.any_(param("ids", sa.ARRAY(sa.UUID)))
_OF_TENANT: Final = E.c.org_id == param("org_id")
_NOW: Final = sa.func.app_now().label("now")
_READ: Final = Statement(
    SELECT.add_columns(_NOW).where(_NAMED, sa.or_(param("org_id", sa.Text) == constant("*"), _OF_TENANT))
)
_P: Final = tables.escalations.alias("p")
_PARTS: Final = (
    sa.select(sa.func.array_agg(_P.c.incident_id))
    .where(
        _P.c.merged_into == E.c.incident_id,
        _P.c.state == constant(State.MERGED.value),
        _P.c.org_id.is_not_distinct_from(E.c.org_id),
    )
    .scalar_subquery()
)
_READ_WITH_KIN: Final = Statement(
    SELECT.add_columns(_NOW, _PARTS.label("parts")).where(
        _NAMED, sa.or_(param("org_id", sa.Text) == constant("*"), _OF_TENANT)
    )
)
_GET: Final = Statement(SELECT.where(_OF_TENANT, E.c.incident_id == param("id")))
_GET_MANY: Final = Statement(SELECT.where(_OF_TENANT, _NAMED))
_MINE: Final = "($2 = '*' OR org_id = $2)"


@lru_cache(1024)
def people_json(users: tuple[str, ...]) -> str:
    """Users in the form of a list within a list. Incidents of one set page the same few people."""
    return json.dumps(users)


@dataclass(frozen=True, slots=True)
class EscalationRow:
    """An escalation with the fields that only reads show."""

    run: Escalation
    update_time: datetime


def _timer(r: Record) -> Timer:
    kind, level_end = TimerKind(r["timer_kind"]), r["level_end"]
    if kind is TimerKind.DEFERRED and level_end is not None:
        # Replicas without this word store the deferred fallback target in this way.
        kind, level_end = TimerKind.DEFERRED_END, None
    return Timer(r["timer_id"], kind, r["due_time"], r["timer_generation"], level_end)


def to_row(r: Record) -> EscalationRow:
    """A record of `SELECT`."""
    timer = None
    if r["timer_id"] is not None:
        timer = _timer(r)
    facts = Facts(
        title=r["title"],
        source=r["source"],
        severity=r["severity"],
        integration=r["integration"],
        create_time=r["create_time"],
        labels=json.loads(r["labels"]),
        links=tuple((href, text) for href, text in json.loads(r["links"])),
        alert_count=r["alert_count"],
    )
    run = Escalation(
        org_id=r["org_id"],
        incident_id=r["incident_id"],
        facts=facts,
        state=State(r["state"]),
        policy=policies.from_json(r["policy"]) if r["policy"] else None,
        on_fallback_policy=r["on_fallback_policy"],
        level=r["level"],
        repeat=r["repeat"],
        generation=r["generation"],
        timer=timer,
        assignees=tuple(r["assignees"]),
        paged_users=tuple(r["paged_users"]),
        pages=pages.from_json(r["pages"]),
        reached=Reached(r["reached"]),
        acknowledged_by=r["acknowledged_by"],
        acknowledge_time=r["acknowledge_time"],
        resolved_by=r["resolved_by"],
        resolve_time=r["resolve_time"],
        added_alerts_noted=r["added_alerts_noted"],
        severity_set=r["severity_set"],
        handed_on=r["handed_on"],
        merged_into=r["merged_into"],
        followers=json.loads(r["followers"]) if r["followers"] != "{}" else {},
        last_sequence=r["last_sequence"],
        version=r["version"],
    )
    return EscalationRow(run, r["update_time"])


_KIN: Final = f"""$1::uuid[]
  || ARRAY(SELECT merged_into FROM escalations WHERE incident_id = ANY($1::uuid[]) AND merged_into IS NOT NULL AND state = 'merged'
           AND {_MINE})
  || ARRAY(SELECT incident_id FROM escalations WHERE merged_into = ANY($1::uuid[]) AND state = 'merged' AND {_MINE})"""


async def lock(tx: Tx, incident_ids: Sequence[UUID], *, wait: bool = True, kin: bool = False) -> dict[UUID, Escalation]:
    """Lock those of these escalations that belong to the transaction's tenant; in a system transaction, those of every tenant.

    In id order, so that two batches that share some cannot deadlock. `wait` False leaves out those that another transaction
    holds. `kin`: also their merge targets, and the incidents merged into them; these are waited for.

    Two statements on purpose. One that locks and joins would, after waiting for the lock, see the new escalation with the timer
    of its old snapshot (READ COMMITTED reads only the locked row again), and a timer that an acknowledge has just ended would
    fire. The transaction knows its time afterwards, unless no row was found.
    """
    locked = await _lock(tx, incident_ids, wait=wait, kin=kin)
    read = _READ_WITH_KIN if kin else _READ
    records = await tx.fetch(*read(ids=locked, org_id=tx.org_id))
    # A merge that happened while this transaction waited for a lock is not in the snapshot of the lock, but in that of the read.
    while kin and (further := _kin(records, set(incident_ids)) - set(locked)):
        more = await _lock(tx, list(further), wait=True, kin=False)
        if not more:
            break  # the others were deleted
        locked += more
        records = await tx.fetch(*read(ids=locked, org_id=tx.org_id))
    if records:
        tx.know(records[0]["now"])
    return {record["incident_id"]: to_row(record).run for record in records}


async def read(tx: Tx, incident_ids: Sequence[UUID]) -> dict[UUID, Escalation]:
    """Those of `lock` without a lock: one that another transaction changes is shown as it was before."""
    records = await tx.fetch(*_READ(ids=list(incident_ids), org_id=tx.org_id))
    return {record["incident_id"]: to_row(record).run for record in records}


def _kin(records: Sequence[Record], asked: Collection[UUID]) -> set[UUID]:
    """The incidents with which these are merged."""
    found = set[UUID]()
    for record in records:
        if record["incident_id"] in asked:
            found.update(record["parts"] or ())
            if record["state"] == State.MERGED.value:
                found.add(record["merged_into"])
    return found


async def _lock(tx: Tx, incident_ids: Sequence[UUID], *, wait: bool, kin: bool) -> list[UUID]:
    wanted = _KIN if kin else "$1::uuid[]"
    locking = f"""SELECT incident_id FROM escalations WHERE incident_id = ANY({wanted}) AND {_MINE}
                  ORDER BY incident_id FOR UPDATE {"" if wait else "SKIP LOCKED"}"""
    return [record["incident_id"] for record in await tx.fetch(locking, list(incident_ids), tx.org_id)]


async def present(tx: Tx, incident_ids: Sequence[UUID], org_ids: Collection[str]) -> tuple[set[UUID], frozenset[str]]:
    """As `known`; and those of the tenants that have a feed (`store.incidents.feeds`).

    The transaction knows its time afterwards, without a round trip for it.
    """
    query = f"""SELECT app_now() AS now,
      ARRAY(SELECT incident_id FROM escalations WHERE incident_id = ANY($1::uuid[]) AND {_MINE}) AS present,
      ARRAY(SELECT org_id FROM event_feeds WHERE org_id = ANY($3::text[]) AND {_MINE}) AS fed"""
    [record] = await tx.fetch(query, list(incident_ids), tx.org_id, list(org_ids))
    tx.know(record["now"])
    return set(record["present"]), frozenset(record["fed"])


async def known(tx: Tx, incident_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these ids that are escalations of the transaction's tenant, locked or not."""
    query = f"SELECT incident_id FROM escalations WHERE incident_id = ANY($1::uuid[]) AND {_MINE}"
    return {record["incident_id"] for record in await tx.fetch(query, list(incident_ids), tx.org_id)}


_GIVEN: Final[Mapping[str, tuple[str, Callable[[Escalation], object]]]] = {
    "incident_id": ("uuid", lambda run: run.incident_id),
    "org_id": ("text", lambda run: run.org_id),
    "title": ("text", lambda run: run.facts.title),
    "source": ("text", lambda run: run.facts.source),
    "severity": ("smallint", lambda run: run.facts.severity),
    "integration": ("text", lambda run: run.facts.integration),
    "labels": ("jsonb", lambda run: json.dumps(run.facts.labels) if run.facts.labels else "{}"),
    "links": ("jsonb", lambda run: json.dumps(run.facts.links) if run.facts.links else "[]"),
    "alert_count": ("bigint", lambda run: run.facts.alert_count),
    "create_time": ("timestamptz", lambda run: run.facts.create_time),
    "state": ("text", lambda run: run.state.value),
    "on_fallback_policy": ("boolean", lambda run: run.on_fallback_policy),
    "level": ("int", lambda run: run.level),
    "generation": ("int", lambda run: run.generation),
    "pages": ("jsonb", pages.to_json),
    "last_sequence": ("bigint", lambda run: run.last_sequence),
    # The columns from here on have the same value for nearly all incidents that were just opened and paged.
    "repeat": ("int", lambda run: run.repeat),
    "reached": ("text", lambda run: run.reached),
    "acknowledged_by": ("text", lambda run: run.acknowledged_by),
    "acknowledge_time": ("timestamptz", lambda run: run.acknowledge_time),
    "resolved_by": ("text", lambda run: run.resolved_by),
    "resolve_time": ("timestamptz", lambda run: run.resolve_time),
    "added_alerts_noted": ("boolean", lambda run: run.added_alerts_noted),
    "severity_set": ("boolean", lambda run: run.severity_set),
    "handed_on": ("int", lambda run: run.handed_on),
    "merged_into": ("uuid", lambda run: run.merged_into),
    "version": ("int", lambda run: run.version),
}
"""Columns of a new row that are written as they are given, their types and their values."""
_NEW: Final = RowArrays(
    2,
    ", ".join(f"{name} {type_}" for name, (type_, _) in _GIVEN.items())
    # unnest flattens arrays of arrays, so lists of people travel as JSON. The policies of many incidents are few.
    + ", policy_place int, assigned jsonb, paged jsonb",
)
_INSERT: Final = f"""
INSERT INTO escalations ({", ".join(_GIVEN)}, policy, update_time, policy_id, team, assignees, paged_users)
SELECT {", ".join(_GIVEN)}, policy, app_now(), coalesce(policy->>'id', ''), coalesce(policy->>'team', ''),
  ARRAY(SELECT jsonb_array_elements_text(assigned)), ARRAY(SELECT jsonb_array_elements_text(paged))
FROM {_NEW.sql} AS given, LATERAL (SELECT ($1::jsonb[])[policy_place] AS policy) AS frozen
ORDER BY incident_id ON CONFLICT ON CONSTRAINT escalations_pkey DO NOTHING RETURNING incident_id
"""


async def insert(tx: Tx, runs: Sequence[Escalation]) -> set[UUID]:
    """New escalations as they are after their first steps; returns the ids that were new. If another transaction inserts the same
    id, the second one waits here and inserts nothing."""
    # By identity: incidents of one set share the object, and comparing policies costs more than sending one twice.
    frozen = {id(run.policy): run.policy for run in runs if run.policy}
    places = {key: place for place, key in enumerate(frozen, 1)}
    values = [value for _, value in _GIVEN.values()]
    rows = [
        (
            *(value(run) for value in values),
            places.get(id(run.policy)),
            people_json(run.assignees),
            people_json(run.paged_users),
        )
        for run in runs
    ]
    records = await tx.fetch(_INSERT, list(map(policies.to_json, frozen.values())), *_NEW.parameters(rows))
    return {record["incident_id"] for record in records}


async def save(tx: Tx, runs: Sequence[Escalation], *, retitled: Collection[UUID] = ()) -> None:
    """Write locked escalations; their timers are written by `store.incidents.timers.replace`.

    The title is written only for those in `retitled`: people rarely correct one, and no other write changes it.
    """
    if not runs:
        return
    # unnest flattens arrays of arrays, so lists of people travel as JSON.
    await tx.execute(
        """UPDATE escalations e SET severity = n.severity, alert_count = n.alert_count, state = n.state,
             policy_id = coalesce(n.policy->>'id', ''), policy = n.policy, on_fallback_policy = n.on_fallback_policy,
             team = coalesce(n.policy->>'team', ''), level = n.level, repeat = n.repeat, generation = n.generation,
             assignees = ARRAY(SELECT jsonb_array_elements_text(n.assignees)),
             paged_users = ARRAY(SELECT jsonb_array_elements_text(n.paged_users)),
             acknowledged_by = n.acknowledged_by, acknowledge_time = n.acknowledge_time, resolved_by = n.resolved_by,
             resolve_time = n.resolve_time, added_alerts_noted = n.added_alerts_noted, last_sequence = n.last_sequence,
             pages = n.pages, reached = n.reached, version = n.version, update_time = app_now(),
             title = coalesce(n.title, e.title), severity_set = n.severity_set, handed_on = n.handed_on,
             merged_into = n.merged_into
           FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[], $5::jsonb[], $6::boolean[], $7::int[], $8::int[],
             $9::int[], $10::jsonb[], $11::jsonb[], $12::text[], $13::timestamptz[], $14::text[], $15::timestamptz[],
             $16::boolean[], $17::bigint[], $18::jsonb[], $19::text[], $20::int[], $21::text[], $22::text[], $23::boolean[],
             $24::int[], $25::uuid[]) AS n(incident_id, severity, alert_count, state, policy, on_fallback_policy, level, repeat,
             generation, assignees, paged_users, acknowledged_by, acknowledge_time, resolved_by, resolve_time,
             added_alerts_noted, last_sequence, pages, reached, version, org_id, title, severity_set, handed_on, merged_into)
           WHERE e.incident_id = n.incident_id AND e.org_id IS NOT DISTINCT FROM n.org_id""",
        [run.incident_id for run in runs],
        [run.facts.severity for run in runs],
        [run.facts.alert_count for run in runs],
        [run.state.value for run in runs],
        [policies.to_json(run.policy) if run.policy else None for run in runs],
        [run.on_fallback_policy for run in runs],
        [run.level for run in runs],
        [run.repeat for run in runs],
        [run.generation for run in runs],
        [people_json(run.assignees) for run in runs],
        [people_json(run.paged_users) for run in runs],
        [run.acknowledged_by for run in runs],
        [run.acknowledge_time for run in runs],
        [run.resolved_by for run in runs],
        [run.resolve_time for run in runs],
        [run.added_alerts_noted for run in runs],
        [run.last_sequence for run in runs],
        [pages.to_json(run) for run in runs],
        [run.reached.value for run in runs],
        [run.version for run in runs],
        [run.org_id for run in runs],
        [run.facts.title if run.incident_id in retitled else None for run in runs],
        [run.severity_set for run in runs],
        [run.handed_on for run in runs],
        [run.merged_into for run in runs],
    )


async def get(tx: Tx, incident_id: UUID) -> EscalationRow | None:
    """One escalation of this tenant."""
    record = await tx.fetchrow(*_GET(org_id=tx.org_id, id=incident_id))
    return to_row(record) if record else None


async def get_many(tx: Tx, incident_ids: Sequence[UUID]) -> dict[UUID, EscalationRow]:
    """Several escalations of this tenant."""
    records = await tx.fetch(*_GET_MANY(org_id=tx.org_id, ids=list(incident_ids)))
    return {record["incident_id"]: to_row(record) for record in records}


async def merged_into(tx: Tx, incident_ids: Sequence[UUID]) -> list[UUID]:
    """The unresolved incidents of this tenant that are merged into these."""
    query = (
        "SELECT incident_id FROM escalations WHERE org_id = $1 AND merged_into = ANY($2::uuid[]) AND state = 'merged'"
    )
    return [record["incident_id"] for record in await tx.fetch(query, tx.org_id, list(incident_ids))]


async def delete_resolved(tx: Tx, limit: int, *, older_than_days: int) -> int:
    """Delete incidents that were resolved long ago, at most `limit`; returns how many."""
    records = await tx.fetch(
        """WITH gone AS (
             DELETE FROM escalations WHERE incident_id IN (
               SELECT incident_id FROM escalations
               WHERE state = 'resolved' AND resolve_time < app_now() - make_interval(days => $1)
               ORDER BY resolve_time LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING incident_id
           ), counted AS (DELETE FROM counted_incidents WHERE incident_id IN (SELECT incident_id FROM gone))
           SELECT incident_id FROM gone""",
        older_than_days,
        limit,
    )
    return len(records)
