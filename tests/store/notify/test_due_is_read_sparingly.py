"""Looks for due rows, and pages that come in, read about what they take, also by plans that were made when there were none."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import pytest
from tocsin_kit.db.dialing import dial
from tocsin_kit.db.pool import _WALK_INDEXES, SYSTEM
from tocsin_notify.domain.page import LANES, NORMAL, Channel
from tocsin_notify.store.delivery import candidates
from tocsin_notify.store.messages import groups, messages
from tocsin_notify.store.pages import intake
from tocsin_stack.postgres import Postgres

_TENANTS: Final = 20
_DUE: Final = 4000
_WALKING: Final = dict(setting.split("=") for setting in _WALK_INDEXES)
_CHANNELS: Final = "'{" + ",".join(Channel) + "}'"
_MESSAGES: Final = """
INSERT INTO messages (id, org_id, sender, user_id, channel, address, subject, body, about, urgency, send_time)
SELECT gen_random_uuid(), 'org-' || number % $1, 'users/ops', '', 'email', 'ana@example.com', '', 'Standup.', '', 'low', now()
FROM generate_series(1, $2) AS number
"""
_NOTIFICATIONS: Final = """
WITH made AS (
  INSERT INTO pages (id, org_id, user_id, type, urgency, priority, level, repeat, generation, job)
  SELECT gen_random_uuid(), 'org-' || number % $1, 'users/ana', 'message', 'low', $3, 0, 0, 0, ''
  FROM generate_series(1, $2) AS number RETURNING id, org_id
)
INSERT INTO notifications (id, org_id, page_id, user_id, generation, priority, contact_method, channel, step, state, due_time)
SELECT id, org_id, id, 'users/ana', 0, $3, id, 'email', 0, 'pending', now() FROM made
"""
_METHODS: Final = """
INSERT INTO contact_methods (id, org_id, user_id, display_name, channel, address, key_id, disabled)
SELECT gen_random_uuid(), 'org-' || number % $1::int, 'users/' || number, '', 'email', 'ana@example.com', '', false
FROM generate_series(1, $2::int) AS number
"""
_PAGE: Final = """
ARRAY[gen_random_uuid()], '{{{tenant}}}', '{{{user}}}', ARRAY[gen_random_uuid()], '{{new_incident}}', '{{high}}', '{{0}}',
'{{1}}', '{{0}}', '{{1}}', '{{now}}', '{{NULL}}', '{{NULL}}', ARRAY[''::bytea], '{{NULL}}', '{{false}}'
"""


@pytest.mark.parametrize(
    ("statement", "parameters", "taken"),
    [
        (candidates._LOOK, f"'{{{','.join(map(str, LANES))}}}'", 1),
        (candidates._CANDIDATES, f"{NORMAL}, '', 200, 50, '{{}}', {_CHANNELS}, 60", 100),
        (messages._DUE, f"100, {_CHANNELS}", 100),
        (groups._CLAIM, "100, 60", 0),
    ],
    ids=["look", "candidates", "messages", "groups beside messages to one receiver"],
)
async def test_reads_are_bounded_by_what_is_taken(
    postgres: Postgres, statement: str, parameters: str, taken: int
) -> None:
    async with young_database(postgres) as session:
        await session.execute(f"PREPARE one AS {statement}")
        await session.execute(f"EXECUTE one({parameters})")  # its plan is made, and kept
        await session.execute(_MESSAGES, _TENANTS, _DUE)
        await session.execute(_NOTIFICATIONS, _TENANTS, _DUE, NORMAL)
        plan = json.loads(
            await session.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE one({parameters})")
        )
        assert await session.fetchval("SELECT count(*) FROM pg_stats WHERE tablename = 'notifications'") == 0
    assert read_from_indexes(plan[0]["Plan"]) <= 20 * taken + 10 * _TENANTS < _DUE


async def test_a_page_reads_what_is_of_its_user_alone(postgres: Postgres) -> None:
    page = f"EXECUTE one({_PAGE.format(tenant='org-1', user='users/ana')})"
    async with young_database(postgres, {"plan_cache_mode": "force_generic_plan"}) as session:
        await session.execute(_METHODS, 1, 10)
        await session.execute(f"PREPARE one AS {intake._TAKE}")
        await session.execute(page)  # its plan is made, and kept
        await session.execute(_METHODS, 20, 2000)
        plan = json.loads(await session.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {page}"))
    assert read_from_indexes(plan[0]["Plan"]) < 200


def read_from_indexes(node: dict[str, Any]) -> float:
    """Rows, in this part of a plan and all below it."""
    here = 0.0
    if node["Node Type"].startswith("Index"):
        here = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return here + sum(read_from_indexes(each) for each in node.get("Plans", ()))


@asynccontextmanager
async def young_database(
    postgres: Postgres, settings: Mapping[str, str] = _WALKING
) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """Migrated, without rows and statistics: a session of it, which by default walks indexes, as `Database.claim` does."""
    url = await postgres.clone_database("tocsin_notify", "due_sparingly")
    session = await dial(url, name="due", settings={**settings, "tocsin.org_id": SYSTEM})
    try:
        yield session
    finally:
        await session.close()
        await postgres.drop_database("due_sparingly")
