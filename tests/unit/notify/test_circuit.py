"""When pages go around a provider, without a provider: the state machine against a slow oracle, and its bounds."""

import uuid
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from tocsin_kit.metrics import Metrics
from tocsin_notify.app.delivery.circuits import MOST, Circuits, Provider, ProvidersFail
from tocsin_notify.domain.attempt import AWAY, Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.circuit import CLOSED, Circuit, CircuitPolicy, Way, ask, hear, says_it_fails
from tocsin_notify.domain.page import Channel
from tocsin_notify.metrics import NotifyMetrics

POLICY = CircuitPolicy()
SMS = Provider(Channel.SMS)
DOWN = Retryable("503 Service Unavailable")


def heard(circuit: Circuit, receiver: int, *, failed: bool, now: float, began: float | None = None) -> Circuit:
    began = now if began is None else began
    return hear(circuit, receiver, failed=failed, began=began, now=now, policy=POLICY, chance=1.0)


def opened(now: float = 0.0) -> Circuit:
    circuit = CLOSED
    for receiver in range(POLICY.failures):
        assert not circuit.is_open
        circuit = heard(circuit, receiver, failed=True, now=now)
    assert circuit.is_open
    return circuit


def test_it_opens_when_many_fail_and_closes_with_the_first_that_is_served() -> None:
    assert heard(opened(), 9, failed=False, now=1.0) is CLOSED


def test_one_destination_that_fails_for_ever_opens_nothing() -> None:
    circuit = CLOSED
    for second in range(1000):
        circuit = heard(circuit, 1, failed=True, now=second / 10)
    assert not circuit.is_open


def test_failures_a_minute_apart_are_no_outage() -> None:
    circuit = CLOSED
    for receiver in range(100):
        circuit = heard(circuit, receiver, failed=True, now=receiver * POLICY.window)
    assert not circuit.is_open


def test_a_failure_counts_for_less_than_a_minute() -> None:
    circuit = CLOSED
    for receiver in range(POLICY.failures - 1):
        circuit = heard(circuit, receiver, failed=True, now=0.0)
    assert not heard(circuit, 99, failed=True, now=POLICY.window).is_open
    assert heard(circuit, 99, failed=True, now=POLICY.window - 0.001).is_open


def test_nothing_is_remembered_of_a_provider_once_no_failure_is_left() -> None:
    circuit = heard(CLOSED, 1, failed=True, now=0.0)
    assert heard(circuit, 2, failed=False, now=1.0) is not CLOSED
    assert heard(circuit, 1, failed=False, now=1.0) is CLOSED
    assert heard(circuit, 2, failed=False, now=POLICY.window) is CLOSED


def test_a_message_that_is_served_opens_nothing_although_what_was_served_before_is_too_old_to_count() -> None:
    circuit = heard(CLOSED, -1, failed=True, now=0.0)
    for receiver in range(3):
        circuit = heard(circuit, receiver, failed=False, now=0.0)
    for receiver in range(3, 3 + POLICY.failures):
        circuit = heard(circuit, receiver, failed=True, now=1.0)
    assert not circuit.is_open
    assert not heard(circuit, 99, failed=False, now=POLICY.window).is_open
    assert heard(circuit, 99, failed=True, now=POLICY.window).is_open


def test_a_provider_that_serves_every_second_one_stays_closed() -> None:
    circuit = CLOSED
    for receiver in range(1000):
        circuit = heard(circuit, receiver, failed=receiver % 2 == 0, now=receiver / 100)
    assert not circuit.is_open


def test_what_it_served_before_does_not_keep_it_closed_for_long() -> None:
    circuit = heard(CLOSED, -1, failed=True, now=0.0)  # one number is dead, so successes are noted as well
    for receiver in range(1000):
        circuit = heard(circuit, receiver, failed=False, now=receiver / 100)
    fails = 0
    while not circuit.is_open:
        fails += 1
        circuit = heard(circuit, 10_000 + fails, failed=True, now=10.0 + fails / 100)
    assert fails <= 2 * POLICY.failures


