"""A channel around gRPC's own: generated stubs that are made with it carry credentials, deadlines and idempotency keys.

A wrapping channel instead of interceptors: those see errors of calls in four different shapes.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc

from tocsin_client.connection import Connection, Metadata, request_id_of, with_request_ids
from tocsin_client.errors import from_rpc_error


class ClientChannel(grpc.Channel):
    """See the module."""

    def __init__(self, inner: grpc.Channel, connection: Connection) -> None:
        self._inner = inner
        self._connection = connection

    def __enter__(self) -> "ClientChannel":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._inner.close()

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        """Call back at every change of connectivity."""
        self._inner.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Undo `subscribe`."""
        self._inner.unsubscribe(callback)

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return _UnaryCallable(self._inner.unary_unary(method, *args, **options), self._connection, True)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return _UnaryCallable(self._inner.stream_unary(method, *args, **options), self._connection, False)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return _StreamCallable(self._inner.unary_stream(method, *args, **options), self._connection)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """Used by generated stubs."""
        return _StreamCallable(self._inner.stream_stream(method, *args, **options), self._connection)


class _UnaryCallable:
    """A method with one answer."""

    def __init__(self, inner: Any, connection: Connection, bounded: bool) -> None:
        self._inner = inner
        self._connection = connection
        self._timeout = connection.timeout if bounded else None

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Metadata | None = None, **options: Any
    ) -> Any:
        return self.with_call(request, timeout, metadata, **options)[0]

    def with_call(
        self, request: Any, timeout: float | None = None, metadata: Metadata | None = None, **options: Any
    ) -> Any:
        request = _prepared(request)
        arguments = self._arguments(timeout, metadata, options)
        try:
            return self._inner.with_call(request, **arguments)
        except grpc.RpcError as error:
            raise from_rpc_error(error, request_id=request_id_of(request)) from error

    def future(
        self, request: Any, timeout: float | None = None, metadata: Metadata | None = None, **options: Any
    ) -> Any:
        """gRPC's own future: its `result()` raises grpc.RpcError, which `from_rpc_error` converts."""
        return self._inner.future(_prepared(request), **self._arguments(timeout, metadata, options))

    def _arguments(self, timeout: float | None, metadata: Metadata | None, options: dict[str, Any]) -> dict[str, Any]:
        timeout = self._timeout if timeout is None else timeout
        return {"timeout": timeout, "metadata": self._connection.metadata(metadata), **options}


class _StreamCallable:
    """A method with a stream of answers."""

    def __init__(self, inner: Any, connection: Connection) -> None:
        self._inner = inner
        self._connection = connection

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Metadata | None = None, **options: Any
    ) -> Any:
        metadata = self._connection.metadata(metadata)
        return _Answers(self._inner(_prepared(request), timeout=timeout, metadata=metadata, **options))


class _Answers:
    """A stream of answers that fails with TocsinError. Everything else is the call's."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __iter__(self) -> "_Answers":
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _prepared(request: Any) -> Any:
    """A request, or a stream of them, with idempotency keys."""
    if isinstance(request, Iterable):  # no message is iterable
        return _each(request)
    return with_request_ids(request)


def _each(requests: Iterable[Any]) -> Iterator[Any]:
    for request in requests:
        yield with_request_ids(request)
