"""A user ends a digest by the link at the end of its mail, without a login."""

from dataclasses import dataclass

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger

from tocsin_notify.app.pages.stored_jobs import readable
from tocsin_notify.channels.digests import FREQUENCIES
from tocsin_notify.domain.answer_link import AnswerLink
from tocsin_notify.domain.digest import Frequency
from tocsin_notify.domain.page import Kind
from tocsin_notify.store.answers import link_uses
from tocsin_notify.store.messages import digests
from tocsin_notify.texts.digest_words import digest_words_of

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """The digest that the link ends. `chosen`: the digest has not been ended."""

    link: AnswerLink
    user: str
    frequency: Frequency
    language: str
    expired: bool
    chosen: bool


class DigestStops:
    """Shows the digest of a link, and ends it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def look(self, link: AnswerLink) -> Told | None:
        """Changes nothing. None: the link belongs to no digest, or its mail was deleted."""
        async with self._db.transaction(link.org_id) as tx:
            return await _read(tx, link)

    async def end(self, link: AnswerLink) -> Told | None:
        """No further digest is made; ending it again changes nothing. Returns the digest as it was; None as for `look`."""

        async def delete(tx: Tx) -> Told | None:
            told = await _read(tx, link, lock=True)
            if told is not None and told.chosen and not told.expired:
                await digests.delete(tx, told.user, told.frequency)
            return told

        told = await self._db.run(link.org_id, delete)
        if told is not None and told.chosen and not told.expired:
            _log.info("digest_ended_by_link", org_id=link.org_id, user=told.user, frequency=str(told.frequency))
        return told


async def _read(tx: Tx, link: AnswerLink, *, lock: bool = False) -> Told | None:
    row = await link_uses.page(tx, link.page)
    if row is None or Kind(row.type) is not Kind.DIGEST:
        return None
    job = readable(row.job, link.org_id, link.page)
    frequency = FREQUENCIES.get(job.digest.frequency) if job is not None else None
    if frequency is None:
        return None
    chosen = await digests.read(tx, row.user_id, frequency, lock=lock) is not None
    language = digest_words_of(row.language or "").language
    return Told(link, row.user_id, frequency, language, row.now.timestamp() >= link.expire, chosen)
