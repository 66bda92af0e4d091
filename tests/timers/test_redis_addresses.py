"""The other ways to a Redis: TLS, a Unix socket, another database than 0."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import RedisError
from tocsin_stack.scratch import scratch
from tocsin_stack.valkey import Valkey
from tocsin_timers import TimerBroker, TimerSource

from tests.certificates import Certificates, make_certificates
from tests.timers.conftest import MakeBroker
from tests.timers.support import filled, in_seconds, server, settled, until, working


async def test_over_tls_and_in_another_database(valkey: Valkey, make_broker: MakeBroker, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    async with tls_in_front_of(valkey, made) as port:
        secure = f"rediss://:{valkey.password}@127.0.0.1:{port}/5"
        await works(make_broker(f"{secure}?ssl_ca_certs={made.authority}"))
        nobody_vouches = make_broker(secure)
        with pytest.raises(RedisError, match="certificate verify failed"):
            await nobody_vouches.figures()


async def test_over_a_unix_socket_and_in_another_database(make_broker: MakeBroker) -> None:
    with scratch() as folder:  # a socket's path has 107 bytes at most, and a test's own folder may have more
        async with server(folder / "v", extra=("--unixsocket", str(folder / "v" / "s"))) as valkey:
            await works(make_broker(f"unix://:{valkey.password}@{folder}/v/s?db=5"))


async def works(broker: TimerBroker) -> None:
    source = TimerSource(broker)
    ran: list[str] = []

    @broker.task("note")
    async def note(what: str) -> None:
        ran.append(what)

    async with working(broker):
        assert [await filled(broker) for _ in range(2)] == [1, 0]
        await source.arm(source.timer(str(n), in_seconds(0.1), note, str(n)) for n in range(1500))
        await note.kicker().with_schedule_id("far").schedule_by_time(source, in_seconds(3600), "far")
        assert await source.delete_schedule("far")
        await note.kiq("now")
        await until(lambda: len(ran) == 1501, "all run")
        await until(lambda: settled(broker), "nothing is left")
    assert len(set(ran)) == 1501


@asynccontextmanager
async def tls_in_front_of(valkey: Valkey, made: Certificates) -> AsyncIterator[int]:
    """The port of a proxy that accepts TLS and passes the content on: the embedded server is built without TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", valkey.port)
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