def test_an_answer_to_a_call_from_before_it_opened_says_nothing() -> None:
    circuit = opened(now=10.0)
    assert heard(circuit, 9, failed=False, now=11.0, began=9.0) is circuit


def test_one_probe_goes_and_the_next_one_waits_longer() -> None:
    circuit = opened()
    assert ask(circuit, 1, 9.0, POLICY)[0] is Way.AROUND
    way, circuit = ask(circuit, 1, 10.0, POLICY)
    assert way is Way.PROBE
    assert ask(circuit, 2, 11.0, POLICY)[0] is Way.AROUND, "one is under way"
    circuit = heard(circuit, 1, failed=True, now=12.0)
    assert ask(circuit, 2, 31.0, POLICY)[0] is Way.AROUND
    assert ask(circuit, 2, 32.0, POLICY)[0] is Way.PROBE


def test_a_probe_of_which_nothing_is_heard_holds_up_no_other_for_ever() -> None:
    _, circuit = ask(opened(), 1, 10.0, POLICY)
    assert ask(circuit, 2, 10.0 + POLICY.longest, POLICY)[0] is Way.PROBE


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Sent(), False),
        (Permanent("no such number"), False),
        (Retryable("503"), True),
        (Retryable("the token is wrong", AWAY), True),
        (Retryable("429", 1.0), None),
        (Retryable("429", POLICY.patience), None),
        (Retryable("429", POLICY.patience + 0.5), True),
        (Retryable("450 mailbox busy", recipient=True), None),
    ],
)
def test_what_a_call_says_of_its_provider(outcome: Outcome, expected: bool | None) -> None:
    assert says_it_fails(outcome, POLICY) is expected


@dataclass
class Oracle:
    """Remembers everything, and looks through all of it each time."""

    calls: list[tuple[int, float, bool]] = field(default_factory=list)
    since: float | None = None

    def hear(self, receiver: int, failed: bool, began: float, now: float) -> None:
        if self.since is not None:
            if began >= self.since and not failed:
                self.since, self.calls = None, []
            return
        self.calls.append((receiver, now, failed))
        last: dict[int, tuple[float, bool]] = {}
        for each, at, bad in self.calls:
            last.pop(each, None)
            last[each] = at, bad
        lately = [bad for at, bad in last.values() if now - at < POLICY.window]
        if not any(lately):
            self.calls = []
        lately = lately[-2 * POLICY.failures :]
        served = lately.count(False)
        if failed and lately.count(True) >= POLICY.failures and served / len(lately) <= 1 / POLICY.served:
            self.since, self.calls = now, []


STEPS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 5).map(bool), st.floats(0, 20), st.floats(0, 15)), max_size=80
)


@given(STEPS)
def test_it_is_open_exactly_when_the_whole_history_says_so(steps: list[tuple[int, bool, float, float]]) -> None:
    circuit, oracle, now = CLOSED, Oracle(), 0.0
    for receiver, failed, passes, took in steps:
        now += passes
        circuit = heard(circuit, receiver, failed=failed, now=now, began=now - took)
        oracle.hear(receiver, failed, now - took, now)
        assert circuit.opened == oracle.since
        assert len(circuit.heard) <= 2 * POLICY.failures


@given(st.lists(st.tuples(st.floats(0.01, 30), st.booleans()), max_size=60), st.floats(0, 0.999))
def test_probes_never_come_closer_together_than_half_their_pace(steps: list[tuple[float, bool]], chance: float) -> None:
    circuit, now, last = opened(), 0.0, 0.0
    for passes, answers in steps:
        now += passes
        way, circuit = ask(circuit, "a", now, POLICY)
        if way is Way.PROBE:
            assert now - last >= POLICY.probe / 2
            last = now
            if answers:
                circuit = hear(circuit, "a", failed=True, began=now, now=now, policy=POLICY, chance=chance)
        assert circuit.probe_at - now <= max(POLICY.probe_cap, POLICY.longest)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def registry(clock: Clock, told: list[str] | None = None, failures: int = 5) -> tuple[Circuits, CollectorRegistry]:
    metrics = Metrics()
    opened = (lambda: None) if told is None else (lambda: told.append("opened"))
    return Circuits(CircuitPolicy(failures), NotifyMetrics(metrics.registry), opened, clock=clock), metrics.registry


