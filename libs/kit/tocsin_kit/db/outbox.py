"""Messages that are sent because of a transaction, and are written in it.

The functions that append write rows in the caller's transaction; `Relay` (in `tocsin_kit.db.relay`) sends them again and again
until they are accepted. Rows of one ordering key are sent one at a time in the order of their ids. Ids follow the order of
commits only if writers of one key exclude each other, so lock the row that the key stands for before you append. `''` means no
order.

A service uses the table through this module only. Functions that return a `str` make SQL for a larger statement of the service,
so that a batch takes one round trip; the SQL given to them names the tenant of every row.
"""

from collections.abc import Collection, Sequence
from typing import Final

from tocsin_kit.db.outbox_confirmed import Confirmed
from tocsin_kit.db.outbox_rows import Dead, Done, OutboxRow, Retry, RowAnswer
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.relay import Relay
from tocsin_kit.db.relay_from_memory import SURE_WAY_SECONDS

__all__ = [
    "SURE_WAY_SECONDS",
    "Confirmed",
    "Dead",
    "Done",
    "OutboxRow",
    "Relay",
    "Retry",
    "RowAnswer",
    "append_across",
    "append_many",
    "append_mixed",
    "held_up",
    "hurry",
    "insert_from",
    "lock_untried",
    "on_its_way",
    "pending_of",
    "rewrite_from",
    "write_and_find",
    "write_mixed",
]

_HELD_UP: Final = """
SELECT org_id FROM unnest($2::text[]) AS g(org_id) WHERE EXISTS (
  SELECT FROM outbox o WHERE o.kind = $1 AND o.org_id = g.org_id AND o.dead_time IS NULL
    AND o.create_time < app_now() - make_interval(secs => $3))
"""
_WRITE_MANY: Final = """
INSERT INTO outbox (org_id, ordering_key, kind, payload, due_time)
SELECT org_id, ordering_key, kind, payload, app_now() + make_interval(secs => delay)
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::float8[])
    WITH ORDINALITY AS given (kind, org_id, ordering_key, payload, delay, position)
ORDER BY position
"""
_APPEND_MANY: Final = f"{_WRITE_MANY}RETURNING id"


# The tenant is compared with IS NOT DISTINCT FROM where the ordering key must be used: such a condition cannot use an index.
_OF_KEYS: Final = """ordering_key <> '' AND ordering_key = ANY({keys}) AND org_id IS NOT DISTINCT FROM {org_id} AND kind = {kind}
  AND dead_time IS NULL"""
_UNTRIED: Final = "lease_until IS NULL AND attempts = 0"
_PENDING: Final = f"SELECT id, payload FROM outbox WHERE {_OF_KEYS}"
_PENDING_OF: Final = f"{_PENDING.format(org_id='$1', keys='$2::text[]', kind='$3')} ORDER BY id"
_WRITE_MANY_AND_FIND: Final = f"""
WITH written AS ({_WRITE_MANY}RETURNING id, org_id, ordering_key, kind, payload),
due AS (
  SELECT id, payload FROM written WHERE ordering_key = ANY($7::text[]) AND org_id = $6 AND kind = $8
  UNION ALL
  {_PENDING.format(org_id="$6", keys="$7::text[]", kind="$8")})
SELECT id, payload FROM due ORDER BY id
"""
_HURRY: Final = f"""
UPDATE outbox SET due_time = app_now()
WHERE {_OF_KEYS.format(org_id="$1", keys="$2::text[]", kind="$3")} AND {_UNTRIED} AND due_time > app_now()
"""


def insert_from(rows: str, *, delayed: bool = False) -> str:
    """The INSERT that appends the rows of `rows`: org_id, ordering_key, kind, payload, due at once.

    `delayed`: due after the number of seconds in the column `delay` of `rows`. For a statement that changes state and appends in
    one round trip: `WITH changed AS (…), told AS ({insert_from(…)}) …`.
    """
    due = "app_now() + make_interval(secs => delay)" if delayed else "app_now()"
    return f"""INSERT INTO outbox (org_id, ordering_key, kind, payload, due_time)
  SELECT org_id, ordering_key, kind, payload, {due} FROM ({rows}) AS given"""


def lock_untried(kind: str, ordering_keys: str) -> str:
    """The SELECT of id, ordering_key and payload of the messages whose delivery has not begun; locks them.

    `ordering_keys` is SQL for an array of texts, `$1` the tenant. A message that a relay is claiming at this moment is left out:
    it counts as delivered.
    """
    return f"""SELECT id, ordering_key, payload FROM outbox
  WHERE {_OF_KEYS.format(org_id="$1", keys=ordering_keys, kind=f"'{kind}'")} AND {_UNTRIED} FOR UPDATE SKIP LOCKED"""


