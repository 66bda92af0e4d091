"""Notify is told when a user is disabled, enabled or deleted."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from tocsin.notify.v1 import internal_service_pb2 as pb
from tocsin_escalation.app import people
from tocsin_escalation.app.jobs import USER
from tocsin_escalation.store.directory import UserRow
from tocsin_kit.db.pool import Tx

from tests.store.escalation.recorders import ORG, Desk


async def test_each_change_is_told_in_its_order_and_others_are_not(desk: Desk) -> None:
    def changed(**fields: object) -> Callable[[Tx], Awaitable[object]]:
        def change(row: UserRow) -> UserRow:
            return replace(row, **fields)  # type: ignore[arg-type]

        return lambda tx: people.update_user(tx, "ana", "", change)

    for work in (
        changed(display_name="Ana Maria"),
        changed(disabled=True),
        changed(disabled=True, time_zone="Europe/Berlin"),
        changed(disabled=False),
        lambda tx: people.delete_user(tx, "ana", ""),
    ):
        await desk.db.run(ORG, work)
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT org_id, ordering_key, payload FROM outbox WHERE kind = $1 ORDER BY id", USER)
    told = [pb.UserChange.FromString(row["payload"]) for row in rows]
    assert {(row["org_id"], row["ordering_key"]) for row in rows} == {(ORG, "users/ana")}
    assert [(each.org_id, each.user, each.standing) for each in told] == [
        (ORG, "users/ana", pb.USER_STANDING_DISABLED),
        (ORG, "users/ana", pb.USER_STANDING_ENABLED),
        (ORG, "users/ana", pb.USER_STANDING_DELETED),
    ]
    times = [each.change_time.ToDatetime() for each in told]
    assert times == sorted(times)
