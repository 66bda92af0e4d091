"""Who may call at once: fairness and priority without a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_kit.budgets import Budgets, per_minute
from tocsin_kit.metrics import Metrics
from tocsin_notify.app.delivery.provider_rates import ProviderRates
from tocsin_notify.app.delivery.slots import NOTIFICATIONS, Limits, Slot, Slots
from tocsin_notify.domain.page import CRITICAL, DIGESTS, LANES, NORMAL, SLOW, Channel

LIMITS = Limits(total=10, critical_reserve=3, per_org=4, rate=0, burst=1)
CHANNELS = {Channel.WEBHOOK: 100, Channel.EMAIL: 2, Channel.CONSOLE: 100}


def slot(org: str, priority: int = NORMAL, channel: Channel = Channel.WEBHOOK) -> Slot:
    return Slot(org, channel, priority)


def test_a_flood_leaves_the_reserve_to_critical_pages() -> None:
    slots = Slots(LIMITS, CHANNELS)
    assert sum(slots.take(slot(f"org-{number}")) for number in range(20)) == 7
    assert sum(slots.take(slot(f"org-{number}", CRITICAL)) for number in range(20)) == 3


def test_the_room_of_a_channel_is_that_for_calls_of_all_tenants() -> None:
    slots = Slots(LIMITS, CHANNELS | {Channel.EMAIL: 5})
    assert slots.room(Channel.EMAIL, NORMAL) == (4, 4), "one is reserved"
    assert slots.take(slot("a", NORMAL, Channel.EMAIL))
    assert slots.take(slot("b", CRITICAL, Channel.EMAIL))
    assert slots.room(Channel.EMAIL, NORMAL) == (2, 4)
    assert slots.room(Channel.WEBHOOK, NORMAL) == (5, 7), "of all slots, three are reserved"
    while slots.take(slot("b", NORMAL)) or slots.take(slot("c", NORMAL)):
        pass
    assert slots.room(Channel.EMAIL, NORMAL) == (0, 4), "no slot at all is left"


def test_a_channel_goes_on_while_the_outcomes_of_its_calls_are_written_down_and_no_slot_is_given_twice() -> None:
    slots = Slots(LIMITS, CHANNELS | {Channel.EMAIL: 1})
    one = slot("a", NORMAL, Channel.EMAIL)
    assert [slots.take(one), slots.take(one)] == [True, False]
    for taken in range(1, LIMITS.per_org):
        slots.end_call(one)
        assert slots.take(one)
        assert slots.taken == taken + 1
    slots.end_call(one)
    assert not slots.take(one), "the tenant's share counts what is not written down"
    for _ in range(LIMITS.per_org):
        slots.release(one)
    assert slots.taken == 0
    assert slots.room(Channel.EMAIL, NORMAL) == (1, 1)


def test_one_tenant_takes_its_share_and_no_more() -> None:
    slots = Slots(LIMITS, CHANNELS)
    assert sum(slots.take(slot("greedy")) for _ in range(20)) == 4
    assert slots.take(slot("modest"))


def test_a_tenants_own_flood_does_not_hold_up_its_critical_page() -> None:
    slots = Slots(LIMITS, CHANNELS)
    while slots.take(slot("greedy")):
        pass
    assert slots.take(slot("greedy", CRITICAL))


def test_a_channel_with_few_sessions_bounds_its_calls_and_keeps_one_for_critical_pages() -> None:
    slots = Slots(Limits(total=10, critical_reserve=5, per_org=10, rate=0), CHANNELS)
    assert [slots.take(slot("a", NORMAL, Channel.EMAIL)) for _ in range(2)] == [True, False]
    assert [slots.take(slot("a", CRITICAL, Channel.EMAIL)) for _ in range(2)] == [True, False]


def test_the_rate_holds_for_everything_but_critical_pages() -> None:
    now = 0.0
    slots = Slots(Limits(total=1000, critical_reserve=1, per_org=1000, rate=10, burst=5), CHANNELS, clock=lambda: now)
    assert sum(slots.take(slot("a")) for _ in range(50)) == 5
    assert all(slots.take(slot("a", CRITICAL)) for _ in range(50))
    now = 0.35
    assert sum(slots.take(slot("a")) for _ in range(50)) == 3
    assert slots.take(slot("b")), "another tenant's bucket is full"


def test_the_tenants_budget_holds_for_everything_but_critical_pages_which_count() -> None:
    budgets = Budgets((per_minute(NOTIFICATIONS, 6),), Metrics(), clock=lambda: 0.0)
    slots = Slots(Limits(total=1000, critical_reserve=1, per_org=1000, rate=0), CHANNELS, budgets)
    assert all(slots.take(slot("a", CRITICAL)) for _ in range(4))
    assert sum(slots.take(slot("a")) for _ in range(50)) == 2
    assert all(slots.take(slot("a", CRITICAL)) for _ in range(50))
    assert slots.take(slot("b")), "another tenant has its own"


def test_slow_retries_get_a_quarter_of_everything_and_never_more() -> None:
    slots = Slots(Limits(total=50, critical_reserve=10, per_org=8, rate=0), CHANNELS | {Channel.EMAIL: 20})
    assert sum(slots.take(slot("greedy", SLOW[CRITICAL])) for _ in range(20)) == 2
    mails = [slots.take(slot(f"org-{number}", SLOW[CRITICAL], Channel.EMAIL)) for number in range(20)]
    assert sum(mails) == 4
    assert sum(slots.take(slot(f"org-{number}", SLOW[NORMAL])) for number in range(20)) == 4
    assert slots.free(SLOW[CRITICAL]) == slots.free(SLOW[NORMAL]) == 0
    assert (slots.free(NORMAL), slots.free(CRITICAL)) == (30, 40)


def test_digests_get_a_quarter_of_their_own_beside_slow_retries_and_nothing_of_the_budget() -> None:
    budgets = Budgets((per_minute(NOTIFICATIONS, 40),), Metrics(), clock=lambda: 0.0)
    slots = Slots(Limits(total=50, critical_reserve=10, per_org=80, rate=0), CHANNELS | {Channel.EMAIL: 20}, budgets)
    assert sum(slots.take(slot("a", DIGESTS, Channel.EMAIL)) for _ in range(50)) == 4
    assert sum(slots.take(slot("a", DIGESTS)) for _ in range(50)) == 6
    assert sum(slots.take(slot("a", SLOW[NORMAL])) for _ in range(50)) == 10
    assert sum(slots.take(slot("a")) for _ in range(50)) == 20
    assert not budgets.try_take("a", NOTIFICATIONS), "ten of its budget are left"


def test_slow_retries_and_digests_use_up_no_other_rate() -> None:
    limits = Limits(total=1000, critical_reserve=1, per_org=1000, rate=10, burst=5)
    slots = Slots(limits, CHANNELS | {Channel.WEBHOOK: 1000}, clock=lambda: 0.0)
    assert [sum(slots.take(slot("a", lane)) for _ in range(50)) for lane in reversed(LANES)] == [5, 5, 5, 5, 50]


def test_with_hardly_any_slots_slow_retries_still_get_one() -> None:
    slots = Slots(Limits(total=2, critical_reserve=1, per_org=1, rate=0), CHANNELS)
    assert slots.take(slot("a", SLOW[NORMAL], Channel.EMAIL))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from(LANES)), max_size=200))
def test_slots_are_never_lost_nor_made(steps: list[tuple[bool, str, int]]) -> None:
    slots = Slots(LIMITS, CHANNELS)
    taken: list[Slot] = []
    for take, org, priority in steps:
        if take:
            if slots.take(slot(org, priority)):
                taken.append(slot(org, priority))
        elif taken:
            slots.give_back(taken.pop())
        assert slots.taken == len(taken) <= LIMITS.total
    for each in taken:
        slots.give_back(each)
    assert slots.free(CRITICAL) == LIMITS.total


def test_a_provider_that_fails_for_many_holds_a_quarter_of_its_channels_calls() -> None:
    failing = {Channel.EMAIL}
    limits = Limits(total=100, critical_reserve=10, per_org=100, rate=0)
    slots = Slots(limits, CHANNELS | {Channel.EMAIL: 40}, failing=failing.__contains__)
    assert sum(slots.take(slot("a", CRITICAL, Channel.EMAIL)) for _ in range(40)) == 10
    assert slots.take(slot("a", CRITICAL))
    failing.clear()
    assert sum(slots.take(slot("a", CRITICAL, Channel.EMAIL)) for _ in range(40)) == 30


def test_a_providers_rate_holds_for_all_tenants_and_critical_pages_count_and_pass() -> None:
    now = 0.0
    rates = ProviderRates({Channel.EMAIL: 10}, Metrics(), clock=lambda: now)
    channels = CHANNELS | {Channel.EMAIL: 1000}
    slots = Slots(Limits(total=1000, critical_reserve=1, per_org=1000, rate=0), channels, rates=rates)
    assert all(slots.take(slot("a", CRITICAL, Channel.EMAIL)) for _ in range(4))
    assert not slots.is_full(Channel.EMAIL, NORMAL)
    assert sum(slots.take(slot(f"org-{number}", NORMAL, Channel.EMAIL)) for number in range(50)) == 6
    assert all(slots.is_full(Channel.EMAIL, lane) for lane in LANES if lane != CRITICAL)
    assert slots.take(slot("b")), "another provider takes it"
    assert slots.take(slot("b", CRITICAL, Channel.EMAIL))
    now = 0.35
    assert sum(slots.take(slot("c", DIGESTS, Channel.EMAIL)) for _ in range(50)) == 2, "one was paid off"


@pytest.mark.parametrize("replicas", [1, 2, 7])
@pytest.mark.parametrize("rate", [1, 2, 30])
def test_without_redis_each_replica_has_its_part_of_a_providers_rate_and_never_none(rate: int, replicas: int) -> None:
    now = 0.0
    rates = ProviderRates({Channel.EMAIL: rate}, Metrics(), clock=lambda: now)
    rates.budgets.replicas = replicas
    slots = Slots(Limits(total=1000, critical_reserve=1, per_org=1000, rate=0), CHANNELS, rates=rates)
    sent = 0
    for step in range(1, 1001):
        now = step / 10
        if slots.take(slot("a", NORMAL, Channel.EMAIL)):
            slots.give_back(slot("a", NORMAL, Channel.EMAIL))
            sent += 1
    possible = min(1000, 100 * rate / replicas)
    assert 0.9 * possible <= sent <= possible + 3 * max(1, rate / replicas)
