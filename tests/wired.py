"""A service as its own wiring makes it from variables of the environment, with none of its loops and servers running.

So a test can run one round of a loop, and see what a setting changes in it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import pytest
from tocsin_kit import lifecycle, loops
from tocsin_kit.lifecycle import Build, Runtime, Service
from tocsin_kit.loops import Sweep
from tocsin_kit.settings import ServiceSettings, read
from tocsin_testkit import busy

S = TypeVar("S", bound=ServiceSettings)

KEYS = "k1:" + "Ab3dEf6hIj9lMn" * 3 + "A"
NOWHERE = "127.0.0.1:1"


@contextlib.asynccontextmanager
async def wired(
    name: str, settings_type: type[S], build: Build[S], database_url: str, **environment: str
) -> AsyncIterator[Runtime[S]]:
    """What `tocsin_kit.lifecycle.serve` makes, up to the moment at which it would start to listen."""
    built: asyncio.Future[Runtime[S]] = asyncio.get_running_loop().create_future()

    async def hold(runtime: Runtime[S]) -> Service:
        service = await build(runtime)
        built.set_result(runtime)
        try:
            await asyncio.Event().wait()
        finally:
            for close in service.close:
                await close()
        return service

    variables = {
        f"{name.upper()}_DATABASE_URL": database_url,
        "AUTH_SIGNING_KEYS": KEYS,
        "REDIS_URL": f"redis://{NOWHERE}/0",
        "INGEST_TARGET": NOWHERE,
        "ESCALATION_TARGET": NOWHERE,
        "NOTIFY_TARGET": NOWHERE,
        **environment,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifecycle, "_install_signals", lambda told: None)  # they are the test run's own
        for variable, value in variables.items():
            patch.setenv(variable, value)
        serving = asyncio.ensure_future(lifecycle.serve(name, read(settings_type), hold))
        either: list[asyncio.Future[Any]] = [serving, built]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        try:
            if serving.done():
                serving.result()
            runtime = await built
            assert await runtime.database.connected(busy.within(20))
            yield runtime
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


def loop_of(runtime: Runtime[Any], name: str) -> Any:
    """What the service added under this name."""
    [run] = [each.run for each in runtime.loops._loops if each.name == name]
    return run


async def one_round(runtime: Runtime[Any], name: str) -> None:
    """The work of a sweep, once."""
    sweep = loop_of(runtime, name)
    assert isinstance(sweep, Sweep)
    await sweep._work()


async def rest_after_a_round(runtime: Runtime[Any], name: str) -> float:
    """How many seconds a sweep would wait for its second round. The first one does nothing."""
    stop, sweep = asyncio.Event(), loop_of(runtime, name)
    rests: list[float | None] = []

    async def nothing() -> None:
        pass

    async def wait(_waiter: loops.Waiter, seconds: float | None = None) -> bool:
        rests.append(seconds)
        stop.set()
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops.Waiter, "wait", wait)
        patch.setattr(sweep, "_work", nothing)
        await sweep(stop)
    [rest] = rests
    assert rest is not None
    return rest
