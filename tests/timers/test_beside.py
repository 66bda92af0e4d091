"""Beside other things: the stock receiver, a gRPC server in one process, both kinds of loop, signals."""

import asyncio
import json
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from taskiq.receiver import Receiver
from tocsin_stack.valkey import Valkey
from tocsin_testkit.busy import within
from tocsin_timers import TimerBroker, TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.program import declare
from tests.timers.support import (
    ROOT,
    Record,
    WorkerProcess,
    done,
    in_seconds,
    settled,
    until,
    worker_processes,
    working,
)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_sigterm_ends_a_worker_process_in_good_order(valkey: Valkey, broker: TimerBroker, loop: str) -> None:
    record = Record(valkey.url, broker.queue)
    declare(broker, None, broker.queue)
    act = broker.find_task("act")
    assert act is not None
    worker = WorkerProcess(valkey.url, valkey.url, broker.queue, uvloop=loop == "uvloop", seconds=0.3, lease=30.0)
    async with worker_processes([worker]):
        await broker.kick_many(broker.encode(act, str(n)) for n in range(5))

        async def begun() -> bool:
            return len(await record.deliveries()) == 5

        await until(begun, "the tasks begin")
        worker.send(signal.SIGTERM)
        begin = time.monotonic()
        assert await worker.wait() == 0
        assert time.monotonic() - begin < within(5)
        # An idle one stops as well: without uvloop the stock worker never did.
        idle = WorkerProcess(valkey.url, valkey.url, broker.queue, uvloop=loop == "uvloop")
        async with worker_processes([idle]):
            idle.send(signal.SIGTERM)
            assert await idle.wait() == 0
    assert await record.count() == 5
    assert await settled(broker)
    await record.close()


async def test_many_workers_beside_a_grpc_server_in_one_loop(make_broker: MakeBroker, queue: str) -> None:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    brokers = [make_broker(queue=f"{queue}-{n}") for n in range(3)]
    ran: list[str] = []
    for broker in brokers:

        @broker.task("note")
        async def note(what: str) -> None:
            ran.append(what)

    async with AsyncExitStack() as stack:
        for broker in brokers:
            await stack.enter_async_context(working(broker))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for broker in brokers:
            task = broker.find_task("note")
            assert task is not None
            await broker.kick_many(broker.encode(task, broker.queue) for _ in range(100))
        for _ in range(20):
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await until(lambda: len(ran) == 300, "all run")
    await server.stop(1)
    assert {ran.count(broker.queue) for broker in brokers} == {100}


async def test_the_stock_receiver_runs_timers_and_loses_nothing_unreadable(broker: TimerBroker) -> None:
    source = TimerSource(broker)
    ran: list[tuple[str, str]] = []

    @broker.task("note", attempts=1)
    async def note(what: str) -> None:
        ran.append(("note", what))
        if what == "bad":
            raise ValueError("bad")

    broker.is_worker_process = True
    await broker.startup()
    finish = asyncio.Event()
    listening = asyncio.create_task(Receiver(broker, run_startup=False, max_async_tasks=10).listen(finish))
    await note.kiq("now")
    await note.kicker().with_schedule_id("t").schedule_by_time(source, in_seconds(0.1), "timer")
    await note.kiq("bad")
    await broker.kick(broker.encode(note, "x").model_copy(update={"message": b"\xff"}))
    await until(lambda: len(ran) == 3, "they run")

    async def both_dead() -> bool:
        return (await broker.figures()).dead == 2

    await until(both_dead, "what failed and what cannot be read are kept")
    await until(lambda: settled(broker), "nothing is left")
    finish.set()
    await asyncio.wait_for(listening, 10)
    reasons = sorted(letter.reason for letter in await broker.dead_letters())
    assert reasons[0] == "attempt 1 of 1: ValueError: bad"
    assert reasons[1].startswith("unreadable")


async def test_the_taskiq_worker_command_works(tmp_path: Path, valkey: Valkey, broker: TimerBroker) -> None:
    module = tmp_path / "app.py"
    module.write_text(
        "from tocsin_timers import TimerBroker\n"
        f"broker = TimerBroker({valkey.url!r}, {broker.queue!r}, lease=2.0)\n"
        "@broker.task('note')\n"
        "async def note(what: str) -> None: ...\n"
    )

    @broker.task("note")
    async def note(what: str) -> None: ...

    command = [sys.executable, "-m", "taskiq", "worker", "app:broker", "--workers", "1"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await note.kiq("now")
        await note.kicker().with_labels(delay=0.2).kiq("later")
        await until(lambda: done(broker, completed=2), "both run", limit=20)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 15)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_example_of_the_readme_runs(valkey: Valkey) -> None:
    example = ROOT / "libs" / "timers" / "examples" / "reminders.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(example), valkey.url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, errors.decode()
    lines = output.decode().splitlines()
    assert lines[0].startswith("reminder: tea is ready")
    assert json.loads(lines[-1])["cancelled"] is True
