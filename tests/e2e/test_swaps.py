"""People swap shifts among themselves, and who is paged follows."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import incident_service_pb2 as ip
from tocsin.escalation.v1 import schedule_pb2 as sp
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin.escalation.v1 import swap_pb2
from tocsin_testkit.clients import Clients
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import failure
from tests.e2e.schedule_calls import now, time

DAY = timedelta(days=1)
SOON = 1 / 96
"""A quarter of an hour, in days."""


def own(person: Person) -> Any:
    """The schedules, as a user who may change only what is their own."""
    token = person.world.token(person.org_id, ("schedules:self", "schedules:read"), subject=person.name)
    return Clients(person.world.channels, token).schedules


class Rota:
    """Ana is on call for three days, then Ben for three, then Cem, and again; it began a day ago."""

    def __init__(self, tenant: Tenant, began: datetime, people: list[Person]) -> None:
        self.tenant = tenant
        self.began = began.replace(second=0, microsecond=0)
        self.ana, self.ben, self.cem, self.dora = people

    async def create(self) -> None:
        layer = sp.Layer(
            layer_id="rota",
            turns=[sp.Turn(unit=sp.TURN_UNIT_DAY, count=3)],
            start=f"{self.began - DAY:%Y-%m-%dT%H:%M}",
            line_up=[sp.LineUpEntry(users=[one.name]) for one in (self.ana, self.ben, self.cem)],
        )
        schedule = sp.Schedule(display_name="web", time_zone="UTC", layers=[layer])
        await self.tenant.admin.schedules.CreateSchedule(pb.CreateScheduleRequest(schedule_id="web", schedule=schedule))

    def stretch(self, start: float, end: float) -> swap_pb2.SwapStretch:
        """In days from now."""
        return swap_pb2.SwapStretch(start_time=self.at(start), end_time=self.at(end))

    def at(self, days: float) -> Timestamp:
        return time(self.began + days * DAY)

    async def offers(
        self, giver: Person, offered: tuple[float, float], *to: Person, back: tuple[float, float] | None = None
    ) -> swap_pb2.Swap:
        swap = swap_pb2.Swap(
            schedule="schedules/web",
            user=giver.name,
            offered=self.stretch(*offered),
            in_return=self.stretch(*back) if back else None,
            offered_to=[one.name for one in to],
            reason="a wedding",
        )
        return (await own(giver).CreateSwap(pb.CreateSwapRequest(swap=swap))).swap  # type: ignore[no-any-return]

    async def on_call(self, until: float) -> list[tuple[float, str]]:
        request = pb.ResolveScheduleRequest(name="schedules/web", start_time=self.at(0), end_time=self.at(until))
        found = (await self.tenant.admin.schedules.ResolveSchedule(request)).segments
        return [((each.start_time.ToDatetime(UTC) - self.began) / DAY, each.users[0][6:]) for each in found]


@pytest.fixture
async def rota(tenant: Tenant) -> Rota:
    made = Rota(tenant, await now(tenant), await tenant.people("ana", "ben", "cem", "dora"))
    await made.create()
    return made


async def test_two_people_swap_shifts_and_everything_says_so(rota: Rota) -> None:
    """Ana has days 0 to 2, Ben 2 to 5, Cem 5 to 8: Ana gives most of her first day to Cem, for one of his."""
    swap = await rota.offers(rota.ana, (SOON, 1), rota.cem, back=(5, 6))
    assert (swap.state, swap.author) == (swap_pb2.SWAP_STATE_OFFERED, rota.ana.name)
    assert await rota.on_call(8) == [(0, "ana"), (2, "ben"), (5, "cem")], "an offer changes nothing"
    [listed] = (await own(rota.cem).ListSwaps(pb.ListSwapsRequest(user=rota.cem.name))).swaps
    assert listed == swap
    request = pb.AcceptSwapRequest(request_id="7d7c4a0e-6c8e-4f43-9a0d-0d6f3f3f0001", name=swap.name, etag=swap.etag)
    accepted = (await own(rota.cem).AcceptSwap(request)).swap
    assert (accepted.state, accepted.accepted_by) == (swap_pb2.SWAP_STATE_ACCEPTED, rota.cem.name)
    assert (await own(rota.cem).AcceptSwap(request)).swap == accepted, "a repeat gets the first answer"
    assert await rota.on_call(8) == [(0, "ana"), (SOON, "cem"), (1, "ana"), (2, "ben"), (5, "ana"), (6, "cem")]

    admin = rota.tenant.admin.schedules
    listing = pb.ListOverridesRequest(schedule="schedules/web")
    overrides = (await admin.ListOverrides(listing)).overrides
    assert [(each.user, list(each.users), each.swap) for each in overrides] == [
        (rota.ana.name, [rota.cem.name], swap.name),
        (rota.cem.name, [rota.ana.name], swap.name),
    ]
    assert {(each.reason, each.author) for each in overrides} == {("a wedding", rota.cem.name)}
    resolve = pb.ResolveScheduleRequest(name="schedules/web", start_time=rota.at(SOON), end_time=rota.at(1))
    [source] = (await admin.ResolveSchedule(resolve)).segments[0].sources
    assert (source.kind, source.source) == (sp.ON_CALL_SOURCE_KIND_SWAP, swap.name)
    shifts = pb.ListShiftsRequest(user=rota.cem.name, start_time=rota.at(0), end_time=rota.at(5))
    [shift] = (await admin.ListShifts(shifts)).shifts
    assert (shift.start_time, shift.end_time, list(shift.swaps)) == (rota.at(SOON), rota.at(1), [swap.name])

    sender = await rota.tenant.integration(await rota.tenant.policy(["schedules/web"], name="web"))
    await rota.tenant.passes(minutes=SOON * 24 * 60 + 1)
    incident = await sender.triggers("in the shift that was swapped")
    await rota.cem.is_paged(incident, level=1)
    explain = ip.ExplainPageRequest(incident=incident, user=rota.ana.name)
    told = [each.message for each in (await rota.tenant.admin.incidents.ExplainPage(explain)).statements]
    assert f"{swap.name} of schedules/web has users/cem on call instead of users/ana" in told


async def test_what_is_offered_to_everybody_goes_to_the_first_who_takes_it(rota: Rota) -> None:
    swap = await rota.offers(rota.ben, (2, 5))
    answers = await asyncio.gather(
        *(own(one).AcceptSwap(pb.AcceptSwapRequest(name=swap.name)) for one in (rota.ana, rota.cem)),
        return_exceptions=True,
    )
    [taken] = [each.swap for each in answers if not isinstance(each, BaseException)]
    assert await rota.on_call(5) == [(0, "ana"), (2, taken.accepted_by[6:])]
    loser = rota.cem if taken.accepted_by == rota.ana.name else rota.ana
    error = await failure(own(loser).AcceptSwap(pb.AcceptSwapRequest(name=swap.name)))
    assert (error.reason, error.message[-8:]) == ("SWAP_STATE", "accepted")
    error = await failure(own(rota.dora).AcceptSwap(pb.AcceptSwapRequest(name=swap.name)))
    assert error.reason == "SWAP_STATE"
    closed = pb.ListSwapsRequest(include_closed=True)
    assert not (await own(rota.ana).ListSwaps(pb.ListSwapsRequest())).swaps
    assert [each.name for each in (await own(rota.ana).ListSwaps(closed)).swaps] == [swap.name]


async def test_an_offer_ends_when_all_decline_when_it_is_taken_back_and_when_its_time_begins(rota: Rota) -> None:
    declined = await rota.offers(rota.ben, (2, 3), rota.ana, rota.cem)
    withdrawn = await rota.offers(rota.ben, (3, 4), rota.ana)
    late = await rota.offers(rota.ben, (4, 5), rota.ana, back=(SOON, 1))
    half = await own(rota.ana).DeclineSwap(pb.DeclineSwapRequest(name=declined.name))
    assert (half.swap.state, list(half.swap.declined_by)) == (swap_pb2.SWAP_STATE_OFFERED, [rota.ana.name])
    whole = await own(rota.cem).DeclineSwap(pb.DeclineSwapRequest(name=declined.name))
    assert whole.swap.state == swap_pb2.SWAP_STATE_DECLINED
    gone = await own(rota.ben).WithdrawSwap(pb.WithdrawSwapRequest(name=withdrawn.name))
    assert gone.swap.state == swap_pb2.SWAP_STATE_WITHDRAWN
    await rota.tenant.passes(minutes=SOON * 24 * 60 + 1)
    read = (await own(rota.ana).GetSwap(pb.GetSwapRequest(name=late.name))).swap
    assert read.state == swap_pb2.SWAP_STATE_EXPIRED
    for swap, state in ((declined, "declined"), (withdrawn, "withdrawn"), (late, "expired")):
        error = await failure(own(rota.ana).AcceptSwap(pb.AcceptSwapRequest(name=swap.name)))
        assert (error.reason, error.message.split()[-1]) == ("SWAP_STATE", state)
    assert await rota.on_call(8) == [(0, "ana"), (2, "ben"), (5, "cem")]


async def test_a_swap_of_what_is_not_theirs_any_more_is_refused_when_it_is_accepted(rota: Rota) -> None:
    swap = await rota.offers(rota.ben, (2, 3), rota.cem)
    admin = rota.tenant.admin.schedules
    change = sp.Override(schedule="schedules/web", start_time=rota.at(2), end_time=rota.at(2.5), users=[rota.ana.name])
    made = (await admin.CreateOverride(pb.CreateOverrideRequest(override=change))).override
    error = await failure(own(rota.cem).AcceptSwap(pb.AcceptSwapRequest(name=swap.name)))
    assert error.reason == "SWAP_NOT_POSSIBLE"
    assert "users/ben is not on call from" in error.message
    await admin.DeleteOverride(pb.DeleteOverrideRequest(name=made.name))
    away = sp.Absence(user=rota.cem.name, start_time=rota.at(2), end_time=rota.at(9))
    await admin.CreateAbsence(pb.CreateAbsenceRequest(absence=away))
    error = await failure(own(rota.cem).AcceptSwap(pb.AcceptSwapRequest(name=swap.name)))
    assert "users/cem is away or disabled" in error.message
    assert not (await admin.ListOverrides(pb.ListOverridesRequest())).overrides, "nothing is half done"


async def test_only_those_concerned_or_a_manager_may_act(rota: Rota) -> None:
    swap = await rota.offers(rota.ben, (2, 3), rota.cem)
    others = own(rota.dora)
    offer = swap_pb2.Swap(schedule="schedules/web", user=rota.ben.name, offered=rota.stretch(3, 4))
    for call in (
        others.CreateSwap(pb.CreateSwapRequest(swap=offer)),
        others.AcceptSwap(pb.AcceptSwapRequest(name=swap.name, user=rota.cem.name)),
        others.DeclineSwap(pb.DeclineSwapRequest(name=swap.name, user=rota.cem.name)),
        others.WithdrawSwap(pb.WithdrawSwapRequest(name=swap.name)),
    ):
        assert (await failure(call)).reason == "SCOPE_MISSING"
    for one in (others, own(rota.ben)):
        error = await failure(one.AcceptSwap(pb.AcceptSwapRequest(name=swap.name)))
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["user"])
    admin = rota.tenant.admin.schedules
    taken = await admin.AcceptSwap(pb.AcceptSwapRequest(name=swap.name, user=rota.cem.name))
    assert taken.swap.accepted_by == rota.cem.name


async def test_offers_that_cannot_be(rota: Rota) -> None:
    good: dict[str, Any] = {"schedule": "schedules/web", "user": rota.ben.name, "offered": rota.stretch(2, 3)}
    odd = swap_pb2.SwapStretch(start_time=Timestamp(seconds=rota.at(2).seconds + 1), end_time=rota.at(3))
    for change, reason, field in (
        ({"schedule": "web"}, "INVALID_FIELD", "swap.schedule"),
        ({"schedule": "schedules/nothing"}, "SCHEDULE_NOT_FOUND", "swap.schedule"),
        ({"user": "users/nobody"}, "USER_NOT_FOUND", "swap.user"),
        ({"offered": None}, "INVALID_FIELD", "swap.offered"),
        ({"offered": swap_pb2.SwapStretch(start_time=rota.at(2))}, "INVALID_FIELD", "swap.offered.end_time"),
        ({"offered": odd}, "INVALID_FIELD", "swap.offered.start_time"),
        ({"offered": rota.stretch(-1, 3)}, "INVALID_FIELD", "swap.offered.start_time"),
        ({"offered": rota.stretch(3, 2)}, "INVALID_FIELD", "swap.offered.end_time"),
        ({"offered": rota.stretch(2, 38)}, "INVALID_FIELD", "swap.offered.end_time"),
        ({"offered": rota.stretch(399, 401)}, "INVALID_FIELD", "swap.offered.end_time"),
        ({"offered": rota.stretch(1, 3)}, "INVALID_FIELD", "swap.offered"),
        ({"in_return": rota.stretch(-1, 3)}, "INVALID_FIELD", "swap.in_return.start_time"),
        ({"in_return": rota.stretch(6, 42)}, "INVALID_FIELD", "swap.in_return.end_time"),
        ({"in_return": rota.stretch(3, 4), "offered_to": ["users/cem"]}, "INVALID_FIELD", "swap.in_return"),
        ({"offered_to": ["cem"]}, "INVALID_FIELD", "swap.offered_to[0]"),
        ({"offered_to": ["users/nobody"]}, "USER_NOT_FOUND", "swap.offered_to[0]"),
        ({"offered_to": [rota.ben.name]}, "INVALID_FIELD", "swap.offered_to"),
        ({"offered_to": [f"users/u{n}" for n in range(21)]}, "INVALID_FIELD", "swap.offered_to"),
        ({"reason": "x" * 256}, "INVALID_FIELD", "swap.reason"),
    ):
        error = await failure(own(rota.ben).CreateSwap(pb.CreateSwapRequest(swap=swap_pb2.Swap(**{**good, **change}))))
        expected = "SCOPE_MISSING" if change.get("user") else reason
        assert error.reason == expected, change
        assert expected == "SCOPE_MISSING" or field in error.fields, (change, error.fields)
    nothing = "swaps/00000000-0000-4000-8000-000000000000"
    calls = own(rota.ben)
    for call in (
        calls.GetSwap(pb.GetSwapRequest(name=nothing)),
        calls.AcceptSwap(pb.AcceptSwapRequest(name=nothing)),
        calls.DeclineSwap(pb.DeclineSwapRequest(name=nothing)),
        calls.WithdrawSwap(pb.WithdrawSwapRequest(name=nothing)),
    ):
        assert (await failure(call)).reason == "SWAP_NOT_FOUND"
    swap = await rota.offers(rota.ben, (2, 3), rota.cem)
    await own(rota.cem).DeclineSwap(pb.DeclineSwapRequest(name=swap.name, etag=swap.etag))
    error = await failure(own(rota.cem).AcceptSwap(pb.AcceptSwapRequest(name=swap.name, etag=swap.etag)))
    assert error.reason == "ETAG_MISMATCH"
