"""What takes long to compute and to tell: no transaction is open meanwhile, and others have their turns."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin.escalation.v1.swap_pb2 import Swap, SwapStretch
from tocsin_escalation.app.foresight import coverage, earliest, foresee, gap_warnings
from tocsin_escalation.app.foresight.check_policy import PolicyCheck, check_policy
from tocsin_escalation.app.people import policies
from tocsin_escalation.app.schedules import planned, schedules, swaps
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.model import Layer, Turn, Unit
from tocsin_escalation.domain.schedules.versions import Rollout
from tocsin_escalation.rpc import schedule_mapping
from tocsin_escalation.rpc.schedule_service import ScheduleService
from tocsin_escalation.store.schedules import on_call
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_kit import time_slices
from tocsin_kit.auth import Principal, SigningKeys
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.rpc import listing
from tocsin_kit.rpc.call import Call, enter
from tocsin_kit.rpc.paging import PageTokens

from tests.store.escalation.recorders import ORG, Desk, Notify

TOKENS = PageTokens(SigningKeys((("new", b"k" * 32),)))
DAYS = Layer("days", (Turn(Unit.DAY, 1),), 0, (("ana",), ("ben",)), "UTC")
NAMES = ("one", "three", "two")


async def rotas(desk: Desk) -> datetime:
    """Three schedules with a shift of ana's every other day; what time it is."""

    async def work(tx: Tx) -> datetime:
        for name in NAMES:
            await schedules.create(tx, ScheduleRow(name, name, "", "UTC", False, (DAYS,)))
        return planned.minute(await tx.now())

    return await desk.db.run(ORG, work)


def service(desk: Desk) -> ScheduleService:
    principal = Principal(ORG, "users/ana", frozenset({"schedules:write"}))
    enter(Call("tocsin.escalation.v1.ScheduleService/Any", principal, "0" * 32, None))
    return ScheduleService(desk.db, TOKENS, None, timedelta(hours=6))  # type: ignore[arg-type]


