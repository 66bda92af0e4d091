"""Channels to the other services: retries, deadlines, identity and trace, without code at the call.

A wrapping channel instead of interceptors: grpc.aio starts extra tasks per intercepted call, and needs one interceptor
class per kind of call.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from grpc.aio import Channel, Metadata

from tocsin_kit.auth import TokenSource
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.call import TRACEPARENT, find_call, trace_id_of, traceparent
from tocsin_kit.rpc.tls import ClientFiles

_log = get_logger(__name__)

DEFAULT_TIMEOUT: Final = 2.0
"""Seconds of a call whose caller names no deadline."""
_MARGIN: Final = 0.02
"""Reserved from the deadline of the service's own caller, so that a late error of the called service can still be reported."""

RETRY_POLICY: Final[dict[str, Any]] = {
    "maxAttempts": 4,
    # All pauses together are shorter than the silence after which a call is made over other connections
    # (`tocsin_kit.rpc.hedge`): while a service refuses, a call would otherwise be made twelve times, over three connections.
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    # CANCELLED: the server stopped in the instant in which the call reached it, and had not begun it.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
SERVICE_CONFIG: Final = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
        "methodConfig": [{"name": [{}], "retryPolicy": RETRY_POLICY}],
        # A server in trouble is not called four times by everyone: retries end when failures outnumber successes.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.5},
    }
)
OPTIONS: Final = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # A service that is back must be found within a second: waiting calls wait no longer than this.
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.max_receive_message_length", 16 << 20),
)
_NEW_CONNECTIONS: Final = (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))
"""Channels of one process with the same target and options share connections otherwise."""
_LOOK_EVERY: Final = 1.0
"""Seconds between two checks of the TLS files, and of a channel without a connection."""
_RESOLVE_EVERY: Final = 2.0
"""Seconds in which a name server answers, if it does."""
_LAST_CALLS: Final = 60.0
"""Seconds that calls over replaced connections may take to end: more than any deadline here."""


_FAILS: Final = grpc.ChannelConnectivity.TRANSIENT_FAILURE
Options = Sequence[tuple[str, Any]]


def channel(
    target: str, *, service_name: str, tokens: TokenSource | None = None, tls: ClientFiles | None = None
) -> Channel:
    """A channel to `target`, every replica in turn, only those that say SERVING.

    Calls carry the token of `tokens`, the current call's trace, and end after 2 s, or a little before the current
    call's own deadline if that is sooner, unless `timeout` is given. Only UNAVAILABLE and CANCELLED are tried again, at
    most four times in all and within half a second: a mutation must carry a `request_id`. `service_name` names the other
    side in errors and logs; turn what a call raises into the contract's error with `from_rpc_error(error, service=...)`.
    """

    def connect(options: Options) -> Channel:
        if tls is None:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, tls.credentials, options=options)

    return ServiceChannel(connect, service_name, tokens, tls)


class ServiceChannel(Channel):
    """See `channel`.

    A replica that is frozen or cut off keeps its connection, and so its place in the rotation: gRPC counts it as serving until a
    keepalive ping has had no answer, after 40 s. A new connection to it is not completed. So a call that is made after silence
    (`silent_for`, seconds) uses new connections, and all calls do as soon as there is one.

    gRPC keeps the certificates with which a channel was made: once their files have been renewed, calls use new connections too.
    A name that could not be resolved is looked up again after pauses that grow to two minutes, even while calls wait for it. So a
    channel without a connection gets an additional one every few seconds, which resolves the name at once.
    """

    def __init__(
        self,
        connect: Callable[[Options], Channel],
        service_name: str,
        tokens: TokenSource | None,
        tls: ClientFiles | None = None,
    ) -> None:
        self._connect = connect
        self._tls = tls
        self._shown = None if tls is None else tls.credentials
        self._looked = time.monotonic()
        self._inner = connect(OPTIONS)
        self._since = time.monotonic()
        self._next: Channel | None = None
        self._opened = float("-inf")
        self._change: asyncio.Task[None] | None = None
        self._closings: set[asyncio.Task[None]] = set()
        self._tokens = tokens
        self.service_name: Final = service_name

    async def __aenter__(self) -> "ServiceChannel":
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *details: Any) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close; calls in flight get `grace` seconds."""
        running = [*self._closings, *([] if self._change is None else [self._change])]
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._next is not None:
            await self._next.close(None)
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Connectivity as gRPC sees it."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return once the state is another one."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return once a replica that serves is connected."""
        await self._inner.channel_ready()

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return self._wrap(lambda inner: inner.unary_unary(method, *args, **options), bounded=True)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return self._wrap(lambda inner: inner.unary_stream(method, *args, **options), bounded=False)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return self._wrap(lambda inner: inner.stream_unary(method, *args, **options), bounded=False)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return self._wrap(lambda inner: inner.stream_stream(method, *args, **options), bounded=False)

    def _wrap(self, make: Callable[[Channel], Any], *, bounded: bool) -> Callable[..., Any]:
        """`bounded`: a deadline even when the caller set none. A stream limits its own time."""
        tokens = self._tokens
        inner, invoke = self._inner, make(self._inner)

        def call(
            request: Any = None,
            *,
            timeout: float | None = None,
            metadata: Sequence[tuple[str, str | bytes]] = (),
            silent_for: float | None = None,
            **options: Any,
        ) -> Any:
            nonlocal inner, invoke
            self._look()
            way = self._way() if silent_for is None else self._newer(silent_for)
            if inner is not way:
                inner, invoke = way, make(way)
            current = find_call()
            trace = trace_id_of(None) if current is None else current.trace_id
            merged = [*metadata, (TRACEPARENT, traceparent(trace))]
            if tokens is not None:
                merged.append(("authorization", f"Bearer {tokens.token()}"))
            if timeout is None and bounded:
                timeout = DEFAULT_TIMEOUT
                remaining = None if current is None else current.remaining()
                if remaining is not None:
                    timeout = max(0.0, min(timeout, remaining - _MARGIN))
            return invoke(request, timeout=timeout, metadata=Metadata(*merged), **options)

        return call

    def _newer(self, silent_for: float) -> Channel:
        """Connections that are newer than the call that had no answer for so long."""
        if self._next is not None:
            return self._next
        if time.monotonic() - self._since < silent_for:
            return self._inner
        return self._open()

    def _open(self) -> Channel:
        if self._next is not None and self._change is not None:
            self._change.cancel()
            self._retire(self._next)
        self._next = self._connect(_NEW_CONNECTIONS)
        self._opened = time.monotonic()
        self._change = asyncio.create_task(self._change_to(self._next))
        return self._next

    def _way(self) -> Channel:
        if self._next is None or self._inner.get_state() is grpc.ChannelConnectivity.READY:
            return self._inner
        return self._next  # the new connections may reach what the old certificates cannot

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        if self._tls is not None:
            self._tls.refresh()
            if self._shown is not self._tls.credentials:
                self._shown = self._tls.credentials
                self._open()
                return
        if now - self._opened >= _RESOLVE_EVERY and self._inner.get_state() is _FAILS:
            self._open()

    async def _change_to(self, newer: Channel) -> None:
        # While no replica completes a connection, a replica that was stopped for a moment may still answer over an old one.
        await newer.channel_ready()
        older, self._inner, self._next, self._since = self._inner, newer, None, time.monotonic()
        _log.warning("connections_changed", service=self.service_name)
        self._retire(older)

    def _retire(self, older: Channel) -> None:
        closing = asyncio.create_task(older.close(_LAST_CALLS))
        self._closings.add(closing)
        closing.add_done_callback(self._closings.discard)
