"""Calls that may be made twice reach a replica that lives, whichever replicas are stopped, and beside other callers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from tocsin_kit.auth import JwtAuthenticator, Principal, TokenSource
from tocsin_kit.rpc.client import RETRY_POLICY, channel
from tocsin_kit.rpc.hedge import hedged, silence_of
from tocsin_kit.settings import ServiceSettings
from tocsin_testkit.busy import until

REPLICAS = 5
SECONDS = 8.0
"""The deadline of a call: three calls with 0.7 s between them are made within it, on a slow machine as well."""


class Road:
    """The way to one replica. While it is closed, what has been sent and who connects is left lying, as with SIGSTOP."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = asyncio.Event()
        self._open.set()
        self._carried: set[asyncio.Task[object]] = set()

    async def __aenter__(self) -> "Road":
        # The server keeps a handler that is a coroutine function to itself.
        self._server = await asyncio.start_server(lambda *ends: self._connected(*ends), "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for each in self._carried:
            each.cancel()
        await asyncio.gather(*self._carried, return_exceptions=True)

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried = asyncio.create_task(self._carry(reader, writer))
        self._carried.add(carried)
        carried.add_done_callback(self._carried.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            await self._open.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
            ends.append(back)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back))
                both.create_task(self._pump(there, writer))
        finally:
            for end in ends:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._open.wait()
                writer.write(data)
        writer.close()


class Callers:
    """A channel to several replicas, and who of them answers."""

    def __init__(self, roads: list[Road], below: grpc.aio.Channel, echo: Any) -> None:
        self.roads = roads
        self._method = below.unary_unary(
            f"/{echo.SERVICE}/Unary",
            request_serializer=echo.Request.SerializeToString,
            response_deserializer=echo.Response.FromString,
        )
        self._request = echo.Request()

    async def insist(self) -> int:
        """The way of calls that may be made twice."""
        return int((await hedged(self._method, self._request, seconds=SECONDS)).text)

    async def reaches(self, *names: int) -> bool:
        """Whether these replicas and no others have their turns."""
        try:
            answers = [await self._method(self._request, timeout=1.0) for _ in range(2 * len(self.roads))]
        except grpc.aio.AioRpcError:
            return False
        return {int(answer.text) for answer in answers} == set(names)


@pytest.fixture
def replicas(settings: ServiceSettings, serve: Any, echo: Any) -> Callable[[int], Any]:
    class Grant(JwtAuthenticator):
        async def authenticate(self, token: str) -> Principal | None:
            principal = await super().authenticate(token)
            return principal and Principal(principal.org_id, principal.subject, principal.scopes | {"echo:use"})

    @asynccontextmanager
    async def start(number: int) -> AsyncIterator[Callers]:
        async with AsyncExitStack() as stack:
            roads = []
            for name in range(number):
                server = await serve(
                    echo.Echo(lambda text, name=name: str(name)), authenticators=[Grant(settings.signing_keys)]
                )
                await server.health.check_once()
                roads.append(await stack.enter_async_context(Road(server.port)))
            target = "ipv4:" + ",".join(f"127.0.0.1:{road.port}" for road in roads)
            tokens = TokenSource(settings.signing_keys, "tester")
            below = await stack.enter_async_context(channel(target, service_name="echo", tokens=tokens))
            callers = Callers(roads, below, echo)
            await until(lambda: callers.reaches(*range(number)))
            yield callers

    return start


async def test_the_one_that_lives_is_found_and_those_that_stand_still_are_asked_no_more(
    replicas: Callable[[int], Any],
) -> None:
    """By turns alone, three calls would not get past four that stand still."""
    async with replicas(REPLICAS) as callers:
        for road in callers.roads[1:]:
            road.close()
        assert [await callers.insist() for _ in range(2)] == [0, 0]
        await until(lambda: callers.reaches(0))


async def test_another_one_that_stands_still_later_is_left_as_well(replicas: Callable[[int], Any]) -> None:
    async with replicas(2) as callers:
        callers.roads[0].close()
        assert {await callers.insist() for _ in range(4)} == {1}
        callers.roads[0].open()
        await until(lambda: callers.reaches(0, 1))
        callers.roads[1].close()
        assert {await callers.insist() for _ in range(4)} == {0}


async def test_the_only_one_is_waited_for(replicas: Callable[[int], Any]) -> None:
    """No new connection is completed meanwhile, so the old one stays, for calls that come later too."""
    async with replicas(1) as callers:
        callers.roads[0].close()
        early = asyncio.create_task(callers.insist())
        await asyncio.wait({early}, timeout=1.5)
        late = asyncio.create_task(callers.insist())
        await asyncio.wait({late}, timeout=0.1)
        callers.roads[0].open()
        assert (await early, await late) == (0, 0)


@pytest.mark.parametrize("deadline", [1.0, 2.0, 10.0])
def test_a_call_that_is_refused_has_ended_before_it_counts_as_silent(deadline: float) -> None:
    """It was called silent after 0.7 s while gRPC tried it for 0.84 s: three calls of four tries each, over three connections."""
    first = float(RETRY_POLICY["initialBackoff"].removesuffix("s"))
    pauses = [first * RETRY_POLICY["backoffMultiplier"] ** tried for tried in range(RETRY_POLICY["maxAttempts"] - 1)]
    assert 1.2 * sum(pauses) < silence_of(deadline), "gRPC's pauses vary by a fifth"
