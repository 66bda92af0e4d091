"""Policies in PostgreSQL: converts rows to the domain and back. A policy's definition is one JSON value, read as a whole."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.logging import get_logger

from tocsin_escalation.domain.conditions import ALWAYS, Condition
from tocsin_escalation.domain.policy import GapChoice, Level, Policy, Target, TargetKind
from tocsin_escalation.domain.urgencies import Urgency, UrgencyRule
from tocsin_escalation.store import tables
from tocsin_escalation.store.people.named import Named
from tocsin_escalation.store.schedules.windows import windows_from, windows_to

_log: Final = get_logger(__name__)
_KEPT: Final = 256
"""Policies whose two forms are cached: a burst of incidents runs on a few policies, and each incident freezes a copy."""


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A stored policy, with the fields that only its owner sees."""

    policy: Policy
    display_name: str
    tenant_fallback: bool
    version: int
    create_time: datetime
    update_time: datetime


@lru_cache(_KEPT)
def to_json(policy: Policy) -> str:
    """The frozen form, in policies.definition and escalations.policy alike."""
    return json.dumps(
        {
            "id": policy.id,
            "levels": [
                {
                    "targets": [str(target) for target in level.targets],
                    "timeout": level.timeout.total_seconds(),
                    **({"in_turn": True, "turn_timeout": _seconds(level.turn_timeout)} if level.in_turn else {}),
                    **({} if level.condition == ALWAYS else {"condition": _condition_to(level.condition)}),
                    **({"repeats": [level.repeats, _seconds(level.repeat_interval)]} if level.repeats else {}),
                }
                for level in policy.levels
            ],
            "repeat_count": policy.repeat_count,
            "fallback_target": str(policy.fallback_target) if policy.fallback_target else None,
            "ack_timeout": _seconds(policy.ack_timeout),
            "team": policy.team,
            "status_updates": policy.status_updates,
            "page_raised_urgency": policy.page_raised_urgency,
            "on_gap": policy.on_gap,
            **({"next_policy": policy.next_policy} if policy.next_policy else {}),
            **({"unresolved": _unresolved_to(policy)} if policy.unresolved_target else {}),
            **({"urgency_rules": list(map(_urgency_rule_to, policy.urgency_rules))} if policy.urgency_rules else {}),
        },
        separators=(",", ":"),
    )


@lru_cache(_KEPT)
def from_json(text: str) -> Policy:
    """The policy of a text from `to_json`."""
    data = json.loads(text)
    return Policy(
        id=data["id"],
        levels=tuple(
            Level(
                tuple(map(parse_target, level["targets"])),
                timedelta(seconds=level["timeout"]),
                level.get("in_turn", False),
                _duration(level.get("turn_timeout")),
                _condition_from(level["condition"]) if "condition" in level else ALWAYS,
                level["repeats"][0] if "repeats" in level else 0,
                _duration(level["repeats"][1]) if "repeats" in level else None,
            )
            for level in data["levels"]
        ),
        repeat_count=data["repeat_count"],
        fallback_target=parse_target(data["fallback_target"]) if data["fallback_target"] else None,
        ack_timeout=_duration(data["ack_timeout"]),
        team=data["team"],
        status_updates=data["status_updates"],
        page_raised_urgency=data.get("page_raised_urgency", True),  # older policies have no such field
        on_gap=GapChoice(data.get("on_gap", GapChoice.SKIP)),
        next_policy=data.get("next_policy", ""),
        unresolved_after=_duration(data["unresolved"]["after"]) if "unresolved" in data else None,
        unresolved_target=parse_target(data["unresolved"]["target"]) if "unresolved" in data else None,
        urgency_rules=tuple(map(_urgency_rule_from, data.get("urgency_rules", ()))),
    )


def _unresolved_to(policy: Policy) -> dict[str, Any]:
    return {"after": _seconds(policy.unresolved_after), "target": str(policy.unresolved_target)}


def _urgency_rule_to(rule: UrgencyRule) -> dict[str, Any]:
    return {
        "urgency": rule.urgency,
        **({} if rule.condition == ALWAYS else {"condition": _condition_to(rule.condition)}),
    }


def _urgency_rule_from(data: dict[str, Any]) -> UrgencyRule:
    return UrgencyRule(Urgency(data["urgency"]), _condition_from(data["condition"]) if "condition" in data else ALWAYS)


def _condition_to(condition: Condition) -> dict[str, Any]:
    return {
        "severities": condition.severities,
        "windows": windows_to(condition.windows),
        "zone": condition.zone,
    }


def _condition_from(data: dict[str, Any]) -> Condition:
    return Condition(tuple(data["severities"]), windows_from(data["windows"]), data["zone"])


def _seconds(value: timedelta | None) -> float | None:
    return value.total_seconds() if value else None


def _duration(seconds: float | None) -> timedelta | None:
    return timedelta(seconds=seconds) if seconds else None


