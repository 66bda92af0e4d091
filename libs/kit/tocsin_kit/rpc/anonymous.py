"""Health and reflection: open to every caller without a credential, so they must not cost much.

gRPC reads a unary call's message before its handler runs, for as long as the caller likes. So these handlers read by themselves,
within limits of time, number and size, like those of `tocsin_kit.rpc.pipeline`.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.call_limits import AnonymousCall, AnonymousCalls, UnreadAnswers
from tocsin_kit.rpc.closing import closing

Context = grpc.aio.ServicerContext[Any, Any]

READ_SECONDS: Final = 5.0
"""How long the message of such a call may take, and how long a reflection stream may be idle."""
_MOST_READING: Final = 64
_MOST_WATCHING: Final = 1000
_MOST_OF_CONNECTION: Final = 20
_MOST_UNREAD: Final = 60
"""Calls of one connection that have not ended: their handlers may have, while the answers are not read."""
_MAX_BYTES: Final = 4096


class AnonymousHandlers:
    """Wraps the handlers of services that are open to every caller."""

    def __init__(self, metrics: Metrics) -> None:
        self._reading = AnonymousCalls("health checks", _MOST_READING, _MOST_OF_CONNECTION, metrics)
        self._reflecting = AnonymousCalls("reflection streams", _MOST_READING, _MOST_OF_CONNECTION, metrics)
        self._watching = AnonymousCalls("health watches", _MOST_WATCHING, _MOST_OF_CONNECTION, metrics)
        self._unread_answers = UnreadAnswers(_MOST_UNREAD, metrics)

    def wrap(self, handler: Any) -> Any:
        """The handler, reading within limits."""
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(self._asked(handler), None, handler.response_serializer)
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._watched(handler), None, handler.response_serializer)
        return grpc.stream_unary_rpc_method_handler(self._answered(handler), None, handler.response_serializer)

    def _answered(self, handler: Any) -> Any:
        async def serve(_: object, context: Context) -> Any:
            async with _answering_errors(context):
                self._unread_answers.enter(context)
                with self._reading.admit(context.peer()) as call:
                    request = await _read(call, context, handler.request_deserializer)
                return await handler.unary_unary(request, context)

        return serve

    def _watched(self, handler: Any) -> Any:
        async def serve(_: object, context: Context) -> AsyncIterator[Any]:
            async with _answering_errors(context):
                self._unread_answers.enter(context)
                with self._reading.admit(context.peer()) as call:
                    request = await _read(call, context, handler.request_deserializer)
                with self._watching.admit(context.peer()) as call:
                    async with closing(handler.unary_stream(request, context)) as answers:
                        while True:
                            try:
                                answer = await call.wait(anext(answers), None)
                            except StopAsyncIteration:
                                return
                            yield answer

        return serve

    def _asked(self, handler: Any) -> Any:
        async def serve(_: object, context: Context) -> AsyncIterator[Any]:
            async with _answering_errors(context):
                self._unread_answers.enter(context)
                with self._reflecting.admit(context.peer()) as call:
                    requests = _requests(call, context, handler.request_deserializer)
                    async with closing(handler.stream_stream(requests, context)) as answers:
                        async for answer in answers:
                            yield answer

        return serve


async def _requests(call: AnonymousCall, context: Context, parse: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    while True:
        data = await call.wait(context.read(), READ_SECONDS)
        if data is grpc.aio.EOF:
            return
        yield _parsed(data, parse)


async def _read(call: AnonymousCall, context: Context, parse: Callable[[bytes], Any]) -> Any:
    data = await call.wait(context.read(), READ_SECONDS)
    return _parsed(b"" if data is grpc.aio.EOF else data, parse)


def _parsed(data: Any, parse: Callable[[bytes], Any]) -> Any:
    if len(data) > _MAX_BYTES:
        raise DecodeError
    return parse(data)


@contextlib.asynccontextmanager
async def _answering_errors(context: Context) -> AsyncIterator[None]:
    """Ends a call beyond a limit with a status that says so."""
    try:
        yield
    except TocsinError as error:
        await context.abort(error.code, error.message)
    except TimeoutError:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"nothing came for {READ_SECONDS:g} s")
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is not of this method's request type")
