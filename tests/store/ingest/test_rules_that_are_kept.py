"""What a process has compiled of an integration's rules is theirs, also after a standby took over that lacked their last change."""

from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig
from tocsin_kit.db.pool import Database, Tx

from tests.store.ingest.silenced import Replica


async def test_rules_that_were_changed_again_after_their_change_was_lost_are_used(
    database: Database, replica: Replica, org: str
) -> None:
    """The second change gets the number of the first one. A process that has no alert of the integration in between must see it."""

    async def made(tx: Tx) -> None:
        await integrations.insert(tx, "prom", IntegrationConfig("Prometheus", "before", b"", ()))

    async def changed(policy: str) -> None:
        await database.run(
            org, lambda tx: integrations.update(tx, "prom", IntegrationConfig("Prometheus", policy, b"", (), None))
        )

    await database.run(org, made)
    directory = replica.directory
    async with database.transaction(org) as tx:
        before = await tx.fetchrow(
            "SELECT version, update_time, default_policy FROM integrations WHERE org_id = $1", org
        )
    assert before is not None
    await changed("lost")
    assert (await directory.routing(org, "prom")).default_policy == "lost"
    async with database.transaction(org) as tx:
        await tx.execute(
            "UPDATE integrations SET version = $2, update_time = $3, default_policy = $4 WHERE org_id = $1",
            org,
            *before,
        )
    await changed("after")
    assert (await directory.routing(org, "prom")).default_policy == "after"
