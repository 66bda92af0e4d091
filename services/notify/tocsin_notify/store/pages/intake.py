"""Stores pages and reads the users that planning needs, in one statement, which saves each page a round trip."""

from collections.abc import Sequence
from typing import Final

from tocsin_kit.db.pool import Tx

from tocsin_notify.store.pages import pages, people
from tocsin_notify.store.pages.fences import reason_of
from tocsin_notify.store.pages.pages import NewPage, Stored
from tocsin_notify.store.pages.people import Person, User
from tocsin_notify.store.queues import PAUSED

_TAKE: Final = pages.storing(f"""
SELECT s.id, {reason_of("f", "s")} AS fence_reason, app_now() AS now, {PAUSED} AS paused,
  {", ".join(f"NULL AS {column}" for column in people.COLUMNS)}
{pages.FENCED}
UNION ALL
SELECT NULL, NULL, NULL, NULL, {", ".join(people.COLUMNS)}
FROM ({people.rows_of("(SELECT DISTINCT org_id, user_id FROM given)")}) AS known
{people.IN_ORDER}
""")


async def take(tx: Tx, given: Sequence[NewPage]) -> tuple[Stored, dict[User, Person]]:
    """As `pages.insert`; and the users of all of these, as `people.read`."""
    rows = await tx.fetch(_TAKE, *pages.columns_of(given))
    users = {(page.org_id, page.user_id) for page in given}
    return (
        pages.stored([row for row in rows if row["id"] is not None]),
        people.people_of(users, (row for row in rows if row["id"] is None)),
    )
