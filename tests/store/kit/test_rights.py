"""A right that a service lost on one of its tables counts against its readiness."""

import grpc
import pytest
from tocsin_kit.db.pool import Database
from tocsin_kit.db.probe import Probe
from tocsin_kit.errors import TocsinError

from tests.store.round_trips import recorded


@pytest.mark.parametrize("right", ["SELECT", "INSERT", "UPDATE", "DELETE"])
async def test_a_right_that_was_revoked_counts_until_it_is_granted_again(db: Database, right: str) -> None:
    """What needs it fails, and the incidents concerned stand still, while everything else works."""
    await db.ping()
    async with db.system() as tx:
        await tx.execute(f"REVOKE {right} ON outbox FROM CURRENT_USER")
    try:
        with pytest.raises(TocsinError, match=f"lost rights it had: {right} on outbox$") as caught:
            await db.ping()
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    finally:
        async with db.system() as tx:
            await tx.execute(f"GRANT {right} ON outbox TO CURRENT_USER")
    await db.ping()


async def test_the_health_check_looks_at_rights_now_and_then_and_at_once_when_sessions_are_new(db: Database) -> None:
    probe = Probe(db, rights_every=3600)
    await probe.check()
    async with db.system() as tx:
        await tx.execute("REVOKE DELETE ON outbox FROM CURRENT_USER")
    try:
        with recorded() as trips:
            await probe.check()
        assert [len(each) for each in trips.transactions] == [3], "BEGIN, one question, COMMIT"
        async with db.system() as tx:
            await tx.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        async with db.system(), db.system():  # one of them is new
            pass
        for _ in range(2):
            with pytest.raises(TocsinError, match="lost rights"):
                await probe.check()
    finally:
        async with db.system() as tx:
            await tx.execute("GRANT DELETE ON outbox TO CURRENT_USER")
    await probe.check()
