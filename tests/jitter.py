"""Random delays where the order of things differs from machine to machine: finds tests, and code, that only a fast machine passes.

    make test-jitter T=tests/store                               # every shape that delays a step, mixed
    make test-jitter T=tests/store/kit JITTER=rare JITTER_SEED=7 # one shape; the seed of a run is shown in its first line

Off unless the environment has `JITTER`: one or more shapes, joined by commas, of which each test runs with one.

- `short`: up to 20 ms at every place.
- `rare`: 0.3 to 1.2 s at one place of a hundred.
- `loops`: up to 0.3 s before each round and each statement of a service's loops: everything else is faster than they.
- `test`: up to 0.3 s after each wait of the test itself: the product is further than the test believes.
- `sockets`: what sockets have received is seen in another order, and by some up to 20 ms later.
- `stalls`: the whole process stands still for up to 0.2 s, as one does that has lost the processor.
- `none`: nothing, for a comparison.

The places are before and after each statement of the kit's pool and each HTTP request that is served here (by the product as by
stand-ins), before each RPC's handler, each message that a stand-in keeps and each round of a sweep; and where the test goes on:
after `until`, after its own statements, after the answer to its RPC. Services that are forks (`tests.preloaded`) are delayed, too,
other programs are not. No shape delays for as long as a test's deadline: who waits for what he means does not fail.

A test draws from the seed and its own name, so that the same test draws the same again, independent of the tests before it. What
the draws meet still depends on the machine: run a failure several times. `JITTER_ONE_OF=50` makes each place delay once in so
many times.
"""

import asyncio
import contextvars
import functools
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import asyncpg
import grpc.aio._call
import pytest
from aiohttp.web_protocol import RequestHandler
from tocsin_kit.db.type_lookups import Session
from tocsin_kit.loops import Loops, Sweep
from tocsin_kit.rpc.pipeline import _Method
from tocsin_testkit import busy
from tocsin_testkit.inbox import Inbox

SHAPES: Final = tuple(filter(None, os.environ.get("JITTER", "").split(",")))
_KNOWN: Final = ("short", "rare", "loops", "test", "sockets", "stalls", "none")
_SEED: Final = os.environ.setdefault(
    "JITTER_SEED", str(random.SystemRandom().randrange(1_000_000))
)  # as workers and forks have it

_SHORT: Final = 0.02
_LONG: Final = (0.3, 1.2)
_SLOW: Final = 0.3
_STALL: Final = 0.2
"""Seconds."""
_RARE: Final = 100
_OFTEN: Final = 3
_STALLS: Final = 1000
_HELD: Final = 20
"""One time of so many."""

_ROOT: Final = Path(__file__).parents[1]
_OF_TESTS: Final = (str(_ROOT / "tests"), str(_ROOT / "libs/testkit"))
_OF_PRODUCT: Final = (str(_ROOT / "services"), str(_ROOT / "libs"))
_in_loop: Final = contextvars.ContextVar("in_loop", default=False)
_draw: Final = random.Random(_SEED)
_now: dict[str, str] = {"shape": SHAPES[0] if SHAPES else "none"}


def install() -> None:
    """Put the delays in place in this process. Does nothing without `JITTER`."""
    if not SHAPES:
        return
    if unknown := set(SHAPES) - set(_KNOWN):
        raise ValueError(f"JITTER: {', '.join(sorted(unknown))} is none of {', '.join(_KNOWN)}")
    for name in ("execute", "executemany", "fetch", "fetchrow", "fetchval"):
        _replace(Session, name, _around(getattr(asyncpg.Connection, name)))
        _replace(asyncpg.Connection, name, _after(getattr(asyncpg.Connection, name)))
    for owner, name in ((_Method, "_begin"), (Inbox, "put")):
        _replace(owner, name, _before(getattr(owner, name)))
    _replace(RequestHandler, "_handle_request", _around(RequestHandler._handle_request))
    # `until` is imported by its name in many places: what it calls is replaced.
    _replace(busy, "asyncio", _Reacting())
    _delay_loops()
    _delay_answers()
    _delay_sockets()


