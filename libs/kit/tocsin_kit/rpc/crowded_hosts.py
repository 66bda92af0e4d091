"""How many gRPC connections one host may have. gRPC itself limits only how many there are of all hosts: one host could have all of
them, without a credential and without a call, and the others would be turned away.

gRPC accepts connections by itself. So they are looked through several times a second while there are more than one host may have.
"""

import asyncio
import time
from typing import Final

from tocsin_kit import sockets
from tocsin_kit.counts import Counts
from tocsin_kit.keys.sources import source_of
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_or_stop
from tocsin_kit.metrics import Metrics
from tocsin_kit.proxies import Proxies
from tocsin_kit.time_slices import yield_to_others

_log = get_logger(__name__)
_REST_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.1
"""While there are more than one host may have. So few can be opened meanwhile that there is room for others at each moment."""
_AT_ONCE: Final = 50
"""Sockets that are looked at before other tasks run: a fraction of a millisecond."""
_SAY_EVERY: Final = 60.0
_MEANING: Final = "the host had too many connections; the newest were ended"


class CrowdedHosts:
    """Ends connections to `port` of each host that has more than `most`, the newest first.

    Connections of a trusted proxy are those of many hosts.
    """

    def __init__(self, port: int, most: int, *, proxies: Proxies, metrics: Metrics) -> None:
        self._port = port
        self._most = most
        self._proxies = proxies
        self._ended = metrics.rpc_refused.labels("connections", "host")
        self._known: dict[sockets.Opened, sockets.Connection | None] = {}
        """What the last look left: connections to the port, and what is none."""
        self._said = -_SAY_EVERY

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set."""
        crowded = False
        while not await wait_or_stop(stop, _LOOK_SECONDS if crowded else _REST_SECONDS):
            crowded = sockets.open_descriptors() > self._most
            if crowded:
                await self.look()
            else:
                self._known.clear()

    async def look(self) -> None:
        """Look once."""
        known, of_host, surplus = dict[sockets.Opened, sockets.Connection | None](), Counts[str](), Counts[str]()
        new = list[sockets.Opened]()
        for number, opened in enumerate(sockets.all_open(), 1):
            if opened in self._known:
                known[opened] = connection = self._known[opened]
                if connection is not None:
                    of_host[self._source(connection.host)] += 1
            else:
                new.append(opened)
            if number % _AT_ONCE == 0:
                await yield_to_others()
        for number, opened in enumerate(new, 1):
            connection = sockets.connection(opened.descriptor, self._port)
            host = "" if connection is None else self._source(connection.host)
            if connection is None or self._proxies.trusts(connection.host) or of_host[host] < self._most:
                known[opened] = connection
                if connection is not None:
                    of_host[host] += 1
            elif sockets.end(connection):
                surplus[host] += 1
            if number % _AT_ONCE == 0:
                await yield_to_others()
        self._known = known
        self._ended.inc(surplus.total())
        self._tell(surplus)

    def _source(self, host: str) -> str:
        """A proxy's connections use nothing of its network's share."""
        return host if self._proxies.trusts(host) else source_of(host)

    def _tell(self, surplus: Counts[str]) -> None:
        now = time.monotonic()
        if surplus and now - self._said >= _SAY_EVERY:
            self._said = now
            [(host, ended)] = surplus.most_common(1)
            _log.warning("host_crowded", host=host, ended=ended, most=self._most, meaning=_MEANING)
