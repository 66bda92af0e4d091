"""The contact methods and rules of users, as planning needs them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx

from tocsin_notify.domain.notification_settings import EVERYBODY, NOTHING_CHOSEN, NotificationSettings
from tocsin_notify.domain.page import Channel, Method, Rule, Urgency
from tocsin_notify.store.contacts.notification_settings import chosen

COLUMNS: Final = (
    *("org_id", "user_id", "method", "channel", "address", "secret", "key_id", "disabled", "user_disabled", "verified"),
    *("urgency", "delay_seconds", "create_time", "place", "position"),
    *("chosen_by", "budget_pages", "budget_window", "quiet_hours", "language"),
)
"""The rows that `people_of` takes."""
IN_ORDER: Final = "ORDER BY create_time, place, position"


def rows_of(users: str) -> str:
    """The query for the rows of people. `users`: a relation of tenants and users, in SQL."""
    # One round trip reads the methods, and after them, for these have no creation time, the rules and the settings of
    # the user and of all users. Each user is looked up separately: a join whose plan was made when there were few
    # methods reads those of all tenants for each page. Rows are compared as a whole, and the order names the user, so
    # that no other index fits.
    return f"""
SELECT m.org_id, m.user_id, m.id AS method, m.channel, m.address, m.secret, m.key_id, m.disabled, m.user_disabled,
  m.verify_time IS NOT NULL AS verified, NULL::text AS urgency, NULL::float8 AS delay_seconds, m.create_time, m.id AS place,
  0 AS position, NULL::text AS chosen_by, NULL::int AS budget_pages, NULL::float8 AS budget_window,
  NULL::jsonb AS quiet_hours, NULL::text AS language
FROM {users} AS g(org_id, user_id) CROSS JOIN LATERAL (
  SELECT * FROM contact_methods AS mine WHERE delete_time IS NULL
    AND (mine.org_id, mine.user_id) >= (g.org_id, g.user_id) AND (mine.org_id, mine.user_id) <= (g.org_id, g.user_id)
  ORDER BY mine.org_id, mine.user_id
) AS m
UNION ALL
SELECT r.org_id, r.user_id, r.contact_method, NULL, NULL, NULL, NULL, NULL, NULL, NULL, r.urgency, r.delay_seconds, NULL, NULL,
  r.position, NULL, NULL, NULL, NULL, NULL
FROM {users} AS g(org_id, user_id) CROSS JOIN LATERAL (
  SELECT * FROM notification_rules AS mine WHERE mine.org_id = g.org_id AND mine.user_id = g.user_id OFFSET 0
) AS r
UNION ALL
SELECT g.org_id, g.user_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  s.user_id, s.budget_pages, s.budget_window, s.quiet_hours, s.language
FROM {users} AS g(org_id, user_id) CROSS JOIN LATERAL (
  SELECT * FROM notification_settings AS mine WHERE mine.org_id = g.org_id AND mine.user_id = ANY (ARRAY[g.user_id, '{EVERYBODY}'])
  OFFSET 0
) AS s
"""


_READ: Final = f"{rows_of('unnest($1::text[], $2::text[])')} {IN_ORDER}"

_KNOWN: Final = frozenset(Channel)

User = tuple[str, str]
"""Tenant and `users/{user}`."""


@dataclass(frozen=True, slots=True)
class StoredTarget:
    """The address of a method, its secret still encrypted."""

    channel: Channel
    address: str
    secret: bytes | None
    key_id: str


@dataclass(slots=True)
class Person:
    """One user. `methods` oldest first, `rules` in their order. `settings`: with those of the organisation."""

    methods: list[Method] = field(default_factory=list)
    targets: dict[UUID, StoredTarget] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    settings: NotificationSettings = NOTHING_CHOSEN


async def read(tx: Tx, users: Collection[User]) -> dict[User, Person]:
    """Everyone asked for; an unknown user has no methods."""
    rows = await tx.fetch(_READ, [org_id for org_id, _ in users], [user for _, user in users])
    return people_of(users, rows)


def people_of(users: Collection[User], rows: Iterable[asyncpg.Record]) -> dict[User, Person]:
    """From rows of `rows_of`, in their order."""
    people: dict[User, Person] = {user: Person() for user in users}
    for row in rows:
        person, method = people[row["org_id"], row["user_id"]], row["method"]
        if row["chosen_by"] is not None:
            these = chosen(row["budget_pages"], row["budget_window"], row["quiet_hours"], row["language"])
            of_all = row["chosen_by"] == EVERYBODY
            person.settings = person.settings.over(these) if of_all else these.over(person.settings)
            continue
        if row["urgency"] is not None:
            person.rules.append(Rule(Urgency(row["urgency"]), method, row["delay_seconds"]))
            continue
        if row["channel"] not in _KNOWN:
            continue  # a newer version made it, for a channel that this version does not have
        person.methods.append(
            Method(method, Channel(row["channel"]), row["verified"], row["disabled"], row["user_disabled"])
        )
        person.targets[method] = _target(row)
    return people


def _target(row: asyncpg.Record) -> StoredTarget:
    """From a row with the method's columns."""
    return StoredTarget(Channel(row["channel"]), row["address"], row["secret"], row["key_id"])