def at(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def lent(db: Database) -> int:
    """Connections with a transaction."""
    assert db._tenant_login is not None
    return db._connections.lent + db._tenant_login.sessions.connections.lent


def without_a_transaction(db: Database, function: Callable[..., Any], seen: list[int]) -> Callable[..., Any]:
    def look(*args: Any) -> Any:
        seen.append(lent(db))
        return function(*args)

    return look


async def test_shifts_are_told_in_turns_and_a_page_ends_with_its_bytes(desk: Desk, monkeypatch: Any) -> None:
    now = await rotas(desk)
    monkeypatch.setattr(time_slices, "SLICE_SECONDS", 0.0)
    ran = 0

    async def other() -> None:
        nonlocal ran
        while True:
            ran += 1
            await asyncio.sleep(0)

    turns: dict[str, int] = {}
    encode = schedule_mapping.shift_to

    def told(schedule: str, shift: Any) -> Any:
        turns.setdefault(schedule, ran)
        return encode(schedule, shift)

    monkeypatch.setattr(schedule_mapping, "shift_to", told)
    asking, span = service(desk), {"start_time": at(now), "end_time": at(now + timedelta(days=20))}
    running = asyncio.create_task(other())
    whole = await asking.ListShifts(pb.ListShiftsRequest(user="users/ana", **span), None)  # type: ignore[arg-type]
    running.cancel()
    assert len(set(turns.values())) == len(NAMES)
    assert not whole.next_page_token
    assert len(whole.shifts) >= 3 * 10

    monkeypatch.setattr(listing, "ANSWER_BYTES", whole.ByteSize() // 2)
    pages, token = list[list[Any]](), ""
    while not pages or token:
        request = pb.ListShiftsRequest(user="users/ana", page_token=token, **span)  # type: ignore[arg-type]
        page = await asking.ListShifts(request, None)  # type: ignore[arg-type]
        pages.append(list(page.shifts))
        token = page.next_page_token
    assert [len({each.schedule for each in page}) for page in pages] == [1, 1, 1]
    assert [each for page in pages for each in page] == list(whole.shifts)


async def test_a_swap_is_worked_out_while_no_transaction_is_open(desk: Desk, monkeypatch: Any) -> None:
    now = await rotas(desk)
    asking, seen = service(desk), list[int]()
    for name in ("exchange", "must_have"):
        monkeypatch.setattr(swaps, name, without_a_transaction(desk.db, getattr(swaps, name), seen))
    span = {"start_time": at(now), "end_time": at(now + timedelta(days=6))}
    found = await asking.ListShifts(pb.ListShiftsRequest(user="users/ana", **span), None)  # type: ignore[arg-type]
    monkeypatch.setattr(on_call, "READ_AT_ONCE", 0)
    monkeypatch.setattr(on_call, "KEPT_CHARACTERS", 0)
    monkeypatch.setattr(on_call, "_read", without_a_transaction(desk.db, on_call._read, seen))
    # The first one may have begun.
    mine = [each for each in found.shifts if each.schedule == "schedules/one"][1]
    offered = SwapStretch(start_time=mine.start_time, end_time=mine.end_time)
    for offered_to in ([], ["users/ben"]):
        swap = Swap(schedule="schedules/one", user="users/ana", offered=offered, offered_to=offered_to)
        made = await asking.CreateSwap(pb.CreateSwapRequest(swap=swap), None)  # type: ignore[arg-type]
    accept = pb.AcceptSwapRequest(name=made.swap.name, user="users/ben")
    accepted = await asking.AcceptSwap(accept, None)  # type: ignore[arg-type]
    assert accepted.swap.accepted_by == "users/ben"
    assert seen == [0] * 6, "its schedule is read, and the swap is worked out"


async def test_large_schedules_are_read_while_no_transaction_is_open(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, seen = await rotas(desk), list[int]()
    level = Level((Target(TargetKind.SCHEDULE, "one"),), timedelta(minutes=5))
    await desk.asks(lambda tx, questions: policies.create(tx, Policy("p", (level,)), "P", False, questions))
    read = on_call._read
    monkeypatch.setattr(on_call, "READ_AT_ONCE", 0)
    monkeypatch.setattr(on_call, "KEPT_CHARACTERS", 0)
    monkeypatch.setattr(on_call, "_read", without_a_transaction(desk.db, read, seen))
    whole = await schedules.stretches(desk.db, ORG, (), now, now + timedelta(days=3), "", 10)
    standing = await schedules.on_calls(desk.db, ORG, (), now, "", 10)
    one = await schedules.resolved(desk.db, ORG, "one", now, now + timedelta(days=3))
    draft = ScheduleRow("one", "one", "", "UTC", False, (DAYS,))
    preview = await schedules.preview(desk.db, ORG, draft, Rollout.NOW, now, now + timedelta(days=3))
    assert [id for id, _ in whole] == [id for id, _ in standing] == list(NAMES)
    levels, _ = await earliest.of_levels(desk.db, ORG, earliest.EarliestFilter(("p",)), now, ("", 0), 10)
    assert whole[0][1] == one == preview
    assert "ana" in [each.user for each in levels[0].users]
    assert seen == [0] * 9

    seen.clear()
    forecast = await foresee.on_policy(desk.db, Notify(), ORG, "p", None, 1)
    [gaps] = await gap_warnings.of_policies(desk.db, ORG, [Policy("p", (level,))], 1)
    covered, _ = await coverage.of_policies(desk.db, ORG, ("p",), now, now + timedelta(days=1), "", 10)
    assert forecast.plan.steps
    assert gaps == ()
    assert [each.policy for each in covered] == ["p"]
    assert seen == [0] * 3


async def test_what_a_policy_costs_is_worked_out_while_no_transaction_is_open(desk: Desk, monkeypatch: Any) -> None:
    await rotas(desk)
    seen = list[int]()
    monkeypatch.setattr(policies, "READ_AT_ONCE", 0)
    costs = without_a_transaction(desk.db, policies._costs_too_much, seen)
    monkeypatch.setattr(policies, "_costs_too_much", costs)
    one, both = (
        Policy("p", (Level(tuple(Target(TargetKind.SCHEDULE, name) for name in names), timedelta(minutes=5)),))
        for names in (NAMES[:1], NAMES)
    )
    await desk.asks(lambda tx, questions: policies.create(tx, one, "P", False, questions))
    await desk.asks(lambda tx, questions: policies.update(tx, "p", "", lambda _: (both, "P", False), questions))
    await check_policy(desk.db, Notify(), ORG, PolicyCheck(both, [], 1, 1, saved=False))
    assert seen == [0, 0, 0]


async def test_a_simulation_is_played_while_no_transaction_is_open(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[int]()
    for name in ("choose", "simulate"):
        monkeypatch.setattr(foresee, name, without_a_transaction(desk.db, getattr(foresee, name), seen))
    played = await foresee.on_policy(desk.db, Notify(), ORG, "night", None, 1)
    assert played.plan.steps
    assert seen == [0, 0]
