"""A network for each replica of a fleet on its way to PostgreSQL, which can be cut without touching either end."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from tocsin_stack.output import Output
from tocsin_stack.ports import HOST, free_port
from tocsin_stack.process import Child
from tocsin_stack.service import ServiceProcess

from tests.chaos.fleet import Fleet

URLS = ("DATABASE_URL", "TENANT_DATABASE_URL")


class Cables:
    """One cable for each replica, named by it."""

    def __init__(self, cables: dict[str, Child]) -> None:
        self._cables = cables

    @asynccontextmanager
    async def cut(self, replicas: Iterable[ServiceProcess]) -> AsyncIterator[None]:
        """Nothing is carried and nothing is reported; afterwards the data that were sent meanwhile arrive."""
        cables = [self._cables[replica.name] for replica in replicas]
        for cable in cables:
            cable.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for cable in cables:
                cable.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def broken(self, replicas: Iterable[ServiceProcess]) -> AsyncIterator[None]:
        """Every connection is reset, and new ones are refused; afterwards new ones are taken."""
        cables = [self._cables[replica.name] for replica in replicas]
        for cable in cables:
            cable.kill()
        try:
            yield
        finally:
            for cable in cables:
                cable.start()


@asynccontextmanager
async def laid(fleet: Fleet) -> AsyncIterator[Cables]:
    """The fleet is restarted behind its cables."""
    cables = {}
    for replica in fleet.replicas():
        port, target = free_port(), fleet.postgres.port
        program = (sys.executable, "-m", "tests.chaos.cable", f"{port}", f"{target}")
        cable = cables[replica.name] = Child(program, Output(f"cable-{replica.name}", fleet.stack.log_dir))
        cable.start()
        service = replica.name.partition("-")[0].upper()
        for url in URLS:
            name = f"{service}_{url}"
            replica.env[name] = replica.env[name].replace(f"{HOST}:{target}", f"{HOST}:{port}")
            assert f":{port}/" in replica.env[name], f"{name} does not name PostgreSQL's address"
    await asyncio.gather(*(replica.restart() for replica in fleet.replicas()))
    try:
        yield Cables(cables)
    finally:
        for cable in cables.values():
            cable.kill()
