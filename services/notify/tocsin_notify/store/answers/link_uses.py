"""Which links were used, for which action, and their pages."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tocsin_kit.db.inlined import inlined
from tocsin_kit.db.pool import Database, Tx

from tocsin_notify.store.contacts.languages import language_of

_OF_PAGE: Final = f"p.user_id, p.incident, p.type, p.job, app_now() AS now, {language_of('p')}"
# A page whose contact methods were all deleted is left out: its user was deleted, and a new user may have the same
# name. A disabled user cannot answer until they are enabled again.
_IS_THERE: Final = """p.org_id = $1 AND p.id = $2 AND EXISTS (
  SELECT FROM notifications n JOIN contact_methods c ON c.org_id = n.org_id AND c.id = n.contact_method
  WHERE n.org_id = p.org_id AND n.page_id = p.id AND c.delete_time IS NULL AND NOT c.user_disabled)"""
_PAGE: Final = f"SELECT {_OF_PAGE} FROM pages p WHERE {_IS_THERE}"
_WITH_USES: Final = f"""
SELECT {_OF_PAGE}, u.turn, u.action, u.use_time, u.done
FROM pages p LEFT JOIN link_uses u ON u.org_id = p.org_id AND u.page_id = p.id
WHERE {_IS_THERE} ORDER BY u.turn
"""
# A use that was begun and is not done is continued by a caller with the same action: the process that began it may have
# died. A caller with another action may replace it once no process can be working on it any more.
_BEGIN: Final = f"""
INSERT INTO link_uses AS u (org_id, page_id, turn, action)
SELECT org_id, id, $3, $4 FROM (
  SELECT p.org_id, p.id FROM pages p
  WHERE {_IS_THERE} AND p.incident IS NOT NULL AND p.type = ANY($5::text[]) AND extract(epoch FROM app_now()) < $6
    AND NOT EXISTS (SELECT FROM link_uses s WHERE s.org_id = p.org_id AND s.page_id = p.id AND s.turn >= $3 AND s.done)
  FOR KEY SHARE OF p) AS page
ON CONFLICT (org_id, page_id, turn) DO UPDATE SET action = excluded.action, use_time = app_now()
  WHERE NOT u.done AND (u.action = excluded.action OR u.use_time < app_now() - interval '30 seconds')
RETURNING turn
"""
# The uses are those before this one: a statement does not see what it writes.
_BEGIN_AND_READ: Final = f"""
WITH begun AS ({_BEGIN})
SELECT EXISTS (SELECT FROM begun) AS held, found.* FROM ({_WITH_USES}) AS found
"""
_FINISH: Final = """
UPDATE link_uses SET done = true, use_time = app_now() WHERE org_id = $1 AND page_id = $2 AND turn = $3 AND NOT done
"""
_UNDO: Final = "DELETE FROM link_uses WHERE org_id = $1 AND page_id = $2 AND turn = $3 AND NOT done"


@dataclass(frozen=True, slots=True)
class LinkedPage:
    """The page of a link: its user and its incident; `now` is the database's clock."""

    user_id: str
    incident: UUID | None
    type: str
    job: bytes
    now: datetime
    language: str | None


@dataclass(frozen=True, slots=True)
class Use:
    """One link that was used. Not `done`: a process works on it, or died while it did."""

    turn: int
    action: str
    use_time: datetime
    done: bool


async def page(tx: Tx, id: UUID) -> LinkedPage | None:
    """None when the page or every contact method it was sent to was deleted, or its user is disabled."""
    row = await tx.fetchrow(_PAGE, tx.org_id, id)
    return None if row is None else LinkedPage(*row)


async def page_with_uses(tx: Tx, id: UUID) -> tuple[LinkedPage, list[Use]] | None:
    """`page`, and what was done with its links, first to last."""
    return _page_with_uses([tuple(row) for row in await tx.fetch(_WITH_USES, tx.org_id, id)])


async def begin(
    tx: Tx, id: UUID, turn: int, action: str, *, types: Collection[str], expire: int
) -> tuple[LinkedPage, list[Use], bool] | None:
    """Reserve the link of the page for this action, if the page has one of these types and it is not yet `expire` (unix seconds).

    Returns `page_with_uses` as it was before, and whether the link is reserved: not if it, or one after it, was used, or if it is
    being used.
    """
    rows = await tx.fetch(_BEGIN_AND_READ, tx.org_id, id, turn, action, list(types), expire)
    found = _page_with_uses([tuple(row)[1:] for row in rows])
    return None if found is None else (*found, rows[0]["held"])


def _page_with_uses(rows: Sequence[tuple[Any, ...]]) -> tuple[LinkedPage, list[Use]] | None:
    if not rows:
        return None
    fields = len(LinkedPage.__dataclass_fields__)
    return LinkedPage(*rows[0][:fields]), [Use(*row[fields:]) for row in rows if row[fields] is not None]


async def finish(db: Database, org_id: str, page: UUID, turn: int) -> None:
    """The action is done: the link is used. In a transaction of its own, for which a person waits."""
    await db.script(org_id, inlined(_FINISH, org_id, page, turn))


async def undo(tx: Tx, page: UUID, turn: int) -> None:
    """The action was not done: the link can be used again."""
    await tx.execute(_UNDO, tx.org_id, page, turn)
