"""Which pages this process has stored lately.

Escalation sends each page twice: through Redis at once, and by RPC a second later. A second copy whose page is known to
be stored is dropped without decoding it or asking the database.
"""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

_SECONDS: Final = 15.0
_MOST: Final = 50_000


class RecentlyStored:
    """Remembers pages by their names, for 15 to 30 seconds and at most 100,000 of them.

    Each is known only as long as the session that stored it is open. A database that was restored, or a standby that
    took over, may lack the commit. The sessions of before are closed then, and the second copy is stored.
    """

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._new: dict[str, Callable[[], bool]] = {}
        self._old: dict[str, Callable[[], bool]] = {}

    def add(self, pages: Iterable[str], session_ended: Callable[[], bool]) -> None:
        """These are committed, now or before. `session_ended`: asks the session that knows it."""
        self._forget()
        self._new.update(dict.fromkeys(pages, session_ended))

    def __contains__(self, page: str) -> bool:
        self._forget()
        session_ended = self._new.get(page) or self._old.get(page)
        return session_ended is not None and not session_ended()

    def _forget(self) -> None:
        now = self._clock()
        if now - self._since < _SECONDS and len(self._new) < _MOST:
            return
        self._old = self._new if now - self._since < 2 * _SECONDS else {}
        self._new = {}
        self._since = now
