"""What every call goes through, met as a client meets it: real server, real socket, all four kinds of call."""

import asyncio
from typing import Any

import asyncpg
import grpc
import jwt
import pytest
import structlog
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.auth import Principal, mint
from tocsin_kit.buckets import Buckets
from tocsin_kit.errors import TocsinError, from_rpc_error, invalid, not_found
from tocsin_kit.keys.revocations import Revocation
from tocsin_kit.logging import call_fields
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.server import current_call
from tocsin_kit.settings import ServiceSettings

ALL_KINDS = pytest.mark.parametrize("kind", ["Unary", "ServerStream", "ClientStream", "BidiStream"])


async def failure(call: Any) -> tuple[grpc.aio.AioRpcError, TocsinError]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value, from_rpc_error(caught.value)


@ALL_KINDS
async def test_a_good_call_gets_its_answer_and_is_counted(serve: Any, connect: Any, echo: Any, kind: str) -> None:
    metrics = Metrics()
    client = connect(await serve(echo.Echo(str.upper), metrics=metrics))
    assert "".join(await client.call(kind, echo.Request(text="abc"))) == "ABC"
    labels = {"method": f"{echo.SERVICE}/{kind}"}
    assert metrics.registry.get_sample_value("tocsin_rpc_total", {**labels, "code": "OK"}) == 1
    assert metrics.registry.get_sample_value("tocsin_rpc_seconds_count", labels) == 1


async def test_a_method_that_was_not_called_is_shown_at_zero_from_the_first_look_on(
    serve: Any, connect: Any, echo: Any
) -> None:
    metrics = Metrics()
    client = connect(await serve(echo.Echo(str.upper), metrics=metrics))
    await client.call("Unary", echo.Request(text="abc"))
    lines = metrics.render().decode().splitlines()
    for kind, calls in (("Unary", 1), ("ClientStream", 0)):
        method = f'method="{echo.SERVICE}/{kind}"'
        assert f'tocsin_rpc_total{{code="OK",{method}}} {calls}.0' in lines
        assert f"tocsin_rpc_seconds_count{{{method}}} {calls}.0" in lines


