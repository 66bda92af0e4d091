"""Random requests at every RPC: each gets an answer of the contract, and the processes stay as they were."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator

import psutil  # type: ignore[import-untyped]
import pytest
from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1.directory_service_pb2 import CreateTeamRequest, CreateUserRequest, Team, User
from tocsin.escalation.v1.policy_service_pb2 import CreatePolicyRequest, Level, Policy
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin.ingest.v1.integration_service_pb2 import CreateIntegrationRequest, Integration
from tocsin.type.v1.target_pb2 import Target
from tocsin_stack import tokens
from tocsin_stack.scratch import scratch
from tocsin_testkit.prepared import Prepared
from tocsin_testkit.world import World

from tests.abuse.messages import Messages
from tests.abuse.rpcs import EVERYWHERE, RPCS, Rpc, bearer
from tests.rounds import LONG

ROUNDS = 12 if LONG else 4
"""Requests to each RPC, where no seconds are asked for."""
SECONDS = float(os.environ.get("ABUSE_SECONDS", "0"))
SEED = os.environ.get("ABUSE_SEED") or (f"{random.getrandbits(32):08x}" if LONG or SECONDS else "1")
"""With `make test` the same requests each time, so that a failure is the change's; else others in each run. A failure names it."""
ODD = 0.0, 0.02, 0.1, 0.4
"""The shares of values that are odd, one after the other: each RPC meets each of them."""
WARM_UP = -len(ODD)
"""The number of requests whose cost does not count: clean ones, and no others have it."""
AT_ONCE = 16
ANSWERS = {
    *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "ABORTED", "RESOURCE_EXHAUSTED"),
    *("UNAVAILABLE", "PERMISSION_DENIED", "DEADLINE_EXCEEDED"),
}
"""Any code but those that stand for a defect: INTERNAL, UNKNOWN, DATA_LOSS, UNIMPLEMENTED; and no UNAUTHENTICATED."""
MOST_GROWTH = 120 << 20
"""Bytes a process may grow by: pools, caches and statements that are prepared for the first time."""
CALM = 200
MOST_COST = 40
"""A request may cost this many times as much processor time as a small one, on average over all."""


@pytest.fixture(scope="module")
async def own_world(prepared: Prepared) -> AsyncIterator[World]:
    """A stack of its own: queues are paused, and incidents of unknown tenants run."""
    with scratch() as folder:
        environment = {"GRPC_MAX_CALL_SECONDS": "10", "TENANT_MAX_OBJECTS": "5"}
        async with World(folder, environment=environment, prepared=prepared) as world:
            yield world


def processes(world: World) -> dict[str, psutil.Process]:
    return {name: psutil.Process(replicas[0].process.pid) for name, replicas in world.stack.services.items()}


async def ask(world: World, rpc: Rpc, data: bytes, token: str) -> str | None:
    """What is wrong with the answer."""
    began = time.monotonic()
    answer = await rpc.call(world, data, bearer(token), timeout=30)
    if answer.code not in ANSWERS or (answer.code != "OK" and not answer.reason and len(data) < 100_000):
        return f"{rpc}: {answer} for {data.hex()}"
    if answer.code == "DEADLINE_EXCEEDED":
        return f"{rpc}: no answer within {time.monotonic() - began:.0f} s for {data.hex()}"
    return None


