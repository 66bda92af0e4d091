"""Hundreds of lists at once: a few are made at a time, and one tenant's lists use no other tenant's share."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import psutil  # type: ignore[import-untyped]
import pytest
from google.protobuf.descriptor import Descriptor
from tocsin.escalation.v1 import schedule_service_pb2
from tocsin.ingest.v1 import alert_service_pb2, integration_service_pb2
from tocsin_kit.auth import ALL_ORGS, mint
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc import answers as answers_module
from tocsin_kit.rpc import server as server_module
from tocsin_kit.rpc.access import Access
from tocsin_kit.rpc.answers import Answer, Answers, room_of
from tocsin_kit.settings import ServiceSettings
from tocsin_kit.time_limit import TimeLimit

from tests.abuse.echo_process import echo_server
from tests.abuse.echo_server import ROW_BYTES, ROWS

LISTS = 300
LIST = "/kittest.v1.ListService/List"
ROOM = 64 << 10
"""Of all answers, in tests of the room alone: 48 KiB of large ones, 16 KiB of one tenant, 8 KiB of one connection."""
LARGE = 4 << 10


@contextlib.contextmanager
def highest(process: psutil.Process) -> Iterator[list[int]]:
    """The most memory that the process had while the block ran, in the end."""
    found, ended = [process.memory_info().rss], threading.Event()

    def look() -> None:
        while not ended.wait(0.005):
            found[0] = max(found[0], process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


async def test_many_lists_at_once_take_the_memory_of_a_few(settings: ServiceSettings) -> None:
    """One tenant's room is a quarter of that of all answers. Counted only when they left, 300 took 300 MB and more."""
    tokens = [mint(settings.signing_keys, org_id=org, subject="users/u", scopes={"echo:read"}, ttl=600) for org in "ab"]
    metadata = [[("authorization", f"Bearer {token}")] for token in tokens]
    room = server_module._ANSWERS_FACTOR * settings.grpc_max_message_bytes // 4
    options = (("grpc.use_local_subchannel_pool", 1),)
    with echo_server(settings) as (port, _, process):
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options))
                for _ in range(5)
            ]
            lists: list[Any] = [channel.unary_unary(LIST) for channel in channels]
            for each in lists:
                assert len(await each(b"", metadata=metadata[0], timeout=60)) > ROWS * ROW_BYTES
            before = process.memory_info().rss
            refused: list[TocsinError] = []

            async def ask(number: int) -> bool:
                try:
                    return bool(await lists[number % 4](b"", metadata=metadata[0], timeout=60))
                except grpc.aio.AioRpcError as error:
                    refused.append(from_rpc_error(error))
                    return False

            with highest(process) as most:
                flood = [asyncio.ensure_future(ask(number)) for number in range(LISTS)]
                # It was begun after them, and another tenant has its turn before they are through.
                assert await lists[4](b"", metadata=metadata[1], timeout=60)
                answered = await asyncio.gather(*flood)
            assert any(answered)
            assert {(each.reason_name, each.metadata["limit"].partition(":")[0]) for each in refused} <= {
                ("OVERLOADED", "bytes of answers")
            }
            assert all(each.retry_after is not None for each in refused)
            assert most[0] - before < 3 * room
            assert 3 * room < LISTS * ROWS * ROW_BYTES / 2