def parse_target(name: str) -> Target:
    """`users/ana` or `teams/core`."""
    collection, _, id = name.partition("/")
    return Target(TargetKind(collection.removesuffix("s")), id)


def _row(record: Record) -> PolicyRow:
    return PolicyRow(
        from_json(record["definition"]),
        record["display_name"],
        record["tenant_fallback"],
        record["version"],
        record["create_time"],
        record["update_time"],
    )


_C: Final = tables.policies.c
_TABLE: Final = Named(
    tables.policies,
    (_C.id, _C.definition, _C.display_name, _C.tenant_fallback, _C.version, _C.create_time, _C.update_time),
    _row,
    written=("display_name", "definition", "tenant_fallback"),
)
get: Final = _TABLE.get
page: Final = _TABLE.page
ids: Final = _TABLE.ids
delete: Final = _TABLE.delete


async def usable(tx: Tx, wanted: set[tuple[str, str]], orgs: set[str]) -> dict[tuple[str, str], Policy]:
    """The policies named as (org, id), and each org's fallback under (org, ""); without unreadable ones."""
    records = await tx.fetch(
        """SELECT p.org_id, p.id, p.definition, false AS fallback
             FROM policies p JOIN unnest($1::text[], $2::text[]) AS w(org_id, id) USING (org_id, id)
           UNION ALL
           SELECT org_id, id, definition, true FROM policies WHERE org_id = ANY($3::text[]) AND tenant_fallback""",
        [org for org, _ in wanted],
        [id for _, id in wanted],
        list(orgs),
    )
    found: dict[tuple[str, str], Policy] = {}
    for record in records:
        try:
            policy = from_json(record["definition"])
        except (KeyError, TypeError, ValueError) as error:
            # It counts as deleted: its incidents run on the tenant's fallback policy, and other incidents on their own.
            _log.error("policy_unreadable", org_id=record["org_id"], policy=record["id"], error=repr(error))
            continue
        found[record["org_id"], "" if record["fallback"] else record["id"]] = policy
    return found


async def schedules_named(tx: Tx, after: tuple[str, str], limit: int) -> list[tuple[str, str]]:
    """Schedules that levels of policies name, of every tenant, as (org, id) behind `after`."""
    records = await tx.fetch(
        """SELECT DISTINCT p.org_id, substr(t.name, 11) AS id
             FROM policies p, jsonb_array_elements(p.definition->'levels') AS l(level),
                  jsonb_array_elements_text(l.level->'targets') AS t(name)
            WHERE t.name LIKE 'schedules/%' AND (p.org_id, substr(t.name, 11)) > ($1, $2)
            ORDER BY 1, 2 LIMIT $3""",
        *after,
        limit,
    )
    return [(record["org_id"], record["id"]) for record in records]


async def missing(tx: Tx, org_id: str, ids: list[str]) -> list[str]:
    """Those of `ids` that this tenant does not have."""
    query = "SELECT w.id FROM unnest($2::text[]) AS w(id) LEFT JOIN policies p ON p.org_id = $1 AND p.id = w.id WHERE p.id IS NULL"
    return [record["id"] for record in await tx.fetch(query, org_id, ids)]


async def insert(tx: Tx, policy: Policy, display_name: str, tenant_fallback: bool) -> PolicyRow | None:
    """A new policy; None when the id is taken."""
    if tenant_fallback:
        await _clear_fallback(tx)
    new = _TABLE.inserting(org_id=tx.org_id, **_written(policy, display_name, tenant_fallback))
    record = await tx.fetchrow(*new)
    if record:
        await _keep_turns(tx, policy)
    return _row(record) if record else None


async def update(tx: Tx, policy: Policy, display_name: str, tenant_fallback: bool) -> PolicyRow:
    """A locked policy's new values."""
    if tenant_fallback:
        await _clear_fallback(tx, but=policy.id)
    changed = _TABLE.updating(org_id=tx.org_id, **_written(policy, display_name, tenant_fallback))
    record = await tx.fetchrow(*changed)
    assert record is not None, "the row is locked by this transaction"
    await _keep_turns(tx, policy)
    return _row(record)


async def _keep_turns(tx: Tx, policy: Policy) -> None:
    """A policy with turns has a row that each of them locks. One that exists is left as it is."""
    if policy.has_turns:
        await tx.execute(
            "INSERT INTO policy_turns (org_id, policy_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", tx.org_id, policy.id
        )


def _written(policy: Policy, display_name: str, tenant_fallback: bool) -> dict[str, object]:
    return {
        "id": policy.id,
        "display_name": display_name,
        "definition": to_json(policy),
        "tenant_fallback": tenant_fallback,
    }


async def _clear_fallback(tx: Tx, but: str = "") -> None:
    await tx.execute(
        """UPDATE policies SET tenant_fallback = false, version = version + 1, update_time = app_now()
           WHERE org_id = $1 AND tenant_fallback AND id <> $2""",
        tx.org_id,
        but,
    )
