"""A service whose name cannot be resolved for a while, as when all is started at once, is found soon after it can be."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import pytest
from tocsin_kit.auth import JwtAuthenticator, Principal, TokenSource
from tocsin_kit.rpc import client as client_module
from tocsin_kit.rpc.client import channel
from tocsin_kit.settings import ServiceSettings
from tocsin_testkit.busy import until

QUESTIONS: Final = 150
"""gRPC by itself asks some fifty in the first minute, and then ever fewer."""


class NameServer(asyncio.DatagramProtocol):
    """Knows every name, once it is `ready`: until then it says that it fails (RFC 1035 section 4.1.1)."""

    def __init__(self) -> None:
        self.ready = False
        self.questions = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport
        self.port: int = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.questions += 1
        end = data.index(b"\0", 12) + 1
        (kind,) = struct.unpack(">H", data[end : end + 2])
        found = self.ready and kind == 1
        answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + bytes((127, 0, 0, 1)) if found else b""
        flags = 0x8180 if self.ready else 0x8182
        self.transport.sendto(
            data[:2] + struct.pack(">5H", flags, 1, found, 0, 0) + data[12 : end + 4] + answer, address
        )


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(NameServer, ("127.0.0.1", 0))
    yield server
    transport.close()


class Grant(JwtAuthenticator):
    async def authenticate(self, token: str) -> Principal | None:
        principal = await super().authenticate(token)
        return principal and Principal(principal.org_id, principal.subject, principal.scopes | {"echo:use"})


async def test_a_name_is_looked_up_again_and_again(
    serve: Any, echo: Any, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_LOOK_EVERY", 0.0)
    monkeypatch.setattr(client_module, "_RESOLVE_EVERY", 0.0)
    server = await serve(echo.Echo(), authenticators=[Grant(settings.signing_keys)])
    await server.health.check_once()
    tokens = TokenSource(settings.signing_keys, "tester")
    async with name_server() as names:
        target = f"dns://127.0.0.1:{names.port}/escalation.test:{server.port}"
        async with channel(target, service_name="echo", tokens=tokens) as below:
            client = echo.Client(below)

            async def answered() -> bool:
                try:
                    return bool(await client.call("Unary", echo.Request(text="hi"), timeout=5) == ["hi"])
                except grpc.aio.AioRpcError:
                    return False

            async def asked() -> bool:
                assert not await answered()
                return names.questions >= QUESTIONS

            await until(asked)
            names.ready = True
            await until(answered)
