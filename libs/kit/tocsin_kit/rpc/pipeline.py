"""The steps around every handler, in this order:

trace id → access log and metrics → error mapping → deadline guard → authentication and scope → room, also for the answer → reading,
decoding and protovalidate → handler. A handler is wrapped once, when it is registered, so a call costs no look-ups by name; the
request is read and decoded only after the caller may call (AIP-211: who may not call learns nothing, not even what is
wrong). gRPC's own unary handlers get a message that was read before; so every method is registered as one that reads, and
a stranger's message stays in the 64 KiB that HTTP/2 lets it send unasked.
"""

import contextlib
import inspect
import operator
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from prometheus_client import Counter, Histogram
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.auth import ALL_ORGS, Authenticator, Principal, invalid_credential
from tocsin_kit.budgets import BYTES, RPCS, Budgets
from tocsin_kit.credentials import Credentials, Throttled
from tocsin_kit.errors import DETAILS_KEY, TocsinError, to_status
from tocsin_kit.failure_lines import FailureLines
from tocsin_kit.keys.sources import source_of
from tocsin_kit.logging import call_fields, get_logger, tells_debug
from tocsin_kit.metrics import Metrics
from tocsin_kit.proxies import HEADER, Proxies
from tocsin_kit.rpc.access import Access
from tocsin_kit.rpc.answers import Answer, Answers, room_of
from tocsin_kit.rpc.bounds import bounds_of
from tocsin_kit.rpc.call import TRACEPARENT, Call, enter, find_call, trace_id_of
from tocsin_kit.rpc.call_limits import CallLimits, RpcLimits
from tocsin_kit.rpc.closing import closing
from tocsin_kit.rpc.failures import is_cancellation, masked
from tocsin_kit.rpc.validation import validate
from tocsin_kit.time_limit import TimeLimit, TooLate

Context = grpc.aio.ServicerContext[Any, Any]

_log = get_logger(__name__)

MIN_REMAINING: Final = 0.1
"""Seconds that a caller must still be willing to wait; with less the work would be done for a caller that has left."""
_KEPT: Final = 0.25
"""The part of a tenant's calls that is reserved for calls that change something: a dashboard that polls too fast must not use up
the calls of a user who acknowledges."""
_BEARER: Final = "bearer "
_NO_PROXIES: Final = Proxies()
_NOBODY: Final = Principal("", "", frozenset())
_byte_size: Final = operator.methodcaller("ByteSize")


class Pipeline:
    """Wraps handlers. `authenticators` is read at each call, so a service may add its own kind of credential later."""

    def __init__(
        self,
        authenticators: Sequence[Authenticator],
        credentials: Credentials,
        budgets: Budgets,
        metrics: Metrics,
        limits: RpcLimits,
        proxies: Proxies = _NO_PROXIES,
    ) -> None:
        self.open_calls: Final = CallLimits(limits.calls, limits.streams, metrics)
        self.answers: Final = Answers(limits.answer_bytes, metrics)
        self.lines: Final = FailureLines()
        self._limits = limits
        self._reading = TimeLimit(limits.read_seconds)
        self._handling = TimeLimit(limits.call_seconds)
        self._proxies = proxies
        self._authenticators = authenticators
        self._credentials = credentials
        self._budgets = budgets
        self._metrics = metrics
        self.leaving = False
        """Set when the process is to stop: new calls are refused so that their callers use another replica, and calls under way
        finish."""
        self.turned_away = 0
        """How many calls were told so."""
        self.refused: Callable[[Call, TocsinError], None] = lambda call, error: None
        """Called for each call of a known caller that fails before its handler, and for streams that fail."""

    def wrap(
        self, method: str, access: Access, handler: Any, request_type: Descriptor, response_type: Descriptor
    ) -> Any:
        """`handler` with everything around it. `method` is `package.Service/Method`, `access` what it demands."""
        run = _Method(self, method, access, handler, request_type, response_type)
        serializer = None if run.takes_bytes else handler.response_serializer
        if handler.request_streaming:
            if handler.response_streaming:
                return grpc.stream_stream_rpc_method_handler(run.stream_stream(), run.decode, serializer)
            return grpc.stream_unary_rpc_method_handler(run.stream_unary(), run.decode, serializer)
        # As streams to gRPC, which then leaves the reading to the wrapper. On the wire a unary call is the same.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(run.unary_stream(), None, serializer)
        return grpc.stream_unary_rpc_method_handler(run.unary_unary(), None, serializer)


