"""Channels to the other services: retries, deadlines, identity and trace without a word at the call site.

A wrapping channel instead of interceptors: grpc.aio starts extra tasks per intercepted call, and needs one interceptor
class per kind of call.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from grpc.aio import Channel, Metadata

from tocsin_kit.auth import TokenSource
from tocsin_kit.rpc.call import TRACEPARENT, find_call, trace_id_of, traceparent

DEFAULT_TIMEOUT: Final = 2.0
"""Seconds of a call whose caller names no deadline."""
_MARGIN: Final = 0.02
"""Kept back of one's own caller's deadline, so that a late answer below still becomes an answer above."""

SERVICE_CONFIG: Final = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    # CANCELLED: the server stopped in the instant in which the call reached it, and had not begun it.
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
        # A server in trouble is not asked four times by everybody: retries end when failures outnumber successes.
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
    # A service that is back must be found within a second: calls that wait for it wait no longer than this.
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.max_receive_message_length", 16 << 20),
)


def channel(
    target: str, *, service_name: str, tokens: TokenSource | None = None, tls: grpc.ChannelCredentials | None = None
) -> Channel:
    """A channel to `target`, every replica in turn, only those that say SERVING.

    Calls carry the token of `tokens`, the current call's trace, and end after 2 s, or a little before the current
    call's own deadline if that is sooner, unless `timeout` is given. Only UNAVAILABLE and CANCELLED are tried again, at
    most four times in all: a mutation must carry a `request_id`. `service_name` names the other side in errors and logs;
    turn what a call raises into the contract's error with `from_rpc_error(error, service=...)`.
    """
    if tls is None:
        inner = grpc.aio.insecure_channel(target, options=OPTIONS)
    else:
        inner = grpc.aio.secure_channel(target, tls, options=OPTIONS)
    return ServiceChannel(inner, service_name, tokens)


class ServiceChannel(Channel):
    """See `channel`."""

    def __init__(self, inner: Channel, service_name: str, tokens: TokenSource | None) -> None:
        self._inner = inner
        self._tokens = tokens
        self.service_name: Final = service_name

    async def __aenter__(self) -> "ServiceChannel":
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *details: Any) -> None:
        await self._inner.close(None)

    async def close(self, grace: float | None = None) -> None:
        """Close; calls in flight get `grace` seconds."""
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
        return self._wrap(self._inner.unary_unary(method, *args, **options), bounded=True)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return self._wrap(self._inner.unary_stream(method, *args, **options), bounded=False)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return self._wrap(self._inner.stream_unary(method, *args, **options), bounded=False)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return self._wrap(self._inner.stream_stream(method, *args, **options), bounded=False)

    def _wrap(self, invoke: Callable[..., Any], *, bounded: bool) -> Callable[..., Any]:
        """`bounded`: a deadline even when the caller set none. A stream's life is its own affair."""
        tokens = self._tokens

        def call(
            request: Any = None,
            *,
            timeout: float | None = None,
            metadata: Sequence[tuple[str, str | bytes]] = (),
            **options: Any,
        ) -> Any:
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
