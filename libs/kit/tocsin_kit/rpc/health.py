"""Health of the process: the checks, their meaning, and the standard gRPC service that reports it.

A critical check that fails makes every service NOT_SERVING: clients and load balancers use other replicas. A failed check that is
not critical is only shown (degraded): the truth is in PostgreSQL, so a lost Redis stops no call.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.metrics import Metrics

_log = get_logger(__name__)
_INTERVAL: Final = 1.0
_TIMEOUT: Final = 2.0
_Status = health_pb2.HealthCheckResponse


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One dependency of the process. `check` raises when it is not available; at most 2 s."""

    name: str
    check: Callable[[], Awaitable[object]]
    critical: bool = True


class Health:
    """Runs the checks every second and answers health calls. NOT_SERVING until every critical check passed once."""

    def __init__(self, checks: Iterable[HealthCheck] = (), metrics: Metrics | None = None) -> None:
        self._checks = list(checks)
        self._metrics = metrics
        self._failures: dict[str, str] = {}
        self._seen: set[str] = set()
        self._stopping = False
        self._serving = False
        self._changed = asyncio.Event()

    def add(self, check: HealthCheck) -> None:
        """One more check; before it passed once the process is not ready."""
        self._checks.append(check)

    @property
    def serving(self) -> bool:
        """Whether calls should be sent here."""
        return self._serving and not self._stopping

    @property
    def stopping(self) -> bool:
        """Whether `shut_down` was called."""
        return self._stopping

    def report(self) -> dict[str, str]:
        """Each check's name with `ok`, `unchecked` or its failure."""
        return {
            check.name: self._failures.get(check.name) or ("ok" if check.name in self._seen else "unchecked")
            for check in self._checks
        }

    async def changed(self) -> None:
        """Return when `serving` has changed."""
        await self._changed.wait()

    def shut_down(self) -> None:
        """NOT_SERVING from now on, even if all checks pass."""
        self._stopping = True
        self._notify()

    async def check_once(self) -> None:
        """Run every check, all at once."""
        await asyncio.gather(*(self._run(check) for check in self._checks))
        serving = all(
            check.name in self._seen and check.name not in self._failures for check in self._checks if check.critical
        )
        if serving != self._serving:
            self._serving = serving
            _log.info("health_changed", serving=serving, failing=sorted(self._failures))
            self._notify()

    async def run(self, stop: asyncio.Event) -> None:
        """Check until stopped; often while something is wrong, so that recovery shows at once."""
        while not stop.is_set():
            await self.check_once()
            pause = _INTERVAL if self._serving else _INTERVAL / 5
            try:
                async with asyncio.timeout(pause * random.uniform(0.9, 1.1)):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _run(self, check: HealthCheck) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await check.check()
        except Exception as error:
            # A check may fail with any exception of its dependency; each is a failed check and nothing else.
            text = error.message if isinstance(error, TocsinError) else f"{type(error).__name__}: {error}"
            if check.name not in self._failures:
                _log.warning("health_check_failed", check=check.name, critical=check.critical, error=text)
            self._failures[check.name] = text
        else:
            if self._failures.pop(check.name, None) is not None:
                _log.info("health_check_recovered", check=check.name)
            self._seen.add(check.name)
        if self._metrics is not None:
            self._metrics.healthy.labels(check.name).set(0 if check.name in self._failures else 1)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class HealthServicer(health_pb2_grpc.HealthServicer):
    """grpc.health.v1: the entry "" and one per service. A watch ends at shutdown instead of outliving the server."""

    def __init__(self, health: Health, services: Iterable[str]) -> None:
        self._health = health
        self._services = {"", *services}

    async def Check(self, request: Any, context: Any) -> Any:
        """The state now; NOT_FOUND for a service this server does not have."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service} here")
        return _Status(status=_Status.SERVING if self._health.serving else _Status.NOT_SERVING)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The state now and each time it changes."""
        last_sent: int | None = None
        while True:
            changed = asyncio.ensure_future(self._health.changed())
            try:
                if request.service not in self._services:
                    state: int = _Status.SERVICE_UNKNOWN
                else:
                    state = _Status.SERVING if self._health.serving else _Status.NOT_SERVING
                if state != last_sent:
                    last_sent = state
                    yield _Status(status=state)
                if self._health.stopping:
                    return
                await changed
            finally:
                changed.cancel()
