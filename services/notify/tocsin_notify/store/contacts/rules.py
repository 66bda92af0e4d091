"""Users' rules, kept as a whole with one version."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_notify.domain.page import Rule, Urgency

_BUMP: Final = """
INSERT INTO rule_sets AS s (org_id, user_id) VALUES ($1, $2)
ON CONFLICT (org_id, user_id) DO UPDATE SET version = s.version + 1, update_time = app_now()
RETURNING version, update_time
"""
_INSERT: Final = """
INSERT INTO notification_rules (org_id, user_id, position, urgency, contact_method, delay_seconds)
SELECT $1, $2, g.position, g.urgency, g.method, g.delay
FROM unnest($3::text[], $4::uuid[], $5::float8[]) WITH ORDINALITY AS g(urgency, method, delay, position)
"""
_READ: Final = """
SELECT urgency, contact_method, delay_seconds FROM notification_rules WHERE org_id = $1 AND user_id = $2
ORDER BY position
"""
_FORGET: Final = """
WITH gone AS (DELETE FROM notification_rules WHERE org_id = $1 AND contact_method = $2 RETURNING user_id)
UPDATE rule_sets SET version = version + 1, update_time = app_now()
WHERE org_id = $1 AND user_id IN (SELECT user_id FROM gone)
"""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """A user's rules. Version 0: never written."""

    user_id: str
    rules: list[Rule]
    version: int = 0
    update_time: datetime | None = None


async def read(tx: Tx, user: str, *, lock: bool = False) -> RuleSet:
    """A user's rules; a user without any has the defaults."""
    head = await tx.fetchrow(
        "SELECT version, update_time FROM rule_sets WHERE org_id = $1 AND user_id = $2"
        + (" FOR UPDATE" if lock else ""),
        tx.org_id,
        user,
    )
    if head is None:
        return RuleSet(user, [])
    rows = await tx.fetch(_READ, tx.org_id, user)
    rules = [Rule(Urgency(row["urgency"]), row["contact_method"], row["delay_seconds"]) for row in rows]
    return RuleSet(user, rules, head["version"], head["update_time"])


async def replace(tx: Tx, user: str, rules: Sequence[Rule]) -> RuleSet:
    """Replace the rules by these."""
    head = await tx.fetchrow(_BUMP, tx.org_id, user)
    assert head is not None
    await tx.execute("DELETE FROM notification_rules WHERE org_id = $1 AND user_id = $2", tx.org_id, user)
    await tx.execute(
        _INSERT,
        tx.org_id,
        user,
        [rule.urgency for rule in rules],
        [rule.method for rule in rules],
        [rule.delay for rule in rules],
    )
    return RuleSet(user, list(rules), head["version"], head["update_time"])


async def forget_user(tx: Tx, user: str) -> None:
    """Delete the user's rules."""
    await tx.execute("DELETE FROM notification_rules WHERE org_id = $1 AND user_id = $2", tx.org_id, user)
    await tx.execute("DELETE FROM rule_sets WHERE org_id = $1 AND user_id = $2", tx.org_id, user)


async def forget_method(tx: Tx, method: UUID) -> None:
    """Delete the rules that name it."""
    await tx.execute(_FORGET, tx.org_id, method)