@ALL_KINDS
async def test_a_known_error_arrives_with_its_details(serve: Any, connect: Any, echo: Any, kind: str) -> None:
    def act(text: str) -> str:
        raise not_found(ErrorReason.ERROR_REASON_QUEUE_NOT_FOUND, "queues/x")

    metrics = Metrics()
    client = connect(await serve(echo.Echo(act), metrics=metrics))
    error, parsed = await failure(client.call(kind, echo.Request(text="abc")))
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    info, resource = error_details_pb2.ErrorInfo(), error_details_pb2.ResourceInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(resource)
    assert (error.code(), info.reason, info.domain) == (grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND", "tocsin.dev")
    assert resource.resource_name == info.metadata["name"] == "queues/x"
    assert parsed.reason == ErrorReason.ERROR_REASON_QUEUE_NOT_FOUND
    labels = {"method": f"{echo.SERVICE}/{kind}", "code": "NOT_FOUND"}
    assert metrics.registry.get_sample_value("tocsin_rpc_total", labels) == 1


@ALL_KINDS
async def test_a_defect_is_masked_and_its_id_is_in_the_log(serve: Any, connect: Any, echo: Any, kind: str) -> None:
    def act(text: str) -> str:
        raise ZeroDivisionError("password=hunter2")

    client = connect(await serve(echo.Echo(act)))
    with structlog.testing.capture_logs() as lines:
        error, parsed = await failure(client.call(kind, echo.Request(text="abc")))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert parsed.reason == ErrorReason.ERROR_REASON_INTERNAL
    assert "hunter2" not in f"{error.details()}{error.trailing_metadata()}"
    assert "ZeroDivision" not in f"{error.details()}{error.trailing_metadata()}"
    [line] = [line for line in lines if line["event"] == "internal_error"]
    assert line["error_id"] == parsed.metadata["error_id"]
    assert isinstance(line["exc_info"], ZeroDivisionError)


@ALL_KINDS
async def test_a_broken_rule_names_the_field(serve: Any, connect: Any, echo: Any, kind: str) -> None:
    client = connect(await serve(echo.Echo()))
    request = echo.Request(text="x" * 11, color=7, items=[{"name": "ok"}, {"name": ""}])
    error, parsed = await failure(client.call(kind, request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert parsed.reason == ErrorReason.ERROR_REASON_INVALID_FIELD
    assert [violation.field for violation in parsed.fields] == ["text", "color", "items[1].name"]
    assert all(violation.description for violation in parsed.fields)


@ALL_KINDS
async def test_bytes_that_are_no_message_are_bad_input(serve: Any, connect: Any, echo: Any, kind: str) -> None:
    client = connect(await serve(echo.Echo()))
    error, parsed = await failure(client.call(kind, b"\xff\xff\xff"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert parsed.reason == ErrorReason.ERROR_REASON_INVALID_FIELD


@ALL_KINDS
@pytest.mark.parametrize(
    ("credential", "code", "reason"),
    [
        ("", "UNAUTHENTICATED", "CREDENTIAL_MISSING"),
        ("Basic abc", "UNAUTHENTICATED", "CREDENTIAL_MISSING"),
        ("Bearer rubbish", "UNAUTHENTICATED", "CREDENTIAL_INVALID"),
        ("Bearer {expired}", "UNAUTHENTICATED", "CREDENTIAL_EXPIRED"),
        ("Bearer {powerless}", "PERMISSION_DENIED", "SCOPE_MISSING"),
    ],
)
async def test_who_may_not_call_hears_only_that(
    serve: Any, connect: Any, echo: Any, settings: ServiceSettings, kind: str, credential: str, code: str, reason: str
) -> None:
    """The body breaks every rule, and no answer says so: access comes before content (AIP-211)."""
    keys = settings.signing_keys
    tokens = {
        "expired": mint(keys, org_id="acme", subject="users/ana", scopes={"echo:use"}, ttl=-120),
        "powerless": mint(keys, org_id="acme", subject="users/ana", scopes={"other"}, ttl=60),
    }
    client = connect(await serve(echo.Echo()))
    metadata = (("authorization", credential.format(**tokens)),) if credential else ()
    error, parsed = await failure(client.call(kind, b"\xff\xff", metadata=metadata))
    assert (error.code().name, parsed.reason_name) == (code, reason)
    assert parsed.fields == ()
    if reason == "SCOPE_MISSING":
        assert parsed.metadata == {"scope": "echo:use"}


@ALL_KINDS
async def test_two_credentials_are_none(serve: Any, connect: Any, echo: Any, token: str, kind: str) -> None:
    client = connect(await serve(echo.Echo()))
    for second in (f"Bearer {token}", "Bearer rubbish", ""):
        metadata = (("authorization", f"Bearer {token}"), ("authorization", second))
        error, parsed = await failure(client.call(kind, echo.Request(), metadata=metadata))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert second == "" or parsed.reason == ErrorReason.ERROR_REASON_CREDENTIAL_INVALID


async def test_an_open_stream_ends_when_its_credential_is_revoked(
    serve: Any, connect: Any, echo: Any, settings: ServiceSettings
) -> None:
    server = await serve(echo.Echo())
    token_id = "t-1"
    claims = {"iss": "tocsin", "org": "acme", "sub": "users/ana", "scope": "echo:use", "exp": 1 << 40, "jti": token_id}
    kid, key = settings.signing_keys.signing
    client = connect(server, using=jwt.encode(claims, key, algorithm="HS256", headers={"kid": kid}))
    call = client.channel.stream_stream(
        f"/{echo.SERVICE}/BidiStream",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=echo.Response.FromString,
    )(metadata=client.metadata, timeout=30)
    await call.write(echo.Request(text="a"))
    assert (await call.read()).text == "a"
    server.credentials.revocations.add(Revocation("acme", token_id, "", 0.0, 1e12))
    await call.write(echo.Request(text="b"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call("Unary", echo.Request(text="c"))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_handler_knows_its_call(serve: Any, connect: Any, echo: Any, token: str) -> None:
    seen = []
    client = connect(await serve(echo.Echo(lambda text: seen.append(current_call()))))
    trace = "0af7651916cd43dd8448eb211c80319c"
    metadata = (("authorization", f"bearer {token}"), ("traceparent", f"00-{trace}-b7ad6b7169203331-01"))
    await client.call("Unary", echo.Request(text="x"), metadata=metadata, timeout=60.0)
    await client.call("Unary", echo.Request(text="x"), timeout=None)
    first, second = seen
    assert first.principal == Principal("acme", "users/ana", frozenset({"echo:use"}))
    assert (first.method, first.org_id, first.trace_id) == (f"{echo.SERVICE}/Unary", "acme", trace)
    assert 0 < (first.remaining() or 0) < 60.5
    assert len(second.trace_id) == 32
    assert second.trace_id != trace
    assert second.remaining() is None
    with pytest.raises(TocsinError) as caught:
        first.acting_for("other")
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "trace", ["", "rubbish", "00-short-b7ad6b7169203331-01", "00-" + "0" * 32 + "-b7ad6b7169203331-01"]
)
async def test_a_broken_trace_is_replaced(serve: Any, connect: Any, echo: Any, token: str, trace: str) -> None:
    client = connect(await serve(echo.Echo(lambda text: current_call().trace_id)))
    metadata = (("authorization", f"Bearer {token}"), ("traceparent", trace))
    [answer] = await client.call("Unary", echo.Request(), metadata=metadata)
    assert len(answer) == 32
    assert int(answer, 16)


async def test_logs_inside_a_call_carry_it(
    serve: Any, connect: Any, echo: Any, capsys: pytest.CaptureFixture[str]
) -> None:

    seen = []

    def act(text: str) -> str:
        fields = call_fields.get()
        seen.append(fields() if fields is not None else None)
        return text

    client = connect(await serve(echo.Echo(act)))
    await client.call("Unary", echo.Request(text="x"))
    [fields] = seen
    assert fields is not None
    assert {key: fields[key] for key in ("method", "org_id", "subject")} == {
        "method": f"{echo.SERVICE}/Unary",
        "org_id": "acme",
        "subject": "users/ana",
    }


async def test_a_deadline_too_close_is_not_begun(serve: Any, connect: Any, echo: Any) -> None:
    called: list[str] = []
    client = connect(await serve(echo.Echo(called.append)))
    await client.call("Unary", echo.Request())  # the connection is there: what follows is no slow handshake
    called.clear()
    error, _ = await failure(client.call("Unary", echo.Request(), timeout=0.05))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert called == []


async def test_the_server_ends_a_call_without_a_deadline(
    serve: Any, connect: Any, echo: Any, settings: ServiceSettings
) -> None:
    hasty = settings.model_copy(update={"grpc_max_call_seconds": 0.05})
    client = connect(await serve(echo.Echo(lambda text: asyncio.Event().wait()), using=hasty))
    error, parsed = await failure(client.call("Unary", echo.Request(), timeout=None))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert parsed.reason == ErrorReason.ERROR_REASON_DEADLINE_TOO_SHORT


@ALL_KINDS
async def test_a_caller_that_leaves_cancels_the_handler(serve: Any, connect: Any, echo: Any, kind: str) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def act(text: str) -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return text

    metrics = Metrics()
    client = connect(await serve(echo.Echo(act), metrics=metrics))
    call = asyncio.create_task(client.call(kind, echo.Request(text="x")))
    await began.wait()
    call.cancel()
    async with asyncio.timeout(5):
        await cancelled.wait()


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (asyncpg.ConnectionDoesNotExistError("gone"), "UNAVAILABLE", "DATABASE_UNAVAILABLE"),
        (asyncpg.CannotConnectNowError("starting"), "UNAVAILABLE", "DATABASE_UNAVAILABLE"),
        (asyncpg.DeadlockDetectedError("deadlock"), "ABORTED", "CONFLICT"),
        (asyncpg.UniqueViolationError("dup"), "INTERNAL", "INTERNAL"),
        (ConnectionResetError("some other connection"), "INTERNAL", "INTERNAL"),
        (TimeoutError(), "INTERNAL", "INTERNAL"),
        (invalid("a.b", "no"), "INVALID_ARGUMENT", "INVALID_FIELD"),
        (TocsinError(ErrorReason.ERROR_REASON_OVERLOADED, "full"), "RESOURCE_EXHAUSTED", "OVERLOADED"),
    ],
)
async def test_what_a_handler_raises_becomes(
    serve: Any, connect: Any, echo: Any, error: Exception, code: str, reason: str
) -> None:
    def act(text: str) -> str:
        raise error

    client = connect(await serve(echo.Echo(act)))
    status, parsed = await failure(client.call("Unary", echo.Request()))
    assert (status.code().name, parsed.reason_name) == (code, reason)


async def test_a_failing_service_below_is_no_answer_of_ours(serve: Any, connect: Any, echo: Any) -> None:
    def refuse(text: str) -> str:
        raise (
            invalid("their.field", "no")
            if text == "bad"
            else TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "theirs is away")
        )

    below = connect(await serve(echo.Echo(refuse)))

    async def ask(text: str) -> str:
        return str(await below.call("Unary", echo.Request(text=text)))

    client = connect(await serve(echo.Echo(ask)))
    _, parsed = await failure(client.call("Unary", echo.Request(text="bad")))
    assert parsed.reason == ErrorReason.ERROR_REASON_INTERNAL
    _, parsed = await failure(client.call("Unary", echo.Request(text="x")))
    assert parsed.reason == ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE


@ALL_KINDS
async def test_an_oversized_message_is_refused_with_the_limit(serve: Any, connect: Any, echo: Any, kind: str) -> None:
    client = connect(await serve(echo.Echo()))
    error, parsed = await failure(client.call(kind, b"\x0a" * (3 << 19)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert parsed.reason == ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE
    assert parsed.metadata == {"limit_bytes": str(1 << 20)}


async def test_a_hopelessly_large_message_is_not_even_read(serve: Any, connect: Any, echo: Any) -> None:
    client = connect(await serve(echo.Echo()))
    error, parsed = await failure(client.call("Unary", b"\x0a" * (20 << 20)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert parsed.reason == ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE


async def test_failures_of_one_caller_are_told_up_to_a_rate_and_those_of_others_still(
    serve: Any, connect: Any, echo: Any, settings: ServiceSettings
) -> None:
    """A stranger caused a line of the log with each call: 40 GB a day from one connection."""
    server = await serve(echo.Echo())
    server._pipeline.lines._buckets = Buckets(1e-6, 3)
    other = mint(settings.signing_keys, org_id="b", subject="users/b", scopes={"echo:use"}, ttl=60)
    for using, code in (("", "UNAUTHENTICATED"), (other, "INVALID_ARGUMENT")):
        with structlog.testing.capture_logs() as lines:
            for _ in range(8):
                await failure(connect(server, using=using).call("Unary", echo.Request(text="x" * 11)))
        assert [line["code"] for line in lines if line["event"] == "rpc"] == [code] * 3
