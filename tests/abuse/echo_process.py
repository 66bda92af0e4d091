"""Starts `tests.abuse.echo_server` as a process of its own."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]
from tocsin_kit.settings import ServiceSettings


@contextlib.contextmanager
def echo_server(settings: ServiceSettings) -> Iterator[tuple[int, int, psutil.Process]]:
    """Ports of gRPC and of HTTP, and the process, of a server of its own."""
    given = settings.model_dump_json().replace('"**********"', f'"{settings.auth_signing_keys.get_secret_value()}"')
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.abuse.echo_server", given], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        grpc_port, http_port = map(int, process.stdout.readline().split())
        yield grpc_port, http_port, psutil.Process(process.pid)
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
