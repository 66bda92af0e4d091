"""The users and pages of a phone number. A number names no tenant: these statements read all tenants, except those of
the actions that follow."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.page import Kind
from tocsin_notify.store.contacts.languages import language_of
from tocsin_notify.store.pages.fences import stops_all


@dataclass(frozen=True, slots=True)
class Switched:
    """A contact method that a text message switched off, or on again."""

    org_id: str
    user_id: str
    id: UUID


@dataclass(frozen=True, slots=True)
class TextedPage:
    """The latest text message about one incident to the number.

    `stopped`: the incident was answered since, or is resolved. `lately`: its latest attempt began within the last hour.
    """

    org_id: str
    id: UUID
    attempts: int
    incident: UUID
    job: bytes
    stopped: bool
    lately: bool


@dataclass(frozen=True, slots=True)
class Owner:
    """The user whose number it is. `language`: None, if none was chosen."""

    language: str | None


@dataclass(frozen=True, slots=True)
class TextReceived:
    """The meaning of a received message: `action` on the page of an attempt, whose title is `said`.

    Without an action nothing was done, and `said` is the answer that was sent.
    """

    action: str = ""
    notification_id: UUID | None = None
    attempt: int = 0
    said: str = ""


_MOST: Final = 1000
_PAGES: Final = f"""
SELECT {columns(TextedPage)} FROM (
  SELECT DISTINCT ON (n.org_id, n.incident) n.org_id, n.id, n.attempts, n.incident, n.create_time, p.job,
    f.reason IS NOT NULL AS stopped, coalesce(a.start_time, n.create_time) > app_now() - interval '1 hour' AS lately
  FROM contact_methods c
  JOIN notifications n ON n.org_id = c.org_id AND n.user_id = c.user_id AND n.contact_method = c.id
  JOIN pages p ON p.org_id = n.org_id AND p.id = n.page_id
  LEFT JOIN attempts a ON a.org_id = n.org_id AND a.notification_id = n.id AND a.number = n.attempts
  LEFT JOIN cancel_fences f ON f.org_id = n.org_id AND f.incident = n.incident AND {stops_all("f", "n")}
  WHERE c.channel = 'sms' AND c.address = $1 AND c.delete_time IS NULL AND c.verify_time IS NOT NULL
    AND NOT c.user_disabled AND n.create_time > app_now() - interval '23 hours' AND n.attempts > 0 AND p.type = ANY($2::text[])
  ORDER BY n.org_id, n.incident, n.create_time DESC, n.id DESC
) AS texted ORDER BY create_time DESC, id DESC LIMIT {_MOST}
"""
_OWNER: Final = f"""
SELECT {language_of("c")} FROM contact_methods c
WHERE channel = 'sms' AND address = $1 AND delete_time IS NULL AND verify_time IS NOT NULL AND user_id <> ''
ORDER BY verify_time, id LIMIT 1
"""
_STOP: Final = """
UPDATE contact_methods SET disabled = true, stop_time = app_now(), version = version + 1, update_time = app_now()
WHERE channel = 'sms' AND address = $1 AND delete_time IS NULL AND NOT disabled RETURNING org_id, user_id, id
"""
_START: Final = """
UPDATE contact_methods SET disabled = false, stop_time = NULL, version = version + 1, update_time = app_now()
WHERE channel = 'sms' AND address = $1 AND delete_time IS NULL AND stop_time IS NOT NULL RETURNING org_id, user_id, id
"""
# A second request with the same name waits here until the first one has decided its meaning.
_BEGIN: Final = "INSERT INTO texts_received (sid) VALUES ($1) ON CONFLICT (sid) DO NOTHING RETURNING sid"
_MEANT: Final = f"SELECT {columns(TextReceived)} FROM texts_received WHERE sid = $1"
_NOTE: Final = "UPDATE texts_received SET action = $2, notification_id = $3, attempt = $4, said = $5 WHERE sid = $1"
_ANSWER: Final = """
INSERT INTO sms_senders AS s (number, answers) VALUES ($1, 1)
ON CONFLICT (number) DO UPDATE SET answers = s.answers + 1, update_time = app_now() WHERE s.answers < $2
RETURNING answers
"""


async def begin(tx: Tx, sid: str) -> TextReceived | None:
    """None: a message with this name has not come before. Then `note` its meaning in the same transaction.

    Otherwise the meaning that was noted. The row is locked until the transaction ends.
    """
    if await tx.fetchval(_BEGIN, sid) is not None:
        return None
    row = await tx.fetchrow(_MEANT, sid)
    return TextReceived(*row) if row is not None else TextReceived()


async def note(tx: Tx, sid: str, received: TextReceived) -> None:
    """Store the meaning."""
    await tx.execute(_NOTE, sid, received.action, received.notification_id, received.attempt, received.said)


async def pages(tx: Tx, number: str, kinds: Collection[Kind]) -> list[TextedPage]:
    """The incidents whose pages were sent to this number, if it is verified; the newest thousand of the last 23 hours."""
    return [TextedPage(*row) for row in await tx.fetch(_PAGES, number, list(kinds))]


async def owner_of_number(tx: Tx, number: str) -> Owner | None:
    """The user who verified this number first; None if there is none."""
    row = await tx.fetchrow(_OWNER, number)
    return None if row is None else Owner(*row)


async def stop(tx: Tx, number: str) -> list[Switched]:
    """Switches off the contact methods with this number; returns them.

    Tests, verification codes and messages to the number itself are not stopped here. The provider refuses those.
    """
    return [Switched(*row) for row in await tx.fetch(_STOP, number)]


async def start(tx: Tx, number: str) -> list[Switched]:
    """Switches on again the methods that `stop` switched off and that were not changed since; returns them."""
    return [Switched(*row) for row in await tx.fetch(_START, number)]


async def may_answer(tx: Tx, number: str, most: int) -> bool:
    """Whether a message that is not understood gets an answer once more; counts it."""
    return await tx.fetchval(_ANSWER, number, most) is not None


async def understood(tx: Tx, number: str) -> None:
    """A message of this number was understood: counting starts again."""
    await tx.execute("DELETE FROM sms_senders WHERE number = $1", number)
