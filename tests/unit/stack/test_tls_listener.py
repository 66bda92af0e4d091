"""TLS in front of a plain address: what a client that verifies gets through, and what is left of it afterwards."""

import asyncio
import contextlib
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tocsin_stack import certificates
from tocsin_stack.errors import StackError
from tocsin_stack.ports import HOST, free_port
from tocsin_stack.tls_listener import TlsListener


class Shouter:
    """Answers what it has read, in capitals, once the client has sent an end of line; ends when it is told an end."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.held = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.held += 1
        try:
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
                if line == b"bye\n":
                    break
        except ConnectionError:
            pass
        self.held -= 1
        self.ended.set()
        writer.close()


@contextlib.asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[tuple[TlsListener, Shouter]]:
    shouter = Shouter()
    plain = await asyncio.start_server(shouter.serve, HOST, 0)
    files = certificates.kept(folder, "localhost")
    listener = TlsListener(free_port(), files, f"{HOST}:{plain.sockets[0].getsockname()[1]}")
    await listener.start()
    try:
        yield listener, shouter
    finally:
        await listener.stop()
        plain.close()


async def connect(listener: TlsListener, host: str = HOST) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=listener.files.authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    port = int(listener.url.rpartition(":")[2])
    return await asyncio.open_connection(HOST, port, ssl=context, server_hostname=host)


@pytest.mark.parametrize("host", [HOST, "localhost"])
async def test_a_client_that_trusts_the_authority_talks_to_what_is_behind(tmp_path: Path, host: str) -> None:
    async with listening(tmp_path / "tls") as (listener, shouter):
        reader, writer = await connect(listener, host)
        large = b"a" * 300_000 + b"\n"
        for line in (b"one\n", large[-60_000:], b"bye\n"):
            writer.write(line)
            assert await reader.readline() == line.upper()
        assert await reader.read() == b"", "what is behind has ended, and the client is told"
        assert shouter.held == 0


async def test_a_client_that_leaves_is_gone_behind_as_well(tmp_path: Path) -> None:
    async with listening(tmp_path / "tls") as (listener, shouter):
        reader, writer = await connect(listener)
        writer.write(b"one\n")
        assert await reader.readline() == b"ONE\n"
        writer.transport.abort()
        await asyncio.wait_for(shouter.ended.wait(), 30)


async def test_while_nothing_is_behind_a_client_is_let_go(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind((HOST, 0))  # and does not listen: no other process can take the port meanwhile
        address = f"{HOST}:{held.getsockname()[1]}"
        listener = TlsListener(free_port(), certificates.kept(tmp_path / "tls"), address)
        await listener.start()
        try:
            reader, _ = await connect(listener)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 30) == b""
        finally:
            await listener.stop()


async def test_an_end_ends_the_connections_there_are(tmp_path: Path) -> None:
    async with listening(tmp_path / "tls") as (listener, shouter):
        reader, writer = await connect(listener)
        writer.write(b"one\n")
        assert await reader.readline() == b"ONE\n"
        await listener.stop()
        await asyncio.wait_for(shouter.ended.wait(), 30)


async def test_a_client_that_trusts_others_only_is_refused_by_itself(tmp_path: Path) -> None:
    async with listening(tmp_path / "tls") as (listener, _):
        port = int(listener.url.rpartition(":")[2])
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(HOST, port, ssl=ssl.create_default_context())


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    async with listening(tmp_path / "tls") as (listener, _):
        port = int(listener.url.rpartition(":")[2])
        with pytest.raises(StackError, match=f"cannot listen on {HOST}:{port}"):
            await TlsListener(port, listener.files, f"{HOST}:1").start()


def test_the_certificate_is_made_once_and_its_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    made = certificates.kept(tmp_path / "tls", "localhost")
    before = made.certificate.read_bytes()
    assert certificates.kept(tmp_path / "tls", "localhost") == made
    assert made.certificate.read_bytes() == before, "whoever trusts the authority goes on trusting it"
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600


@pytest.mark.parametrize("broken", ["missing", "no certificate", "of another authority", "another's key", "ends soon"])
def test_what_cannot_be_used_or_ends_soon_is_made_anew(tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "tls"
    made = certificates.kept(folder)
    now = datetime.now(UTC)
    begins, ends = now - timedelta(days=800), now + timedelta(days=20)
    other = tmp_path / "other"
    other.mkdir()
    others = certificates.make(other, (), begins=begins, ends=now + timedelta(days=400))
    match broken:
        case "missing":
            made.authority.unlink()
        case "no certificate":
            made.certificate.write_text("nothing")
        case "of another authority":
            made.authority.write_bytes(others.authority.read_bytes())
        case "another's key":
            made.key.write_bytes(others.key.read_bytes())
        case _:
            certificates.make(folder, (), begins=begins, ends=ends)
    before = made.certificate.read_bytes()
    assert certificates.kept(folder) == made
    assert made.certificate.read_bytes() != before
    ssl.create_default_context(cafile=made.authority)
    _ = made.context
