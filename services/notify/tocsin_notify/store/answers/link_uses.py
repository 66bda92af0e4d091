"""Which links were used, for what, and the pages they stand for."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_notify.store.contacts.languages import language_of

# A page whose contact methods were all deleted is left out: its user was deleted, and another one may have the name now.
# Users who are disabled answer nothing until they are enabled again.
_PAGE: Final = f"""
SELECT user_id, incident, type, job, app_now() AS now, {language_of("p")} FROM pages p
WHERE org_id = $1 AND id = $2 AND EXISTS (
  SELECT FROM notifications n JOIN contact_methods c ON c.org_id = n.org_id AND c.id = n.contact_method
  WHERE n.org_id = p.org_id AND n.page_id = p.id AND c.delete_time IS NULL AND NOT c.user_disabled)
"""
_USES: Final = """
SELECT turn, action, use_time, done FROM link_uses WHERE org_id = $1 AND page_id = $2 ORDER BY turn
"""
# A caller that finds a use that was begun and not done goes on with it if it is the same: its process may have died. Another one
# may take its place once no process can be working on it any more.
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
    """The page of a link: whose it is and about what; `now` is the database's clock."""

    user_id: str
    incident: UUID | None
    type: str
    job: bytes
    now: datetime
    language: str | None


@dataclass(frozen=True, slots=True)
class Use:
    """One link that was used. Not `done`: a process works on it, or has died at it."""

    turn: int
    action: str
    use_time: datetime
    done: bool


async def page(tx: Tx, id: UUID) -> LinkedPage | None:
    """The page; None when it was deleted, or every contact method to which it went was, or its user is disabled."""
    row = await tx.fetchrow(_PAGE, tx.org_id, id)
    return None if row is None else LinkedPage(*row)


async def uses(tx: Tx, page: UUID) -> list[Use]:
    """What was done with the page's links, first to last."""
    return [Use(**dict(row)) for row in await tx.fetch(_USES, tx.org_id, page)]


async def begin(tx: Tx, page: UUID, turn: int, action: str) -> bool:
    """Take the link for this action; False if it is used or being used, or its page is gone."""
    return await tx.fetchval(_BEGIN, tx.org_id, page, turn, action) is not None


async def finish(tx: Tx, page: UUID, turn: int) -> None:
    """It is done: the link is used."""
    await tx.execute(_FINISH, tx.org_id, page, turn)


async def undo(tx: Tx, page: UUID, turn: int) -> None:
    """Nothing was done: the link can be used again."""
    await tx.execute(_UNDO, tx.org_id, page, turn)
