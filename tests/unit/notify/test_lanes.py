"""How many calls one destination may take: a few while it says nothing, what it can use while it answers."""

import uuid

from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.app.delivery.lanes import Destination
from tocsin_notify.app.delivery.slots import Limits, Slot, Slots
from tocsin_notify.domain.page import CRITICAL, LANES, NORMAL, Channel

SHARE = 48
NARROW, NARROW_HOST, WIDEST = 6, 12, 36


def made(share: int = SHARE, clock: float = 0.0) -> Slots:
    return Slots(Limits(1000, 1, share, rate=0), {Channel.WEBHOOK: 1000}, clock=lambda: clock)


def slot(method: int = 0, host: str = "a.example", org: str = "org", priority: int = NORMAL) -> Slot:
    return Slot(org, Channel.WEBHOOK, priority, Destination(uuid.UUID(int=method), host))


def fill(slots: Slots, *held: Slot) -> list[Slot]:
    """All the held that these may have."""
    taken = []
    for each in held:
        while slots.take(each):
            taken.append(each)
    return taken


def end(slots: Slots, held: list[Slot], *, hung: bool) -> None:
    for each in held:
        slots.learn(each, hung=hung)
        slots.give_back(each)


def test_one_that_was_never_called_gets_a_few_and_leaves_the_rest() -> None:
    slots = made()
    assert len(fill(slots, slot())) == NARROW
    assert slots.crowded(slot()) == uuid.UUID(int=0)
    assert slots.crowded(slot(1)) is None
    assert len(fill(slots, slot(1), slot(2))) == NARROW_HOST - NARROW, "the host has a lane as well"
    assert slots.crowded(slot(3)) == "a.example"
    assert len(fill(slots, *(slot(number, f"{number}.example") for number in range(3, 20)))) == SHARE - NARROW_HOST


def test_other_tenants_and_priorities_have_lanes_of_their_own() -> None:
    slots = made()
    fill(slots, slot())
    assert len(fill(slots, slot(org="other"))) == NARROW
    assert len(fill(slots, slot(priority=CRITICAL))) == NARROW


def test_answers_make_it_wide_and_silence_narrow() -> None:
    slots = made()
    for _ in range(20):
        end(slots, fill(slots, slot()), hung=False)
    taken = fill(slots, slot())
    assert len(taken) == WIDEST
    end(slots, taken, hung=True)
    assert len(fill(slots, slot())) == 2
    assert len(fill(slots, *(slot(number) for number in range(1, 9)))) == 4 - 2


def test_it_is_wide_again_soon_after_it_answers_again() -> None:
    slots = made()
    end(slots, fill(slots, slot()), hung=True)
    rounds = 0
    while len(taken := fill(slots, slot())) < WIDEST:
        end(slots, taken, hung=False)
        rounds += 1
    assert rounds < 15


def test_few_answers_make_nothing_wide() -> None:
    """A destination of few pages has no use for many held, and would keep them all if it hung."""
    slots = made()
    for _ in range(100):
        assert slots.take(slot())
        end(slots, [slot()], hung=False)
    assert len(fill(slots, slot())) == NARROW


def test_what_was_learned_is_forgotten_after_a_while() -> None:
    now = 0.0
    slots = Slots(Limits(1000, 1, SHARE, rate=0), {Channel.WEBHOOK: 1000}, clock=lambda: now)
    for _ in range(20):
        end(slots, fill(slots, slot()), hung=False)
    now = 61.0
    assert len(fill(slots, slot())) == NARROW


STEPS = st.tuples(st.sampled_from(["take", "hung", "answered"]), st.integers(0, 3), st.sampled_from(LANES))


@given(st.integers(1, 60), st.lists(STEPS, max_size=300))
def test_no_destination_takes_all_slots_and_each_gets_one(share: int, steps: list[tuple[str, int, int]]) -> None:
    slots = made(share)
    taken: list[Slot] = []
    for step, method, priority in steps:
        if step == "take":
            wanted = slot(method, f"{method % 2}.example", priority=priority)
            while slots.take(wanted):
                taken.append(wanted)
        elif taken:
            end(slots, [taken.pop(method * 7 % len(taken))], hung=step == "hung")
    if share >= 8:
        for priority in (CRITICAL, NORMAL):
            here = [each for each in taken if each.priority == priority]
            for host in ("0.example", "1.example"):
                assert sum(each.destination is not None and each.destination.host == host for each in here) < share
    for each in taken:
        slots.give_back(each)
    for method, priority in ((0, CRITICAL), (1, NORMAL), (2, LANES[2]), (3, LANES[3])):
        assert slots.take(slot(method, f"{method % 2}.example", priority=priority)), "a lane that nothing can enter"
