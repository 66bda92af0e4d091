"""The smallest thing that keeps the contract between the stack and a service: `migrate`, `serve`, gRPC health.

FAKE_FAIL="notify serve" makes that command fail; FAKE_STUBBORN: it ignores SIGTERM; FAKE_DEAF: it is never SERVING.
"""

import asyncio
import os
import signal
import sys

NAME = next(name.removesuffix("_GRPC_LISTEN") for name in os.environ if name.endswith("_GRPC_LISTEN"))


# What a command does not need it does not import: the tests start dozens of these.
async def migrate() -> None:
    import asyncpg

    connection = await asyncpg.connect(os.environ[f"{NAME}_DATABASE_URL"])
    await connection.execute("CREATE TABLE IF NOT EXISTS migrations_run (at timestamptz DEFAULT now())")
    await connection.execute("INSERT INTO migrations_run DEFAULT VALUES")
    await connection.close()


async def serve() -> None:
    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    stop = asyncio.Event()
    if "FAKE_STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    host, _, port = os.environ[f"{NAME}_HTTP_LISTEN"].rpartition(":")
    web = await asyncio.start_server(lambda _, writer: writer.close(), host, int(port))
    server = grpc.aio.server()
    server.add_insecure_port(os.environ[f"{NAME}_GRPC_LISTEN"])
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await server.start()
    if "FAKE_DEAF" not in os.environ:
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    print(f"{NAME} serves {os.environ['REDIS_URL'].partition(':')[0]}", flush=True)
    await stop.wait()
    print(f"{NAME} stops", flush=True)
    await server.stop(1)
    web.close()


if os.environ.get("FAKE_FAIL") == f"{NAME.lower()} {sys.argv[1]}":
    sys.exit(f"{NAME} refuses to {sys.argv[1]}")
asyncio.run({"migrate": migrate, "serve": serve}[sys.argv[1]]())