class Context:
    """Of a call: what is to be done when it has ended."""

    def __init__(self) -> None:
        self.ends: list[Any] = []

    def add_done_callback(self, function: Any) -> None:
        self.ends.append(function)

    def end(self) -> None:
        for each in self.ends:
            each(None)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Who waits does so for as long as it takes, on a busy machine too."""
    monkeypatch.setattr(answers_module, "WAIT_SECONDS", 3600.0)
    return Answers(ROOM, Metrics())


async def taken(answers: Answers, who: str, connection: str = "c", *, reads: bool = True) -> tuple[Answer, Context]:
    context = Context()
    return await answers.take(who, connection, LARGE, context, reads=reads), context


async def waiting(answers: Answers, who: str, connection: str = "c", *, reads: bool = True) -> Any:
    """A call that waits for room."""
    call = asyncio.ensure_future(taken(answers, who, connection, reads=reads))
    await asyncio.sleep(0)
    assert not call.done()
    return call


async def full(answers: Answers) -> list[tuple[Answer, Context]]:
    """Takes all that one tenant may have, by two connections."""
    return [await taken(answers, "a", f"a{number // 2}") for number in range(4)]


async def test_who_waits_gets_what_is_given_back(answers: Answers) -> None:
    (first, context), *others = await full(answers)
    late = await waiting(answers, "a", "a3")
    first.made(LARGE - answers_module._CALL_BYTES)
    context.end()
    _, last = await late
    for _, each in (*others, (late, last)):
        each.end()
    assert len(answers._queue) == 0
    assert (answers._large, answers._large_of_tenant, answers._large_of_connection) == (0, {}, {})
    assert (answers._all._open, answers._all._open_of) == (0, {})


async def test_what_was_not_needed_is_given_back_when_it_leaves(answers: Answers, monkeypatch: Any) -> None:
    monkeypatch.setattr(answers_module, "_CALL_BYTES", 100)
    (first, _), (second, _), *_ = await full(answers)
    late = await waiting(answers, "a", "a3")
    first.made(100)
    second.made(LARGE - 500)
    await asyncio.sleep(0)
    await late
    assert (first.size, second.size) == (200, LARGE - 400)


async def test_tenants_have_turns_and_who_changes_something_is_not_behind_who_reads(answers: Answers) -> None:
    held = await full(answers)
    others = [await taken(answers, org, org + str(number // 2)) for org in "bc" for number in range(4)]
    reading = [await waiting(answers, "a", f"a{number}") for number in range(5, 8)]
    changing = await waiting(answers, "a", "a9", reads=False)
    stranger = await waiting(answers, "d", "d0")
    for _, context in held[:3]:
        context.end()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [each.done() for each in (*reading, changing, stranger)] == [True, False, False, True, True]
    for _, context in (*held[3:], *others):
        context.end()
    await asyncio.gather(*reading)


async def test_a_connection_that_is_full_keeps_its_own_calls_only(answers: Answers) -> None:
    for _ in range(2):
        await taken(answers, "a", "hog")
    behind = await waiting(answers, "a", "hog")
    ahead = await waiting(answers, "a", "other")
    _, context = await taken(answers, "b", "b")
    context.end()
    await ahead
    assert not behind.done()
    behind.cancel()


async def test_who_waits_too_long_is_told_which_limit_it_was(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_waiting", TimeLimit(0.001))
    await full(answers)
    with pytest.raises(TocsinError) as caught:
        await taken(answers, "a", "a3")
    assert (caught.value.reason_name, caught.value.metadata) == (
        "OVERLOADED",
        {"limit": "bytes of answers: one", "allowed": str(ROOM // 4)},
    )
    await taken(answers, "b", "b")
    await taken(answers, "b", "b")
    with pytest.raises(TocsinError, match="this connection has"):
        await taken(answers, "b", "b")
    assert len(answers._queue) == 0


async def test_a_call_that_is_given_up_while_it_waits_takes_nothing(answers: Answers) -> None:
    held = await full(answers)
    gone, late = await waiting(answers, "a", "a3"), await waiting(answers, "a", "a4")
    gone.cancel()
    held[0][1].end()  # before the cancelled call had its turn
    await late
    assert gone.cancelled() or await asyncio.gather(gone, return_exceptions=True)
    assert len(answers._queue) == 0
    assert answers._large == 4 * LARGE


async def test_large_answers_leave_room_for_small_ones_and_for_the_services(answers: Answers, monkeypatch: Any) -> None:
    monkeypatch.setattr(answers_module, "_CALL_BYTES", 0)
    for org in "abc":
        for number in range(4):
            await taken(answers, org, org + str(number // 2))
    (await waiting(answers, "d", "d")).cancel()
    answers.leaves("e", 9 << 10, Context())
    answers.leaves(ALL_ORGS, 7 << 10, Context())


@pytest.mark.parametrize(
    ("scope", "module", "method", "large"),
    [
        ("integrations:read", integration_service_pb2, "IntegrationService.ListIntegrations", True),
        ("integrations:read", integration_service_pb2, "IntegrationService.GetIntegration", False),
        ("schedules:read", schedule_service_pb2, "ScheduleService.ListCoverage", True),
        ("alerts:write", alert_service_pb2, "AlertService.SendAlerts", False),
    ],
)
def test_what_tells_of_many_takes_room_beforehand(scope: str, module: Any, method: str, large: bool) -> None:
    service, _, name = method.partition(".")
    described = module.DESCRIPTOR.services_by_name[service].methods_by_name[name]
    types: tuple[Descriptor, Descriptor] = (described.input_type, described.output_type)
    assert bool(room_of(Access(scope), *types)) is large
