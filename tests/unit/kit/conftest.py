"""A small service of every kind of call, served for real, so that the pipeline is tested as clients meet it."""

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Final

import grpc
import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tocsin.type.v1 import access_pb2
from tocsin_kit.auth import JwtAuthenticator, mint
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.server import RpcServer
from tocsin_kit.settings import ServiceSettings

SERVICE = "kittest.v1.EchoService"
KINDS = {
    "Unary": (False, False),
    "ServerStream": (False, True),
    "ClientStream": (True, False),
    "BidiStream": (True, True),
}


def _describe() -> None:
    file = descriptor_pb2.FileDescriptorProto(
        name="kittest/v1/echo.proto", package="kittest.v1", syntax="proto3", dependency=["buf/validate/validate.proto"]
    )
    file.dependency.append("tocsin/type/v1/access.proto")
    color = file.enum_type.add(name="Color")
    color.value.add(name="COLOR_UNSPECIFIED", number=0)
    color.value.add(name="COLOR_RED", number=1)
    field = descriptor_pb2.FieldDescriptorProto
    item = file.message_type.add(name="Item")
    name = item.field.add(name="name", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    name.options.Extensions[validate_pb2.field].string.min_len = 1
    echo = file.message_type.add(name="EchoRequest")
    text = echo.field.add(name="text", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    text.options.Extensions[validate_pb2.field].string.max_len = 10
    shade = echo.field.add(
        name="color", number=2, type=field.TYPE_ENUM, label=field.LABEL_OPTIONAL, type_name=".kittest.v1.Color"
    )
    shade.options.Extensions[validate_pb2.field].enum.defined_only = True
    echo.field.add(
        name="items", number=3, type=field.TYPE_MESSAGE, label=field.LABEL_REPEATED, type_name=".kittest.v1.Item"
    )
    echo.field.add(name="page_size", number=4, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    echo.field.add(name="page_token", number=5, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    echo.field.add(
        name="item", number=6, type=field.TYPE_MESSAGE, label=field.LABEL_OPTIONAL, type_name=".kittest.v1.Item"
    )
    answer = file.message_type.add(name="EchoResponse")
    answer.field.add(name="text", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    many = file.message_type.add(name="ListResponse")
    many.field.add(
        name="items", number=1, type=field.TYPE_MESSAGE, label=field.LABEL_REPEATED, type_name=".kittest.v1.Item"
    )
    lists = file.service.add(name="ListService")
    listing = lists.method.add(
        name="List", input_type=".kittest.v1.EchoRequest", output_type=".kittest.v1.ListResponse"
    )
    listing.options.Extensions[access_pb2.scope] = "echo:read"
    for service_name, methods in (("EchoService", KINDS), ("OpenService", {"Unary": (False, False)})):
        service = file.service.add(name=service_name)
        for method_name, (incoming, outgoing) in methods.items():
            method = service.method.add(
                name=method_name,
                input_type=".kittest.v1.EchoRequest",
                output_type=".kittest.v1.EchoResponse",
                client_streaming=incoming,
                server_streaming=outgoing,
            )
            if service_name == "EchoService":
                method.options.Extensions[access_pb2.scope] = "echo:use"
    descriptor_pool.Default().Add(file)


_describe()
_pool = descriptor_pool.Default()
Request: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("kittest.v1.EchoRequest"))
Response: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("kittest.v1.EchoResponse"))
ListResponse: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("kittest.v1.ListResponse"))


def add_to_server(servicer: Any, server: Any, service: str = SERVICE) -> None:
    """What protoc would have generated."""
    handlers = {}
    for name in [method.name for method in _pool.FindServiceByName(service).methods]:
        incoming, outgoing = KINDS[name]
        kind = f"{'stream' if incoming else 'unary'}_{'stream' if outgoing else 'unary'}_rpc_method_handler"
        handlers[name] = getattr(grpc, kind)(
            getattr(servicer, name),
            request_deserializer=Request.FromString,
            response_serializer=Response.SerializeToString,
        )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)


class Echo:
    """Answers with what `act` makes of the text; `act` may raise."""

    def __init__(self, act: Callable[[str], Any] = lambda text: text) -> None:
        self.act = act

    async def Unary(self, request: Any, context: Any) -> Any:
        return Response(text=await self._act(request.text))

    async def ServerStream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for letter in request.text or "-":
            yield Response(text=await self._act(letter))

    async def ClientStream(self, requests: Any, context: Any) -> Any:
        return Response(text="".join([await self._act(request.text) async for request in requests]))

    async def BidiStream(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield Response(text=await self._act(request.text))

    async def _act(self, text: str) -> str:
        outcome = self.act(text)
        return str(await outcome if hasattr(outcome, "__await__") else outcome)


# Where a server ends a call before it has read the request, grpc.aio may fail to write the request first. It then says INTERNAL
# with these words (`set_internal_error` in grpc/aio/_call.py), and what the server said is lost. Such a call is made again.
_WRITE_FAILED: Final = "Internal error from Core"
_LOST: Final = 5


class Client:
    """Calls of every kind, by name."""

    def __init__(self, channel: grpc.aio.Channel, token: str = "") -> None:
        self.channel = channel
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()

    async def call(self, kind: str, *messages: Any, timeout: float | None = 30.0, metadata: Any = None) -> list[str]:
        """The answers' texts."""
        incoming, outgoing = KINDS[kind]
        shape = f"{'stream' if incoming else 'unary'}_{'stream' if outgoing else 'unary'}"
        invoke = getattr(self.channel, shape)(
            f"/{SERVICE}/{kind}",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=Response.FromString,
        )
        request = list(messages) if incoming else messages[0]
        for _ in range(_LOST):
            call = invoke(request, timeout=timeout, metadata=self.metadata if metadata is None else metadata)
            try:
                return [answer.text async for answer in call] if outgoing else [(await call).text]
            except grpc.aio.AioRpcError as error:
                if not (incoming and (error.details() or "").startswith(_WRITE_FAILED)):
                    raise
        raise AssertionError(f"the status of {kind} was lost {_LOST} times")


@pytest.fixture(scope="session")
def echo() -> Any:
    """The names of this module, for tests."""
    return SimpleNamespace(
        SERVICE=SERVICE,
        KINDS=tuple(KINDS),
        Request=Request,
        Response=Response,
        Echo=Echo,
        Client=Client,
        add_to_server=add_to_server,
    )


@pytest.fixture
def settings() -> ServiceSettings:
    return ServiceSettings.model_validate(
        {"database_url": "postgresql://unused", "auth_signing_keys": "k1:" + "Ab3dEf6hIj9lMn" * 3 + "A"}
    )


@pytest.fixture
def token(settings: ServiceSettings) -> str:
    return mint(settings.signing_keys, org_id="acme", subject="users/ana", scopes={"echo:use"}, ttl=600)


@pytest.fixture
async def serve(settings: ServiceSettings) -> AsyncIterator[Any]:
    """Serves a servicer and returns the server; stopped after the test."""
    servers: list[RpcServer] = []

    async def start(servicer: Any, *, using: ServiceSettings | None = None, **options: Any) -> RpcServer:
        chosen = using or settings
        options = {"authenticators": [JwtAuthenticator(chosen.signing_keys)], "metrics": Metrics(), **options}
        server = RpcServer(chosen, **options)
        server.add(servicer, add_to_server)
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop(0)


@pytest.fixture
async def connect(token: str) -> AsyncIterator[Any]:
    """A client of a server, with a good token; closed after the test."""
    channels: list[grpc.aio.Channel] = []

    def open_client(server: RpcServer, *, using: str | None = None) -> Client:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        channels.append(channel)
        return Client(channel, token if using is None else using)

    yield open_client
    for channel in channels:
        await channel.close()
