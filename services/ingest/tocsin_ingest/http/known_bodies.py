"""Bodies that came before, by their bytes: bodies that a storm repeats are not parsed again.

Only what follows from the bytes alone is cached: the key in the body, its alert, and the answer once the alert is committed.
Credentials, limits, signatures and the routing are checked each time, and each alert is committed before it is answered, so no
change makes an entry wrong.
"""

from collections import OrderedDict
from typing import Final

from aiohttp import web

from tocsin_ingest.app.alerts.alert_request import AlertRequest, Sender
from tocsin_ingest.domain.values import value

MOST_BYTES: Final = 16 << 20
"""For the bodies of all senders together."""
LARGEST: Final = 32 << 10
"""Bytes of a body that is remembered."""
_SHARE: Final = 2
"""One sender's bodies may use this part of it, so that its new ones do not push all others out."""
_OVERHEAD: Final = 800
"""Bytes of an entry beside the bodies themselves: some ten objects."""

_JSON: Final = {"Content-Type": "application/json; charset=utf-8"}

Body = tuple[str, bytes]
"""The name of the format, and what came."""


@value
class KnownBody:
    """A body that is one alert. `key`: the integration key that stands in it. `status`, `answer`: once the alert is committed."""

    key: str
    sent: AlertRequest
    status: int
    answer: bytes

    @classmethod
    def of(cls, key: str, sent: AlertRequest, response: web.Response) -> "KnownBody":
        """`response`: what its sender was answered, in JSON."""
        assert isinstance(response.body, bytes)
        return cls(key, sent, response.status, response.body)

    def response(self) -> web.Response:
        """What its sender is answered."""
        return web.Response(body=self.answer, status=self.status, headers=_JSON)


class KnownBodies:
    """The bodies of all senders; those of the sender that was silent for longest are dropped first."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._known: dict[Body, KnownBody] = {}
        self._senders: OrderedDict[tuple[str, str], OrderedDict[Body, int]] = OrderedDict()
        self._sizes: dict[tuple[str, str], int] = {}
        self.size = 0
        """Bytes, roughly."""
        self.get: Final = self._known.get
        """What is known of a body, or None."""

    def put(self, sender: Sender, body: Body, known: KnownBody) -> None:
        """Remember a sender's body, unless it is too large or remembered already."""
        if body in self._known or len(body[1]) > LARGEST:
            return
        of = (sender.org_id, sender.subject)
        mine = self._senders.setdefault(of, OrderedDict())
        self._senders.move_to_end(of)
        # The alert is held as well, as it was read.
        size = _OVERHEAD + len(body[1]) + len(known.sent.data) + len(known.answer)
        self._known[body] = known
        mine[body] = size
        self._grow(of, size)
        while self._sizes[of] > self._most // _SHARE and len(mine) > 1:
            self._forget_oldest(of)
        while self.size > self._most:
            self._forget_oldest(next(iter(self._senders)))

    def _forget_oldest(self, of: tuple[str, str]) -> None:
        body, size = self._senders[of].popitem(last=False)
        del self._known[body]
        self._grow(of, -size)
        if not self._senders[of]:
            del self._senders[of], self._sizes[of]

    def _grow(self, of: tuple[str, str], size: int) -> None:
        self._sizes[of] = self._sizes.get(of, 0) + size
        self.size += size