def pytest_report_header() -> str | None:
    """What a run is to be repeated with."""
    return f"jitter: JITTER={','.join(SHAPES)} JITTER_SEED={_SEED}" if SHAPES else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Draw anew, and which shape this test has."""
    _draw.seed(f"{_SEED} {item.nodeid}")
    _now["shape"] = _draw.choice(SHAPES)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Say which shape a failed test had."""
    report = yield
    report.sections.append(("jitter", f"JITTER={_now['shape']} JITTER_SEED={_SEED}"))
    return report


def _replace(owner: object, name: str, function: object) -> None:
    setattr(owner, name, function)


def _seconds(side: Callable[[], str]) -> float:
    """How long to wait here. `side` is asked only where it matters: `test`, `product` or `loop`."""
    match _now["shape"]:
        case "short":
            return _SHORT * _draw.random() ** 2
        case "rare":
            return _draw.uniform(*_LONG) if _one_of(_RARE) else 0.0
        case "loops" if side() == "loop":
            return _draw.uniform(0, _SLOW) if _one_of(_OFTEN) else 0.0
        case "test" if side() == "test":
            return _draw.uniform(0, _SLOW) if _one_of(_OFTEN) else 0.0
        case _:
            return 0.0


def _one_of(times: int) -> bool:
    return _draw.random() * int(os.environ.get("JITTER_ONE_OF", times)) < 1


def _side() -> str:
    """Who waits: a service's loop, or else the nearest caller that is of the tests or of the product."""
    if _in_loop.get():
        return "loop"
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name != __file__ and name.startswith(_OF_TESTS):
            return "test"
        if name.startswith(_OF_PRODUCT):
            return "product"
        frame = frame.f_back
    return "product"


async def _wait(side: Callable[[], str] = _side) -> None:
    if seconds := _seconds(side):
        await asyncio.sleep(seconds)


def _before(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    async def delayed(*args: Any, **options: Any) -> Any:
        await _wait()
        return await function(*args, **options)

    return delayed


def _around(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    before = _before(function)

    @functools.wraps(function)
    async def delayed(*args: Any, **options: Any) -> Any:
        answer = await before(*args, **options)
        await _wait()
        return answer

    return delayed


def _after(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    async def delayed(*args: Any, **options: Any) -> Any:
        answer = await function(*args, **options)
        await _wait()
        return answer

    return delayed


class _Reacting:
    """`asyncio` as `busy` sees it: the block in which `until` waits ends later than its condition comes true."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def timeout(self, seconds: float) -> "_Late":
        return _Late(seconds)


class _Late:
    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._timeout.__aexit__(*error)
        await _wait(lambda: "test")


def _delay_loops() -> None:
    supervise = Loops._supervise

    async def supervised(*args: Any) -> None:
        _in_loop.set(True)  # and so it is for each task that the loop makes
        await supervise(*args)

    _replace(Loops, "_supervise", supervised)
    # Its work stays what it is: tests look at whose it is.
    _replace(Sweep, "_rest", _after(Sweep._rest))


def _delay_answers() -> None:
    mixin: Any = grpc.aio._call._UnaryResponseMixin
    answered = mixin.__await__

    def late(self: Any) -> Generator[Any, None, Any]:
        answer = yield from answered(self)
        yield from _wait().__await__()
        return answer

    _replace(mixin, "__await__", late)


def _delay_sockets() -> None:
    """Also the stalls: both happen where the event loop has just looked at its sockets."""
    loop: Any = asyncio.selector_events.BaseSelectorEventLoop
    seen = loop._process_events
    held: dict[int, float] = {}

    def see(self: Any, events: list[Any]) -> None:
        match _now["shape"]:
            case "stalls" if _one_of(_STALLS):
                time.sleep(_draw.uniform(0, _STALL))
            case "sockets" if events:
                events = _later(events, held)
        seen(self, events)

    _replace(loop, "_process_events", see)


def _later(events: list[Any], held: dict[int, float]) -> list[Any]:
    """In another order, without those that are held back: the selector tells of them again."""
    now = time.monotonic()
    ready = []
    for event in events:
        until = held.get(event[0].fd, 0.0)
        if until and until <= now:
            del held[event[0].fd]
        elif until or _one_of(_HELD):
            held.setdefault(event[0].fd, now + _draw.uniform(0, _SHORT))
            continue
        ready.append(event)
    if not ready:
        time.sleep(0.001)  # otherwise the loop would ask the selector without a pause
    _draw.shuffle(ready)
    return ready
