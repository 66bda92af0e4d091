"""Which links were used, for which action, and their pages."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
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
_BEGIN: Final = """
INSERT INTO link_uses AS u (org_id, page_id, turn, action)
SELECT org_id, id, $3, $4 FROM (SELECT org_id, id FROM pages WHERE org_id = $1 AND id = $2 FOR KEY SHARE) AS page
ON CONFLICT (org_id, page_id, turn) DO UPDATE SET action = excluded.action, use_time = app_now()
  WHERE NOT u.done AND (u.action = excluded.action OR u.use_time < app_now() - interval '30 seconds')
RETURNING turn
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
    rows = await tx.fetch(_WITH_USES, tx.org_id, id)
    if not rows:
        return None
    fields = len(LinkedPage.__dataclass_fields__)
    return LinkedPage(*rows[0][:fields]), [Use(*row[fields:]) for row in rows if row["turn"] is not None]


async def begin(tx: Tx, page: UUID, turn: int, action: str) -> bool:
    """Reserve the link for this action; False if it is used or being used, or its page was deleted."""
    return await tx.fetchval(_BEGIN, tx.org_id, page, turn, action) is not None


async def finish(db: Database, org_id: str, page: UUID, turn: int) -> None:
    """The action is done: the link is used. In a transaction of its own, for which a person waits."""
    await db.script(org_id, inlined(_FINISH, org_id, page, turn))


async def undo(tx: Tx, page: UUID, turn: int) -> None:
    """The action was not done: the link can be used again."""
    await tx.execute(_UNDO, tx.org_id, page, turn)
