"""A channel around grpc.aio's own: generated stubs that are made with it carry credentials, deadlines and idempotency keys."""

from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable
from typing import Any

import grpc

from tocsin_client.connection import Connection, Metadata, request_id_of, with_request_ids
from tocsin_client.errors import from_rpc_error


class AioClientChannel(grpc.aio.Channel):
    """See the module."""

    def __init__(self, inner: grpc.aio.Channel, connection: Connection) -> None:
        self._inner = inner
        self._connection = connection

    async def __aenter__(self) -> "AioClientChannel":
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Hang up; calls under way get `grace` seconds."""
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
        return _Callable(self._inner.unary_unary(method, *args, **options), self._connection, bounded=True)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return _Callable(self._inner.unary_stream(method, *args, **options), self._connection, bounded=False)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return _Callable(self._inner.stream_unary(method, *args, **options), self._connection, bounded=False)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return _Callable(self._inner.stream_stream(method, *args, **options), self._connection, bounded=False)


class _Callable:
    """A method of any kind."""

    def __init__(self, inner: Any, connection: Connection, *, bounded: bool) -> None:
        self._inner = inner
        self._connection = connection
        self._timeout = connection.timeout if bounded else None

    def __call__(
        self, request: Any = None, *, timeout: float | None = None, metadata: Metadata | None = None, **options: Any
    ) -> Any:
        request = _prepared(request)
        own = grpc.aio.Metadata(*self._connection.metadata(metadata))
        timeout = self._timeout if timeout is None else timeout
        return _Call(self._inner(request, timeout=timeout, metadata=own, **options), request_id_of(request))


class _Call:
    """A call that fails with TocsinError. Everything that does not wait for an answer is gRPC's."""

    def __init__(self, call: Any, request_id: str) -> None:
        self._call = call
        self._request_id = request_id

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            return (yield from self._call.__await__())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, request_id=self._request_id) from error

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for answer in self._call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def read(self) -> Any:
        """The next answer of a stream, or `grpc.aio.EOF`. Raises TocsinError."""
        try:
            return await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def write(self, request: Any) -> None:
        """Send one more message of a stream. Raises TocsinError when the stream has ended."""
        try:
            await self._call.write(with_request_ids(request))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _prepared(request: Any) -> Any:
    """A request, or a stream of them, with idempotency keys."""
    if isinstance(request, AsyncIterable | Iterable):  # no message is iterable
        return _each(request)
    return with_request_ids(request)


async def _each(requests: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield with_request_ids(request)
    else:
        for request in requests:
            yield with_request_ids(request)
