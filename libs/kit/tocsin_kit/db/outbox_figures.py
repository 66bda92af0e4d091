"""The figures of an outbox: how many rows wait, since when, for which tenants, and how many are dead or blocked."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tocsin_kit.db.pool import Tx

_COUNTED: Final = 100_000

# The oldest rows by id, which is the order of their creation, so the worst age is exact even when not all are counted.
_WAITING: Final = f"""
SELECT kind, org_id, count(*)::int AS rows, extract(epoch FROM app_now() - min(create_time))::float8 AS oldest_seconds,
  min(id) AS oldest_id, count(last_error)::int AS failed, min(id) FILTER (WHERE last_error IS NOT NULL) AS failed_id
FROM (SELECT id, kind, org_id, create_time, last_error FROM outbox
      WHERE dead_time IS NULL AND kind = ANY($1::text[]) ORDER BY id LIMIT {_COUNTED}) AS waiting
GROUP BY kind, org_id
"""
_DEAD: Final = f"""
SELECT kind, count(*)::int AS rows
FROM (SELECT kind FROM outbox WHERE dead_time IS NOT NULL AND kind = ANY($1::text[]) LIMIT {_COUNTED}) AS dead
GROUP BY kind
"""
_BLOCKED: Final = f"""
SELECT kind, count(*)::int AS rows, min(id) AS oldest_id, min(org_id) AS org_id, min(ordering_key) AS ordering_key
FROM (SELECT id, kind, org_id, ordering_key FROM outbox
      WHERE dead_time IS NULL AND blocked AND kind = ANY($1::text[]) LIMIT {_COUNTED}) AS blocked
GROUP BY kind
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The messages of one kind and tenant to be delivered."""

    kind: str
    org_id: str
    rows: int
    oldest_seconds: float
    """The age of the oldest."""
    oldest_id: int
    failed: int
    """Of these, those that were sent and not accepted."""
    failed_id: int | None
    """The oldest of those."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The messages of one kind whose receiver lacks an earlier one of their ordering key."""

    kind: str
    rows: int
    oldest_id: int
    org_id: str
    """The tenant of one of them; the next field belongs to the same one."""
    ordering_key: str


@dataclass(frozen=True, slots=True)
class OutboxFigures:
    """At one instant, of all tenants; each counted up to 100,000."""

    waiting: list[Waiting]
    dead: dict[str, int]
    """By kind; kinds without any are left out, as in the next field."""
    blocked: dict[str, Blocked]

    def waiting_of(self, kind: str) -> list[Waiting]:
        """One for each tenant that has any."""
        return [each for each in self.waiting if each.kind == kind]


async def figures(tx: Tx, kinds: Iterable[str]) -> OutboxFigures:
    """Of these kinds, in a transaction of all tenants."""
    given = list(kinds)
    return OutboxFigures(
        waiting=[Waiting(*row) for row in await tx.fetch(_WAITING, given)],
        dead={row["kind"]: row["rows"] for row in await tx.fetch(_DEAD, given)},
        blocked={row["kind"]: Blocked(*row) for row in await tx.fetch(_BLOCKED, given)},
    )
