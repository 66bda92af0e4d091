"""The record of API keys and revocations that every service follows. Escalation has it in its own database."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.keys.record import PAGE, FoundKey, Numbered, Use
from tocsin_kit.keys.revocations import Revocation

from tocsin_escalation.app.access.service_accounts import granted
from tocsin_escalation.store.access import api_keys, revocations


class OwnKeyRecord:
    """See `tocsin_kit.keys.record.KeyRecord`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def find_keys(self, hashes: Sequence[bytes]) -> Mapping[bytes, FoundKey]:
        """The working keys among these. Raises DATABASE_UNAVAILABLE."""
        async with self._db.system() as tx:
            found = await api_keys.find(tx, hashes)
        return {
            key.hash: FoundKey(
                str(key.row.id),
                key.org_id,
                f"serviceAccounts/{key.row.service_account}",
                granted(key.row),
                key.row.source_ranges,
                key.row.create_time.timestamp() if key.row.create_time else 0.0,
                None if key.remaining is None else key.remaining.total_seconds(),
            )
            for key in found
        }

    async def revocations_after(self, number: int, limit: int = PAGE) -> tuple[Sequence[Numbered], int]:
        """By number, and the number to go on from. Raises DATABASE_UNAVAILABLE."""
        async with self._db.autocommit() as tx:
            rows, settled = await revocations.after(tx, number, limit)
        return [
            Numbered(
                row.number,
                Revocation(
                    row.org_id, row.token_id, row.subject, row.issued_before.timestamp(), row.expire_time.timestamp()
                ),
            )
            for row in rows
        ], settled

    async def note_uses(self, uses: Sequence[Use]) -> None:
        """Raises DATABASE_UNAVAILABLE."""

        async def note(tx: Tx) -> None:
            orgs, ids = [use.org_id for use in uses], [UUID(use.id) for use in uses]
            await api_keys.note_uses(tx, orgs, ids, [timedelta(seconds=use.ago) for use in uses])

        await self._db.run(None, note)
