"""How many calls may be open at once, so that no caller takes the room of all others.

Three kinds are counted apart: unary calls, streams, and what is asked without a credential (health and reflection). Within
each kind one tenant, one connection or one host may take a part only, and Tocsin's own services have a share of the calls
that no tenant can take. Answers are counted in bytes until they were read, see `tocsin_kit.rpc.answers`.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.auth import ALL_ORGS
from tocsin_kit.counts import Counts
from tocsin_kit.errors import TocsinError
from tocsin_kit.keys.sources import source_of
from tocsin_kit.metrics import Metrics

T = TypeVar("T")

_RESERVED: Final = 0.1
"""The share of all calls that only Tocsin's own services may take."""
TENANT_SHARE: Final = 0.5
"""Of calls, and of the bytes of answers."""
_TENANT_STREAMS: Final = 0.2
_CONNECTION_STREAMS: Final = 0.1


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """What the callers of a server may take. `call_seconds`: for a call without a deadline; `read_seconds`: until the message of a
    call has come. `message_bytes`: of one message; `answer_bytes`: of all unread answers together."""

    call_seconds: float
    message_bytes: int
    calls: int = 2000
    streams: int = 500
    answer_bytes: int = 128 << 20
    read_seconds: float = 10.0


class CallLimits:
    """The calls and streams of callers with a credential."""

    def __init__(self, most_calls: int, most_streams: int, metrics: Metrics) -> None:
        self.calls: Final = ConcurrencyLimit("calls", most_calls, TENANT_SHARE, metrics)
        self.streams: Final = ConcurrencyLimit("streams", most_streams, _TENANT_STREAMS, metrics)
        self.connections: Final = ConcurrencyLimit(
            "streams of one connection", most_streams, _CONNECTION_STREAMS, metrics
        )
        """Counts the same streams once more, by connection."""


class ConcurrencyLimit:
    """What is open, by whom. No call waits for it."""

    def __init__(self, kind: str, most: int, share: float, metrics: Metrics) -> None:
        """`share`: the part of all that one may take."""
        self._kind = kind
        self._most = most
        self._for_tenants = max(1, most - int(most * _RESERVED))
        self._for_one = max(1, int(most * share))
        self._open = 0
        self._open_of: Counts[str] = Counts()
        self._refused = metrics.rpc_refused
        metrics.rpc_open.labels(kind).set_function(lambda: self._open)

    def enter(self, who: str, size: int = 1) -> None:
        """One more of `who` is open. Raises OVERLOADED, naming the limit, when there is no room for it."""
        lacking = self.lacks(who, size)
        if lacking is not None:
            raise self.full(*lacking)
        self._open += size
        self._open_of[who] += size

    def lacks(self, who: str, size: int) -> tuple[str, int] | None:
        """The limit that so many more would go beyond, as its scope and its number; None when there is room for them."""
        whole = self._open + size
        if who == ALL_ORGS:
            return ("all", self._most) if whole > self._most else None
        if self._open_of[who] + size > self._for_one:
            return "one", self._for_one
        return ("all", self._for_tenants) if whole > self._for_tenants else None

    def leave(self, who: str, size: int = 1) -> None:
        """One that entered has ended."""
        self._open -= size
        self._open_of.less(who, size)

    def full(self, scope: str, limit: int) -> TocsinError:
        """OVERLOADED, naming the limit."""
        self._refused.labels(self._kind, scope).inc()
        whose = "all callers have" if scope == "all" else f"this {'caller' if scope == 'one' else scope} has"
        return TocsinError(
            ErrorReason.ERROR_REASON_OVERLOADED,
            f"{whose} {limit} {self._kind} open, and no more are taken; come again when some have ended",
            metadata={"limit": f"{self._kind}: {scope}", "allowed": str(limit)},
        )


class AnonymousCall:
    """One call without a credential, while it is open."""

    def __init__(self, peer: str) -> None:
        self.peer: Final = peer
        self.host: Final = source_of(peer)
        self.gone: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        """Done when it must end, since another caller needs the room."""

    async def wait(self, work: Coroutine[Any, Any, T], seconds: float | None) -> T:
        """The result of `work`. Raises TimeoutError after `seconds`, OVERLOADED when the call must end."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self.gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if self.gone.done():
                raise TocsinError(ErrorReason.ERROR_REASON_OVERLOADED, "too many such calls; newer ones take the room")
            raise TimeoutError
        finally:
            task.cancel()


class AnonymousCalls:
    """Calls without a credential, whose callers can only be told apart by address.

    When all places are taken the host with the most loses its oldest one: a stranger who takes them all loses them to
    every newcomer, and health stays to be asked.
    """

    def __init__(self, kind: str, most: int, most_of_connection: int, metrics: Metrics) -> None:
        self._kind = kind
        self._most = most
        self._most_of_connection = most_of_connection
        self._open: OrderedDict[AnonymousCall, None] = OrderedDict()
        self._of_host: Counts[str] = Counts()
        self._of_peer: Counts[str] = Counts()
        self._refused = metrics.rpc_refused
        metrics.rpc_open.labels(kind).set_function(lambda: len(self._open))

    @contextlib.contextmanager
    def admit(self, peer: str) -> Iterator[AnonymousCall]:
        """A place while the block runs. Raises OVERLOADED when the connection `peer` has its share already."""
        if self._of_peer[peer] >= self._most_of_connection:
            self._refused.labels(self._kind, "one").inc()
            raise TocsinError(
                ErrorReason.ERROR_REASON_OVERLOADED,
                f"this connection has {self._most_of_connection} {self._kind} open, and no more are taken",
                metadata={"limit": f"{self._kind}: one", "allowed": str(self._most_of_connection)},
            )
        if len(self._open) >= self._most:
            self._make_room()
        call = AnonymousCall(peer)
        self._open[call] = None
        self._of_host[call.host] += 1
        self._of_peer[peer] += 1
        try:
            yield call
        finally:
            self._remove(call)

    def _make_room(self) -> None:
        host = max(self._of_host, key=self._of_host.__getitem__)
        oldest = next(call for call in self._open if call.host == host)
        self._refused.labels(self._kind, "all").inc()
        self._remove(oldest)
        oldest.gone.set_result(None)

    def _remove(self, call: AnonymousCall) -> None:
        if call in self._open:
            del self._open[call]
            self._of_host.less(call.host)
            self._of_peer.less(call.peer)


class UnreadAnswers:
    """Calls without a credential, by connection, until their answers were read: nothing takes that memory back before."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most = most
        self._of_peer: Counts[str] = Counts()
        self._refused = metrics.rpc_refused

    def enter(self, context: Any) -> None:
        """Counts the call until it ends. Raises OVERLOADED when its connection has its share already."""
        peer = context.peer()
        if self._of_peer[peer] >= self._most:
            self._refused.labels("unread answers", "one").inc()
            raise TocsinError(
                ErrorReason.ERROR_REASON_OVERLOADED,
                f"this connection has {self._most} calls open, and no more are taken; read their answers",
                metadata={"limit": "unread answers: one", "allowed": str(self._most)},
            )
        self._of_peer[peer] += 1
        context.add_done_callback(lambda _: self._of_peer.less(peer))
