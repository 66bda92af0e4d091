"""A cluster whose databases are migrated already, made once for many installations and copied for each."""

import asyncio
import fcntl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tocsin_stack.plan import StackSettings
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch
from tocsin_stack.service import SERVICES
from tocsin_stack.stack import Stack

_STACK: Final = "stack"


class Prepared:
    """The copy costs a tenth of a second, where initdb and three migrations cost several seconds of processor time.

    `folder` is shared by every process of one run of tests; the first process fills it, and the others wait.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def copy_to(self, data_dir: Path) -> None:
        """Put a stopped cluster where a `Stack` with this data folder finds it."""
        await asyncio.to_thread(self.make_once)
        await asyncio.to_thread(_copy, self._folder / _STACK / "postgres", data_dir / "postgres")

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Postgres]:
        """A running server with the databases `tocsin_ingest`, `tocsin_escalation` and `tocsin_notify` to clone."""
        with scratch() as folder:
            await self.copy_to(folder)
            # A database of each test is gone before autovacuum would come by; it costs a process for each all the same.
            server = Postgres(folder / "postgres", fsync=False, settings={"autovacuum": "off"})
            await server.start()
            try:
                for service in SERVICES:
                    await server.warm(f"tocsin_{service.name}")
                yield server
            finally:
                await server.stop()

    def make_once(self) -> None:
        """Fill the folder, or wait for the process that does. Blocks for seconds.

        Raises:
            StackError: a server did not start, or a migration failed.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = self._folder / "done"
            if not done.exists():
                asyncio.run(_make(self._folder / _STACK))
                done.touch()


async def _make(data_dir: Path) -> None:
    stack = Stack(StackSettings(data_dir=data_dir, fsync=False))
    try:
        await stack.provision(serving=False)
        await stack.migrate()
    finally:
        await stack.stop()


def _copy(cluster: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True, mode=0o711)  # PostgreSQL's account must pass through
    # Not shutil.copytree: it keeps no owners, and PostgreSQL may run as another account.
    subprocess.run(["cp", "-a", str(cluster), str(to)], check=True)
