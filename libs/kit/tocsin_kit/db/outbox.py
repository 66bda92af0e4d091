"""Messages that leave with the transaction that caused them.

`append` writes a row in the caller's transaction; `Relay` (in `tocsin_kit.db.relay`) hands it over, again and again,
until it is accepted. Rows of one ordering key are handed over one at a time in the order of their ids. Ids follow commit
order only if writers of one key take turns, so lock the row the key stands for before you append; `''` orders nothing.
"""

from collections.abc import Sequence

from tocsin_kit.db.outbox_rows import Dead, Done, OutboxRow, Outcome, Retry
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.relay import Relay

__all__ = [
    "Dead",
    "Done",
    "OutboxRow",
    "Outcome",
    "Relay",
    "Retry",
    "append",
    "append_across",
    "append_many",
    "append_mixed",
    "insert_from",
]

_APPEND = """
INSERT INTO outbox (org_id, ordering_key, kind, payload, due_time)
VALUES ($1, $2, $3, $4, app_now() + make_interval(secs => $5)) RETURNING id
"""
_APPEND_MANY = """
INSERT INTO outbox (org_id, ordering_key, kind, payload, due_time)
SELECT org_id, ordering_key, kind, payload, app_now() + make_interval(secs => delay)
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::float8[])
    WITH ORDINALITY AS given (kind, org_id, ordering_key, payload, delay, position)
ORDER BY position
RETURNING id
"""


def insert_from(rows: str) -> str:
    """The INSERT that appends what `rows` selects: org_id, ordering_key, kind and payload, due at once.

    For a statement that changes state and appends in one round trip: `WITH changed AS (…), told AS ({insert_from(…)}) …`.
    The caller's SQL names the tenant of every row.
    """
    return f"""INSERT INTO outbox (org_id, ordering_key, kind, payload, due_time)
  SELECT org_id, ordering_key, kind, payload, app_now() FROM ({rows}) AS given"""


async def append(tx: Tx, kind: str, ordering_key: str, payload: bytes, *, delay: float = 0, org_id: str = "") -> int:
    """One message of the transaction's tenant, due after `delay` seconds. Returns its id.

    A system transaction must name the tenant. Nudge the relay after commit: `tx.after_commit(relay.nudge)`.
    """
    row_id: int = await tx.fetchval(_APPEND, _tenant(tx, org_id), ordering_key, kind, payload, float(delay))
    return row_id


async def append_many(tx: Tx, kind: str, messages: Sequence[tuple[str, bytes]], *, org_id: str = "") -> list[int]:
    """Many messages (ordering key, payload) of one tenant in one statement, in the order given. Their ids."""
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


def _tenant(tx: Tx, org_id: str) -> str:
    tenant = org_id or tx.org_id
    if tenant == "*":
        raise ValueError("a message belongs to one tenant: name it")
    return tenant