def rewrite_from(rows: str) -> str:
    """The UPDATE that replaces payloads by those of `rows`: org_id, id, payload, urgent (due at once).

    Only for messages that the same transaction has locked by `lock_untried`: others may have been delivered.
    """
    # With an equality the planner might read the whole index.
    return f"""UPDATE outbox SET payload = given.payload,
  due_time = CASE WHEN given.urgent THEN least(outbox.due_time, app_now()) ELSE outbox.due_time END
FROM ({rows}) AS given WHERE outbox.id = ANY(ARRAY[given.id]) AND outbox.org_id IS NOT DISTINCT FROM given.org_id"""


def on_its_way(ordering_key: str, org_id: str) -> str:
    """The condition that a message of the ordering key is neither delivered nor dead. Both are SQL, such as column names."""
    return f"""EXISTS (SELECT FROM outbox WHERE outbox.ordering_key = {ordering_key}
  AND outbox.ordering_key <> '' AND outbox.dead_time IS NULL AND outbox.org_id = {org_id})"""


async def append_many(tx: Tx, kind: str, messages: Sequence[tuple[str, bytes]], *, org_id: str = "") -> list[int]:
    """Messages (ordering key, payload) of one tenant in one statement, due at once, in the order given. Their ids.

    A system transaction must name the tenant. Nudge the relay after commit: `tx.after_commit(relay.nudge)`.
    """
    tenant = _tenant(tx, org_id)
    return await append_across(tx, kind, [(tenant, key, payload) for key, payload in messages])


async def append_across(tx: Tx, kind: str, messages: Sequence[tuple[str, str, bytes]]) -> list[int]:
    """Many messages (tenant, ordering key, payload) of one kind in one statement, in the order given. Their ids."""
    return await append_mixed(tx, [(kind, org_id, key, payload, 0.0) for org_id, key, payload in messages])


async def append_mixed(tx: Tx, messages: Sequence[tuple[str, str, str, bytes, float]]) -> list[int]:
    """Many messages (kind, tenant, ordering key, payload, delay in seconds) in one statement. Their ids, in order."""
    if not messages:
        return []
    rows = await tx.fetch(_APPEND_MANY, *map(list, zip(*messages, strict=True)))
    return [row["id"] for row in rows]


async def write_mixed(tx: Tx, messages: Sequence[tuple[str, str, str, bytes, float]]) -> None:
    """`append_mixed` for callers that do not ask for the ids."""
    if messages:
        await tx.execute(_WRITE_MANY, *map(list, zip(*messages, strict=True)))


async def hurry(tx: Tx, kind: str, ordering_keys: Sequence[str]) -> None:
    """Make those of the tenant's messages due at once whose delivery has not begun: later messages of their keys wait for them."""
    await tx.execute(_HURRY, tx.org_id, list(ordering_keys), kind)


async def pending_of(tx: Tx, kind: str, ordering_keys: Sequence[str]) -> list[tuple[int, bytes]]:
    """The tenant's messages that are neither delivered nor dead, as id and payload, in the order of their ids."""
    return [(row["id"], row["payload"]) for row in await tx.fetch(_PENDING_OF, tx.org_id, list(ordering_keys), kind)]


async def write_and_find(
    tx: Tx, messages: Sequence[tuple[str, str, str, bytes, float]], kind: str, ordering_keys: Sequence[str]
) -> list[tuple[int, bytes]]:
    """`write_mixed`, and then `pending_of`, in one statement."""
    columns = map(list, zip(*messages, strict=True)) if messages else ([] for _ in range(5))
    rows = await tx.fetch(_WRITE_MANY_AND_FIND, *columns, tx.org_id, list(ordering_keys), kind)
    return [(row["id"], row["payload"]) for row in rows]


async def held_up(tx: Tx, kind: str, org_ids: Collection[str], seconds: float) -> set[str]:
    """Those of the tenants that have a message in the outbox which was written more than so many seconds ago."""
    return {row["org_id"] for row in await tx.fetch(_HELD_UP, kind, list(org_ids), seconds)}


def _tenant(tx: Tx, org_id: str) -> str:
    tenant = org_id or tx.org_id
    if tenant == "*":
        raise ValueError("a message belongs to one tenant: name it")
    return tenant