class _Method:
    """One method's wrapper, with everything that does not change from call to call looked up beforehand, or once."""

    def __init__(
        self,
        pipeline: Pipeline,
        method: str,
        access: Access,
        handler: Any,
        request_type: Descriptor,
        response_type: Descriptor,
    ) -> None:
        self._pipeline = pipeline
        self._proxies = pipeline._proxies
        self._authenticators = pipeline._authenticators
        self._judge = pipeline._credentials.judge
        self._revocations = pipeline._credentials.revocations
        self._budgets = pipeline._budgets
        self._kept = _KEPT if access.reads else 0.0
        self._total = pipeline._metrics.rpc_total
        self._limits = pipeline._limits
        self._reading = pipeline._reading
        self._handling = pipeline._handling
        self._open_calls = pipeline.open_calls
        self._answers = pipeline.answers
        self._answer_room = room_of(access, request_type, response_type)
        self._lines = pipeline.lines
        self._method = method
        self._access = access
        self._handler = handler
        self.takes_bytes: Final = getattr(handler.unary_unary, "takes_bytes", False)
        """Whether the handler reads its request itself (`tocsin_kit.rpc.raw_fields.takes_bytes`)."""
        self._parse: Callable[[bytes], Message] = handler.request_deserializer
        # Most requests cannot be large: bytes beyond what their fields may hold are not even parsed.
        self._max_message_bytes = min(pipeline._limits.message_bytes, bounds_of(request_type).max_bytes)
        pipeline._metrics.expect_calls(method)

    @cached_property
    def _figures(self) -> tuple[Histogram, Counter]:
        metrics = self._pipeline._metrics
        return metrics.rpc_seconds.labels(self._method), metrics.rpc_total.labels(self._method, "OK")

    def _caller(self, context: Context) -> Callable[[], str]:
        """Tells the caller's address, which most calls need not know."""
        if not self._proxies:
            return context.peer
        metadata = context.invocation_metadata() or ()
        return lambda: self._proxies.caller(context.peer(), [str(value) for key, value in metadata if key == HEADER])

    def decode(self, data: bytes) -> Message:
        """Raises MESSAGE_TOO_LARGE. gRPC's own limit is higher, so that a message a little too large is answered with a reason."""
        return self._parse(self._within_size(data))

    def _within_size(self, data: bytes) -> bytes:
        if len(data) > self._max_message_bytes:
            raise TocsinError(
                ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE,
                f"the message has {len(data)} bytes, the method takes {self._max_message_bytes}",
                metadata={"limit_bytes": str(self._max_message_bytes)},
            )
        return data

    def _checked(self, data: bytes) -> Message:
        request = self.decode(data)
        validate(request)
        return request

    def unary_unary(self) -> Callable[[object, Context], Awaitable[Message]]:
        behaviour: Any = self._handler.unary_unary
        receive: Callable[[bytes], Any] = self._within_size if self.takes_bytes else self._checked
        read, calls, budgets, leaves = self._read, self._open_calls.calls, self._budgets, self._answers.leaves
        size_of: Callable[[Any], int] = len if self.takes_bytes else _byte_size
        begin, succeed, fail, within = self._begin, self._succeed, self._fail, self._within

        async def serve(_: object, context: Context) -> Message:
            began = time.perf_counter()
            try:
                call = await begin(context)
                org_id = call.principal.org_id
                calls.enter(org_id)
                room: Answer | None = None
                try:
                    # Tocsin's own services never wait for a reservation: their answers are counted when they are sent.
                    if self._answer_room and org_id != ALL_ORGS:
                        room = await self._room(org_id, context)
                    data = await read(context)
                    budgets.take(org_id, BYTES, len(data))
                    request = receive(data)
                    call.handling = True
                    if call.deadline is not None:
                        response: Message = await behaviour(request, context)
                    else:
                        response = await within(behaviour(request, context))
                finally:
                    calls.leave(org_id)
                if call.beside:
                    context.set_trailing_metadata(call.beside)
                if room is None:
                    leaves(org_id, size_of(response), context)
                else:
                    room.made(size_of(response))
            except BaseException as error:
                await fail(error, context, began)
            succeed(began)
            return response

        return serve

    def stream_unary(self) -> Callable[[AsyncIterator[Message], Context], Awaitable[Message]]:
        behaviour = self._handler.stream_unary

        async def serve(requests: AsyncIterator[Message], context: Context) -> Message:
            began = time.perf_counter()
            try:
                call = await self._begin(context)
                with self._stream(call, context):
                    response: Message = await behaviour(self._validated(requests, call), context)
            except BaseException as error:
                await self._fail(error, context, began)
            self._succeed(began)
            return response

        return serve

    def unary_stream(self) -> Any:
        behaviour = self._handler.unary_stream

        async def request(_: object, call: Call, context: Context) -> Message:
            data = await self._read(context)
            self._budgets.take(call.org_id, BYTES, len(data))
            return self._checked(data)

        return self._streaming(behaviour, request)

    def stream_stream(self) -> Any:
        async def validated(requests: Any, call: Call, _: Context) -> Any:
            return self._validated(requests, call)

        return self._streaming(self._handler.stream_stream, validated)

    def _streaming(self, behaviour: Any, incoming: Callable[[Any, Call, Context], Awaitable[Any]]) -> Any:
        async def generate(received: Any, context: Context) -> AsyncIterator[Message]:
            began = time.perf_counter()
            try:
                call = await self._begin(context)
                with self._stream(call, context):
                    request = await incoming(received, call, context)
                    async with closing(behaviour(request, context)) as responses:
                        async for response in responses:
                            yield response
            except BaseException as error:
                await self._fail(error, context, began)
            self._succeed(began)

        async def write(received: Any, context: Context) -> None:
            began = time.perf_counter()
            try:
                call = await self._begin(context)
                with self._stream(call, context):
                    await behaviour(await incoming(received, call, context), context)
            except BaseException as error:
                await self._fail(error, context, began)
            self._succeed(began)

        return generate if inspect.isasyncgenfunction(behaviour) else write

    @contextlib.contextmanager
    def _stream(self, call: Call, context: Context) -> Iterator[None]:
        """Counts a stream while it is open, by tenant and by connection."""
        org_id, peer = call.principal.org_id, context.peer()
        streams, connections = self._open_calls.streams, self._open_calls.connections
        with contextlib.ExitStack() as stack:
            streams.enter(org_id)
            stack.callback(streams.leave, org_id)
            connections.enter(peer)
            stack.callback(connections.leave, peer)
            self._budgets.enter_stream(org_id)
            stack.callback(self._budgets.leave_stream, org_id)
            yield

    async def _validated(self, requests: AsyncIterator[Message], call: Call) -> AsyncIterator[Message]:
        async for request in requests:
            # A stream may stay open for long after its credential was revoked.
            self._revocations.check(call.principal)
            self._budgets.take(call.org_id, BYTES, request.ByteSize())
            validate(request)
            yield request

    async def _room(self, org_id: str, context: Context) -> Answer:
        """Room for a large answer. A connection's share applies to its caller, because a proxy uses one connection for many
        callers."""
        connection = self._caller(context)()
        return await self._answers.take(org_id, connection, self._answer_room, context, reads=self._access.reads)

    async def _read(self, context: Context) -> bytes:
        """The one message of a unary call, which must have come within a time."""
        try:
            data = await self._reading.wait(context.read())
        except TooLate:
            raise TocsinError(
                ErrorReason.ERROR_REASON_DEADLINE_TOO_SHORT,
                f"the message did not come within {self._limits.read_seconds:g} s; send it at once",
            ) from None
        if data is grpc.aio.EOF:
            raise DecodeError("no message came, or one that gRPC refused")
        return data  # type: ignore[no-any-return]

    async def _within(self, work: Awaitable[Message]) -> Message:
        """The server's own limit, for callers that would wait for ever."""
        try:
            return await self._handling.wait(work)
        except TooLate:
            raise TocsinError(
                ErrorReason.ERROR_REASON_DEADLINE_TOO_SHORT,
                f"the call took longer than the {self._limits.call_seconds:g} s the server allows a call without a deadline",
            ) from None

    async def _begin(self, context: Context) -> Call:
        """Who calls and how long they wait; makes the call current. Raises for anyone who may not go on."""
        if self._pipeline.leaving:
            self._pipeline.turned_away += 1
            raise TocsinError(
                ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
                "this process is stopping and has not begun the call; send it again, another one will take it",
                retry_after=0.0,
            )
        authorization = trace = None
        twice = False
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                twice = authorization is not None
                authorization = value
            elif key == TRACEPARENT:
                trace = value
        trace_id = trace_id_of(trace if isinstance(trace, str) else None)
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        anonymous = Call(self._method, _NOBODY, trace_id, deadline)
        call_fields.set(anonymous.fields)
        if remaining is not None and remaining < MIN_REMAINING:
            raise TocsinError(
                ErrorReason.ERROR_REASON_DEADLINE_TOO_SHORT,
                f"less than {MIN_REMAINING * 1000:.0f} ms are left; give the call a later deadline",
            )
        if not isinstance(authorization, str) or authorization[:7].lower() != _BEARER:
            raise TocsinError(
                ErrorReason.ERROR_REASON_CREDENTIAL_MISSING, "send the metadata `authorization: Bearer <token>`"
            )
        if twice:
            # A proxy that adds a header must not be overruled by its caller's own, nor the other way round.
            raise invalid_credential("the metadata `authorization` was sent twice; send it once")
        principal = await self._judge(self._authenticators, authorization[7:].strip(), self._caller(context))
        call = Call(self._method, principal, trace_id, deadline)
        call_fields.set(call.fields)
        self._access.check(principal)
        enter(call)
        self._budgets.take(principal.org_id, RPCS, kept=self._kept)
        return call

    def _succeed(self, began: float) -> None:
        elapsed = time.perf_counter() - began
        seconds, ok = self._figures
        seconds.observe(elapsed)
        ok.inc()
        if tells_debug():
            _log.debug("rpc", code="OK", seconds=round(elapsed, 6))

    def _tell(self, context: Context, elapsed: float, **fields: str) -> None:
        call = find_call()
        who = source_of(self._caller(context)()) if call is None else call.principal.org_id
        more = self._lines.take(who, time.monotonic())
        if more is not None:
            _log.info("rpc", **fields, seconds=round(elapsed, 6), **more)

    async def _fail(self, error: BaseException, context: Context, began: float) -> NoReturn:
        elapsed = time.perf_counter() - began
        self._figures[0].observe(elapsed)
        if is_cancellation(error):
            self._total.labels(self._method, "CANCELLED").inc()
            self._tell(context, elapsed, code="CANCELLED")
            raise error
        if isinstance(error, grpc.aio.AbortError) or not isinstance(error, Exception):
            code = context.code()
            self._total.labels(self._method, getattr(code, "name", None) or "UNKNOWN").inc()
            raise error
        answer = masked(error)
        self._total.labels(self._method, answer.code.name).inc()
        call = find_call()
        if call is not None and not call.handling:
            self._pipeline.refused(call, answer)
        if not isinstance(answer, Throttled):  # of which the log has a line a minute
            self._tell(context, elapsed, code=answer.code.name, reason=answer.reason_name)
        await context.abort(
            answer.code, answer.message, trailing_metadata=((DETAILS_KEY, to_status(answer).SerializeToString()),)
        )