def fail(circuits: Circuits, provider: Provider, many: int = 5) -> None:
    for _ in range(many):
        circuits.learn(provider, uuid.uuid4(), DOWN, 0.0)


async def test_health_and_metrics_show_it_and_a_tenants_host_only_by_number() -> None:
    told: list[str] = []
    clock = Clock()
    circuits, metrics = registry(clock, told)
    await circuits.check()
    fail(circuits, SMS)
    fail(circuits, Provider(Channel.WEBHOOK, "org-a", "hooks.example.com"))
    assert told == ["opened", "opened"]
    assert circuits.take_opened() == [Channel.SMS, Channel.WEBHOOK]
    assert circuits.take_opened() == []
    clock.now = 32.0
    with pytest.raises(ProvidersFail) as error:
        await circuits.check()
    assert str(error.value) == "1 host(s) of webhook contact methods fail for many; sms has failed for many for 32 s"
    assert metrics.get_sample_value("tocsin_notify_circuits_open", {"channel": "sms"}) == 1
    circuits.learn(SMS, uuid.uuid4(), Sent(), 0.0)
    circuits.learn(Provider(Channel.WEBHOOK, "org-a", "hooks.example.com"), uuid.uuid4(), Sent(), 0.0)
    await circuits.check()
    assert metrics.get_sample_value("tocsin_notify_circuits_open", {"channel": "sms"}) == 0
    assert metrics.get_sample_value("tocsin_notify_circuits_opened_total", {"channel": "sms"}) == 1


def test_a_tenants_host_that_fails_is_no_other_tenants_matter() -> None:
    circuits, _ = registry(Clock())
    fail(circuits, Provider(Channel.WEBHOOK, "org-a", "hooks.example.com"))
    assert not circuits.is_open(Provider(Channel.WEBHOOK, "org-b", "hooks.example.com"))


async def test_memory_is_bounded_and_the_metrics_follow() -> None:
    circuits, metrics = registry(Clock())
    for number in range(MOST + 50):
        fail(circuits, Provider(Channel.WEBHOOK, "org-a", f"host-{number}"))
    assert len(circuits) == MOST
    assert not circuits.is_open(Provider(Channel.WEBHOOK, "org-a", "host-0"))
    assert metrics.get_sample_value("tocsin_notify_circuits_open", {"channel": "webhook"}) == MOST


async def test_what_no_page_asks_for_is_forgotten_after_an_hour() -> None:
    clock = Clock()
    circuits, _ = registry(clock)
    fail(circuits, SMS)
    clock.now = 3000.0
    assert circuits.way(SMS, uuid.uuid4()) is Way.PROBE
    clock.now = 6000.0
    with pytest.raises(ProvidersFail):
        await circuits.check()
    clock.now = 7000.0
    await circuits.check()
    assert not circuits.is_open(SMS)


def test_with_zero_it_never_opens() -> None:
    circuits, _ = registry(Clock(), failures=0)
    fail(circuits, SMS, many=1000)
    assert not circuits.any_open()


def test_what_is_looked_for_again_is_said_once_until_it_was_taken() -> None:
    told: list[str] = []
    circuits, _ = registry(Clock(), told)
    fail(circuits, SMS)
    circuits.look_again([Channel.SMS])
    circuits.look_again([])
    assert told == ["opened"]
    assert circuits.take_opened() == [Channel.SMS]
    circuits.look_again([Channel.SMS])
    assert told == ["opened", "opened"]
