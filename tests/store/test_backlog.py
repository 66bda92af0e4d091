"""What claims read is bounded by what they take, and not by what waits."""

import importlib
from typing import Final

import pytest
from tocsin_kit.db import outbox_claims
from tocsin_stack.postgres import Postgres

from tests.store.backlog import ROWS, Asked, most_read
from tests.store.made_up import TEXT

CLAIMS: Final = {
    "ingest": {
        "endings.due",
        "heartbeats.due",
        "holds.due",
        "holds.hurry",
        "intakes.untold",
        "pauses.due",
        "quiet.open_after",
        "refusals.due",
        "due_alerts.is_any_due",
    },
    "escalation": {
        "api_keys.delete_over",
        "counting.delete_old",
        "escalations.delete_resolved",
        "feeds.end_old",
        "reminders.is_any_due",
        "revocations.delete_over",
        "shift_notices.delete_old",
        "timers.due_within",
        "timers.nearest",
        "timers.overdue",
    },
    "notify": {
        "bundles.claim",
        "candidates.due",
        "candidates.expired",
        "candidates.look",
        "candidates.named",
        "digests.claim",
        "event_deliveries.take",
        "groups.claim",
        "looks.look",
        "messages.due",
        "notifications.upcoming",
        "quiet_bundles.due",
        "recurring.due",
        "slack_groups.claim",
        "subscriptions.claim",
    },
}
"""The functions that are called in `Database.claim` and `Database.alone`, without those that look rows up by their ids."""
_MOST: Final = ROWS // 4
"""What may be read for one row: some of each tenant, and those that the made-up rows of other states put in between."""
_RELAY: Final[Asked] = {
    ("relay.fair", outbox_claims._CLAIM): [([TEXT], 1, 1.0, "", [], 200, 1 << 20)],
    ("relay.of", outbox_claims._CLAIM_OF): [([TEXT], 1, 1.0, [TEXT], [], 200, 1 << 20)],
    ("relay.refused", outbox_claims._CLAIM_REFUSED): [([TEXT], 1, 1.0, "", [], 200, 1 << 20)],
}


@pytest.mark.parametrize("service", CLAIMS)
async def test_claims_read_what_they_take(postgres: Postgres, service: str) -> None:
    name = f"backlog_{service}"
    await postgres.clone_database(f"tocsin_{service}", name)
    try:
        store = importlib.import_module(f"tocsin_{service}.store")
        found = await most_read(postgres.url(name), store, CLAIMS[service], _RELAY)
    finally:
        await postgres.drop_database(name)
    assert {name: read for name, read in found.items() if read > _MOST} == {}
    assert found["relay.fair"] > 0
