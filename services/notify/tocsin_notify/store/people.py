"""What planning must know of users: their contact methods and rules."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx

from tocsin_notify.domain.page import Channel, Method, Rule, Urgency

_METHODS: Final = """
SELECT m.org_id, m.user_id, m.id, m.channel, m.address, m.secret, m.key_id, m.disabled,
  m.verify_time IS NOT NULL AS verified
FROM unnest($1::text[], $2::text[]) AS g(org_id, user_id)
JOIN contact_methods m ON m.org_id = g.org_id AND m.user_id = g.user_id AND m.delete_time IS NULL
ORDER BY m.create_time, m.id
"""
_RULES: Final = """
SELECT r.org_id, r.user_id, r.urgency, r.contact_method, r.delay_seconds
FROM unnest($1::text[], $2::text[]) AS g(org_id, user_id)
JOIN notification_rules r ON r.org_id = g.org_id AND r.user_id = g.user_id
ORDER BY r.position
"""

User = tuple[str, str]
"""Tenant and `users/{user}`."""


@dataclass(frozen=True, slots=True)
class StoredTarget:
    """Where a method leads, its secret still closed."""

    channel: Channel
    address: str
    secret: bytes | None
    key_id: str


@dataclass(slots=True)
class Person:
    """One user. `methods` oldest first, `rules` in their order."""

    methods: list[Method] = field(default_factory=list)
    targets: dict[UUID, StoredTarget] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)


async def read(tx: Tx, users: Collection[User]) -> dict[User, Person]:
    """Everybody asked for; an unknown user has no methods."""
    people: dict[User, Person] = {user: Person() for user in users}
    names = [org_id for org_id, _ in people], [user for _, user in people]
    for row in await tx.fetch(_METHODS, *names):
        person = people[row["org_id"], row["user_id"]]
        channel = Channel(row["channel"])
        person.methods.append(Method(row["id"], channel, row["verified"], row["disabled"]))
        person.targets[row["id"]] = _target(row)
    for user, rule in _rules(await tx.fetch(_RULES, *names)):
        people[user].rules.append(rule)
    return people


def _target(row: asyncpg.Record) -> StoredTarget:
    """From a row with the method's columns."""
    return StoredTarget(Channel(row["channel"]), row["address"], row["secret"], row["key_id"])


def _rules(rows: Iterable[asyncpg.Record]) -> Iterable[tuple[User, Rule]]:
    for row in rows:
        yield (
            (row["org_id"], row["user_id"]),
            Rule(Urgency(row["urgency"]), row["contact_method"], row["delay_seconds"]),
        )
