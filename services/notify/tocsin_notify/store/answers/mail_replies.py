"""The pages that were sent as mails, found by reply addresses. A reply address names no tenant."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.store.contacts.languages import language_of


@dataclass(frozen=True, slots=True)
class MailedPage:
    """The page of an attempt by mail, and the address to which it went. `language`: None, if none was chosen."""

    org_id: str
    address: str
    job: bytes
    language: str | None


# A method that has another address now was verified again since.
_MAILED: Final = f"""
SELECT {columns(MailedPage)} FROM (
  SELECT n.org_id, c.address, p.job, {language_of("n")} FROM notifications n
  JOIN attempts a ON a.org_id = n.org_id AND a.notification_id = n.id AND a.number = $2
  JOIN pages p ON p.org_id = n.org_id AND p.id = n.page_id
  JOIN contact_methods c ON c.org_id = n.org_id AND c.id = n.contact_method
  WHERE n.id = $1 AND c.channel = 'email' AND c.delete_time IS NULL AND NOT c.user_disabled
    AND c.verify_time <= a.start_time
) AS mailed
"""


async def mailed_page(tx: Tx, notification: UUID, attempt: int) -> MailedPage | None:
    """In a transaction of all tenants. None: it is not known (any more), its method was deleted or has another address
    now, or its user is disabled."""
    row = await tx.fetchrow(_MAILED, notification, attempt)
    return None if row is None else MailedPage(*row)
