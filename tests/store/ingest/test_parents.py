"""What belongs to an integration or a silence that is deleted at the same moment is not found, or is not kept."""

from collections.abc import Awaitable, Callable

import pytest
from tocsin.ingest.v1.integration_service_pb2 import RotateIntegrationKeyRequest
from tocsin_ingest.app.integrations.rotate_integration_key import rotate_integration_key
from tocsin_ingest.store.integrations import integrations, mails
from tocsin_ingest.store.integrations.integrations import IntegrationConfig
from tocsin_kit.db.pool import Database

from tests.store.ingest.silenced import Replica, silenced
from tests.store.parents import Write, deleted_after, deleted_before, foreign_keys


async def integration(replica: Replica, name: str) -> str:
    async with replica.database.transaction(replica.org) as tx:
        await integrations.insert(tx, name, IntegrationConfig(name, "", b"", (), None))
    return f"DELETE FROM integrations WHERE integration_id = '{name}'"


async def key(replica: Replica, name: str) -> Write:
    gone = await integration(replica, name)
    request = RotateIntegrationKeyRequest(name=f"integrations/{name}")
    return Write("integration_keys", gone, lambda: rotate_integration_key(replica.database, replica.org, request, ""))


async def thread(replica: Replica, name: str) -> Write:
    """Its alert is taken already: the mail must not be answered with an error."""
    gone = await integration(replica, name)
    return Write(
        "mail_threads",
        gone,
        lambda: replica.database.run(replica.org, lambda tx: mails.add(tx, name, b"d" * 32, "disk")),
    )


async def count(replica: Replica, name: str) -> Write:
    """The alert is not held back by a silence that is gone."""
    silence = await silenced(replica.database, replica.org)
    gone = f"DELETE FROM silences WHERE id = '{silence.removeprefix('silences/')}'"
    return Write("silence_counts", gone, lambda: replica.sends(name))


Case = Callable[[Replica, str], Awaitable[Write]]
CASES: dict[str, tuple[Case, str]] = {
    "integration_keys -> integrations": (key, "INTEGRATION_NOT_FOUND"),
    "mail_threads -> integrations": (thread, ""),
    "silence_counts -> silences": (count, ""),
}
INVARIANTS = {"parts.alerts_live -> parts.incidents_open"}
"""Deferred: no transaction may close an incident and leave an alert of it."""
OF_ALERTS = " -> parts.alerts_live"
"""What belongs to a live alert goes with it, and is written by the batch that locks its key."""


async def test_each_foreign_key_is_walked(database: Database) -> None:
    found = {each for each in await foreign_keys(database) if not each.endswith(OF_ALERTS)}
    assert found == {*CASES, *INVARIANTS}, "add what writes the new one"


@pytest.mark.parametrize(("case", "reason"), [pytest.param(*each, id=each[0].__name__) for each in CASES.values()])
async def test_a_parent_that_is_deleted_meanwhile_is_not_found_and_one_that_was_found_stays(
    replica: Replica, case: Case, reason: str
) -> None:
    assert await deleted_before(replica.database, await case(replica, "first")) == reason
    assert await deleted_after(replica.database, await case(replica, "second")) == ""
