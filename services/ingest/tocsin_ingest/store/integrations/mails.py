"""Which alerts the mails were about that were taken lately, so that an answer finds its alert."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

_FIND: Final = """
SELECT dedup_key FROM mail_threads WHERE org_id = $1 AND integration_id = $2 AND message_hash = ANY($3::bytea[])
ORDER BY array_position($3::bytea[], message_hash) LIMIT 1
"""
_ADD: Final = """
INSERT INTO mail_threads (org_id, integration_id, message_hash, dedup_key)
SELECT org_id, integration_id, $3, $4 FROM (
  SELECT org_id, integration_id FROM integrations WHERE org_id = $1 AND integration_id = $2 FOR KEY SHARE) AS known
ON CONFLICT (org_id, integration_id, message_hash) DO UPDATE SET dedup_key = excluded.dedup_key
"""
_LIVE: Final = "SELECT EXISTS (SELECT FROM alerts WHERE org_id = $1 AND key = $2 AND state <> 'resolved')"


async def find(tx: Tx, integration_id: str, digests: Sequence[bytes]) -> str | None:
    """The dedup key of the first of these messages that is known."""
    key: str | None = await tx.fetchval(_FIND, tx.org_id, integration_id, list(digests))
    return key


async def add(tx: Tx, integration_id: str, digest: bytes, dedup_key: str) -> None:
    """The message was about the alert with this key. Nothing is kept for an integration that is gone."""
    await tx.execute(_ADD, tx.org_id, integration_id, digest, dedup_key)


async def is_live(tx: Tx, key: UUID) -> bool:
    """Whether an alert of this key fires or is suppressed."""
    live: bool = await tx.fetchval(_LIVE, tx.org_id, key)
    return live