async def test_no_request_is_answered_with_a_defect(own_world: World) -> None:
    world = own_world
    before = {name: (each.pid, each.memory_info().rss) for name, each in processes(world).items()}
    operator = world.token("*", (*tokens.OPERATOR, "internal"))
    tenant = world.token("org-fuzz", tokens.ADMINISTRATOR)
    wrong: list[str] = []
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(rpc: Rpc, number: int) -> None:
        made = Messages((SEED, str(rpc), number), odd=ODD[number % len(ODD)])
        async with gate:
            if problem := await ask(world, rpc, made.request(rpc.method.input_type), operator if rpc.spans else tenant):
                wrong.append(problem)

    floor = await calm(world, tenant)
    await asyncio.gather(*(one(rpc, WARM_UP) for rpc in RPCS))
    spent = cpu_seconds(world)  # statements are prepared now, as those of `calm` are
    per_round = Counter(rpc.server for rpc in RPCS)
    number, until = 0, time.monotonic() + SECONDS
    while number < ROUNDS or time.monotonic() < until:
        await asyncio.gather(*(one(rpc, number) for rpc in RPCS))
        number += 1
    assert wrong == [], f"{len(wrong)} of {(1 + number) * len(RPCS)}, ABUSE_SEED={SEED}"

    assert {name: each.pid for name, each in processes(world).items()} == {
        name: pid for name, (pid, _) in before.items()
    }
    grown = {name: each.memory_info().rss - before[name][1] for name, each in processes(world).items()}
    assert all(size < MOST_GROWTH for size in grown.values()), (grown, f"ABUSE_SEED={SEED}")
    logs = "".join((world.stack.log_dir / f"{name}.log").read_text() for name in EVERYWHERE)
    assert "internal_error" not in logs
    assert "Traceback" not in logs
    costs = {name: (seconds - spent[name]) / number / per_round[name] for name, seconds in cpu_seconds(world).items()}
    assert all(cost < MOST_COST * floor[name] for name, cost in costs.items()), (costs, floor, f"ABUSE_SEED={SEED}")
    # And everything still works.
    sent = await world.clients("org-after").alerts.SendAlert(SendAlertRequest(alert=AlertInput(summary="still here")))
    assert sent.incident


def cpu_seconds(world: World) -> dict[str, float]:
    return {name: sum(each.cpu_times()[:2]) for name, each in processes(world).items()}


async def calm(world: World, token: str) -> dict[str, float]:
    """Processor seconds of one small request, by service."""
    reading = {"ingest": "ListIntegrations", "escalation": "ListUsers", "notify": "ListNotifications"}
    before = cpu_seconds(world)
    for rpc in RPCS:
        if reading[rpc.server] == rpc.method.name:
            await asyncio.gather(*(rpc.call(world, b"", bearer(token)) for _ in range(CALM)))
    return {name: (seconds - before[name]) / CALM for name, seconds in cpu_seconds(world).items()}


CREATED = ("CreateUser", "CreateTeam", "CreatePolicy", "CreateIntegration")


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if rpc.method.name in CREATED], ids=str)
async def test_a_tenant_makes_as_many_objects_as_it_may(own_world: World, rpc: Rpc) -> None:
    ana = CreateUserRequest(user_id="ana", user=User(display_name="Ana"))
    bodies = {
        "CreateUser": CreateUserRequest(user=User(display_name="x")),
        "CreateTeam": CreateTeamRequest(team=Team(display_name="x", members=["users/ana"])),
        "CreatePolicy": CreatePolicyRequest(
            policy=Policy(
                display_name="x", levels=[Level(targets=[Target(user="users/ana")], timeout=Duration(seconds=60))]
            )
        ),
        "CreateIntegration": CreateIntegrationRequest(integration=Integration(display_name="x")),
    }
    for org_id in (f"org-full-{rpc.method.name}", f"org-free-{rpc.method.name}"):
        await own_world.clients(org_id).directory.CreateUser(ana)
        metadata = bearer(own_world.token(org_id, tokens.ADMINISTRATOR))
        already = 1 if rpc.method.name == "CreateUser" else 0
        answers = [await rpc.call(own_world, bodies[rpc.method.name].SerializeToString(), metadata) for _ in range(6)]
        codes = [(answer.code, answer.reason) for answer in answers]
        assert codes[: 5 - already] == [("OK", "")] * (5 - already)
        assert set(codes[5 - already :]) == {("RESOURCE_EXHAUSTED", "LIMIT_REACHED")}


@pytest.mark.parametrize("odd", [0.0, 0.3])
def test_requests_can_be_made_again_from_their_seed(odd: float) -> None:
    for rpc in RPCS:
        first, second = (Messages(("a", str(rpc)), odd=odd).request(rpc.method.input_type) for _ in range(2))
        assert first == second
