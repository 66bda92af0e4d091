"""Notices processes that died with calls under way, and lets other processes make these calls again."""

from collections import Counter
from collections.abc import Callable

from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.tasks.journal import NO_NOTES, Notes

from tocsin_notify.app.delivery.journal_notes import stalled
from tocsin_notify.store.delivery import senders

_log = get_logger(__name__)


class Vanished:
    """Every replica may run it, `store.delivery.senders.LOOK_SECONDS` apart."""

    def __init__(
        self,
        db: Database,
        own: int,
        nudge: Callable[[], None],
        judges: Callable[[], bool] = lambda: True,
        *,
        notes: Notes = NO_NOTES,
    ) -> None:
        """`own`: the key of this process. `nudge`: tells the deliverer that something is due. `judges`: see `Presence`."""
        self._notes = notes
        self._db = db
        self._own = own
        self._nudge = nudge
        self._judges = judges
        self._missed: Counter[int] = Counter()

    async def __call__(self) -> None:
        """One look. Raises DATABASE_UNAVAILABLE; while PostgreSQL is away, no process is found missing."""
        if not self._judges():
            self._missed.clear()
            return
        try:
            async with self._db.alone() as tx:
                others = await senders.others(tx, self._own)
            if not others:
                self._missed.clear()
                return
            async with self._db.system() as tx:
                unheld = await senders.unheld(tx, self._own)
                self._missed = Counter({sender: self._missed[sender] + 1 for sender in unheld})
                dead = [sender for sender, looks in self._missed.items() if looks >= senders.LOOKS]
                ended = await senders.end_leases(tx, dead) if dead else []
                notes = stalled(ended, await tx.now()) if ended else []
        except TocsinError:
            self._missed.clear()
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
            self._nudge()
