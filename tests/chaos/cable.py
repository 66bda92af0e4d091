"""The network between one replica and PostgreSQL, as a process: `python -m tests.chaos.cable PORT TARGET_PORT`.

Stopped (SIGSTOP), it is a network that carries nothing and reports nothing: connections stay open, and new ones are not answered.
Killed, it resets every connection.
"""

import asyncio
import contextlib
import sys

HOST = "127.0.0.1"


async def main(port: int, target: int) -> None:
    """Carry bytes both ways until the process is killed."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(HOST, target)
        ways = [asyncio.create_task(_pump(*way)) for way in ((reader, there_writer), (there_reader, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, there_writer):
            end.close()
        await asyncio.gather(*ways, return_exceptions=True)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await carry(reader, writer)
        except OSError:  # PostgreSQL is not there: the caller is told so by a connection that ends
            writer.close()

    server = await asyncio.start_server(connected, HOST, port, backlog=1000)
    await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
