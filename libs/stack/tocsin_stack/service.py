"""One replica of one service as a child of this process."""

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tocsin_stack.errors import StackError
from tocsin_stack.output import Output, Terminal
from tocsin_stack.ports import is_taken
from tocsin_stack.process import Child


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What the stack must know about a service; its variables all begin with its name in capitals."""

    name: str
    module: str
    grpc_port: int
    http_port: int

    def variable(self, suffix: str) -> str:
        """The name of one of its environment variables."""
        return f"{self.name.upper()}_{suffix}"


SERVICES: Final = (
    ServiceSpec("ingest", "tocsin_ingest", 7101, 7201),
    ServiceSpec("escalation", "tocsin_escalation", 7102, 7202),
    ServiceSpec("notify", "tocsin_notify", 7103, 7203),
)


class ServiceProcess:
    """A replica that can be started, killed, paused and started again; addresses stay the same.

    `env` is what it is told at its next start.
    """

    def __init__(
        self,
        spec: ServiceSpec,
        replica: int,
        env: Mapping[str, str],
        *,
        log_dir: Path,
        terminal: Terminal | None = None,
        start_limit: float = 60,
    ) -> None:
        self.name = spec.name if replica == 0 else f"{spec.name}-{replica + 1}"
        self.env = dict(env)
        self.grpc_address = self.env[spec.variable("GRPC_LISTEN")]
        self.http_address = self.env[spec.variable("HTTP_LISTEN")]
        self._start_limit = start_limit
        self.process = Child(
            command(spec, "serve"), Output(self.name, log_dir, terminal), env=self.env, stop_signal=signal.SIGTERM
        )

    @property
    def http_url(self) -> str:
        """Where /metrics, /healthz and the service's own routes are."""
        return f"http://{self.http_address}"

    async def start(self) -> None:
        """Return when gRPC health says SERVING.

        Raises:
            StackError: it ended first, or is not serving in time; with its last lines.
        """
        self.process.start()
        try:
            await self.process.ready(self.is_serving, self._start_limit)
        except BaseException:
            self.process.kill()
            raise

    async def stop(self, grace: float = 20) -> int | None:
        """SIGTERM, and SIGKILL when it has not ended after `grace` seconds; returns the exit code."""
        return await self.process.stop(grace)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Stop in good order and start again, at the same addresses."""
        await self.stop()
        await self.start()

    async def is_serving(self) -> bool:
        """Whether the service as a whole answers a gRPC health check with SERVING."""
        if not is_taken(int(self.grpc_address.rpartition(":")[2])):
            return False  # no listener yet: a channel that failed once would back off before it looks again
        async with grpc.aio.insecure_channel(self.grpc_address) as channel:
            try:
                stub = health_pb2_grpc.HealthStub(channel)
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)  # type: ignore[attr-defined]
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def migrate(spec: ServiceSpec, env: Mapping[str, str], *, log_dir: Path, terminal: Terminal | None) -> None:
    """Bring one service's database to its newest schema.

    Raises:
        StackError: its `migrate` command failed; with its last lines.
    """
    child = Child(command(spec, "migrate"), Output(f"{spec.name}-migrate", log_dir, terminal), env=env)
    child.start()
    try:
        code = await child.wait()
    finally:
        child.kill()
    if code != 0:
        raise StackError(f"the migration of {spec.name} failed with {code}\n{child.output.tail()}")


def command(spec: ServiceSpec, verb: str) -> Sequence[str]:
    """How one of a service's commands is called."""
    return (sys.executable, "-m", spec.module, verb)
