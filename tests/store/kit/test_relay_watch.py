"""What is measured of an outbox: what is blocked, what is dead, and whose rows are late."""

from collections.abc import Sequence

import pytest
from tocsin_kit.db.outbox import Dead, OutboxRow, Relay, Retry, RowAnswer
from tocsin_kit.db.outbox_admin import find_many, list_waiting
from tocsin_kit.db.outbox_figures import figures
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay_watch import OutboxLate, OutboxWatch
from tocsin_kit.metrics import Metrics

from tests.store.kit.peer import KIND, put


async def test_a_blocked_key_is_counted_and_a_late_tenant_reported(db: Database) -> None:
    metrics = Metrics()

    async def deliver(rows: Sequence[OutboxRow]) -> list[RowAnswer]:
        return [Retry("OUT_OF_ORDER", blocked=True) if row.ordering_key == "k" else Dead("never") for row in rows]

    await put(db, "a", [b"x"], key="k")
    await put(db, "b", [b"y"])
    relay = Relay(db, deliver, kinds=[KIND], metrics=metrics)
    watch = OutboxWatch(db, [KIND], max_age=60, metrics=metrics)
    await relay.run_once()
    await watch.measure()
    await watch.check()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"kind": KIND, **labels})

    assert value("tocsin_outbox_rows", state="blocked") == 1
    assert value("tocsin_outbox_rows", state="dead") == 1
    assert value("tocsin_outbox_late_tenants") == 0
    async with db.system() as tx:
        [blocked] = await list_waiting(tx, [KIND], blocked=True)
        assert await list_waiting(tx, [KIND]) == [blocked], "what is dead does not wait"
        assert await list_waiting(tx, [KIND], after_id=blocked.id) == []
        assert await list_waiting(tx, [KIND], org_id="b") == []
        assert (blocked.org_id, blocked.reason, blocked.payload) == ("a", "OUT_OF_ORDER", b"")
        found = await figures(tx, [KIND])
        assert [(each.rows, each.failed, each.oldest_id) for each in found.waiting_of(KIND)] == [(1, 1, blocked.id)]
        assert found.blocked[KIND].oldest_id == blocked.id
        assert await find_many(tx, [KIND], [blocked.id, 0]) == {blocked.id: blocked}
        await tx.execute("UPDATE outbox SET create_time = create_time - interval '90 seconds'")
    await watch.measure()
    assert value("tocsin_outbox_late_tenants") == 1
    with pytest.raises(OutboxLate, match="1 tenants have undelivered rows older than 60 s; the oldest is 9"):
        await watch.check()
