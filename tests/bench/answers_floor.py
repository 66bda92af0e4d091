"""An HTTP server that does nothing but commit: what an answer costs anyhow, on the same machine and the same PostgreSQL.

`python -m tests.bench.answers_floor URL` prints its port. POST /N makes N transactions in that database, one after the other, each
of one new row.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import asyncpg
import uvloop
from aiohttp import web

_ROOT: Final = Path(__file__).parents[2]
_TABLE: Final = "CREATE TABLE IF NOT EXISTS bench_floor (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text)"


@asynccontextmanager
async def committing(url: str) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Inside the block: one request to it, with so many commits."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.answers_floor", url), cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        port = int(await child.stdout.readline())
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

            async def ask(commits: int) -> None:
                async with session.post(f"/{commits}", data={"action": "acknowledge"}) as answer:
                    assert answer.status == 200
                    await answer.read()

            yield ask
    finally:
        child.kill()
        await child.wait()


async def main(url: str) -> None:
    """Until killed."""
    connection = await asyncpg.connect(url)
    await connection.execute(_TABLE)

    async def commit(request: web.Request) -> web.Response:
        await request.read()
        for _ in range(int(request.match_info["commits"])):
            await connection.execute("INSERT INTO bench_floor (text) VALUES ($1)", "x" * 500)
        return web.Response()

    application = web.Application()
    application.add_routes([web.post("/{commits}", commit)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
