"""Notices processes that died with calls under way, and lets other processes make these calls again."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from uuid import UUID

from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.tasks.journal import NO_NOTES, Notes

from tocsin_notify.app.delivery.journal_notes import stalled
from tocsin_notify.store.delivery import senders
from tocsin_notify.store.delivery.senders import Presence

_log = get_logger(__name__)


class Vanished:
    """Every replica may run it, `store.delivery.senders.LOOK_SECONDS` apart."""

    def __init__(
        self,
        db: Database,
        presence: Presence,
        died: Callable[[Mapping[UUID, datetime]], None],
        *,
        notes: Notes = NO_NOTES,
    ) -> None:
        """`presence`: of this process. `died`: tells the deliverer that the calls of these notifications are due, and when each
        lease ended."""
        self._notes = notes
        self._db = db
        self._presence = presence
        self._died = died
        self._since: float | None = None
        self._seen: set[int] = set()
        """Processes that held their lock since then."""
        self._missed: Counter[int] = Counter()

    async def __call__(self) -> None:
        """One look. Raises DATABASE_UNAVAILABLE; while PostgreSQL is away, no process is found missing."""
        since, own = self._presence.since, self._presence.key
        if since != self._since:
            self._since = since
            self._forget()
        if since is None:
            return
        try:
            async with self._db.autocommit() as tx:
                others = await senders.others(tx, own)
            if not others:
                self._forget()
                return
            async with self._db.system() as tx:
                look = await senders.look(tx, own)
                if not look.counts:
                    self._forget()
                    return
                self._seen = look.held | (self._seen & look.free)
                self._missed = Counter({sender: self._missed[sender] + 1 for sender in look.free})
                dead = [sender for sender, looks in self._missed.items() if looks >= senders.LOOKS]
                ended = await senders.end_leases(tx, dead, self._seen, time.monotonic() - since) if dead else {}
                notes = stalled(ended, await tx.now()) if ended else []
        except TocsinError:
            self._missed.clear()  # forget these: had all sessions ended, this process would have lost its own
            raise
        if ended:
            _log.warning(
                "senders_vanished",
                senders=len(dead),
                notifications=len(ended),
                meaning="a process died during these calls; they are made again under the same keys",
            )
            for noted in notes:
                self._notes.note(noted)
            self._died(ended)

    def _forget(self) -> None:
        self._seen.clear()
        self._missed.clear()
