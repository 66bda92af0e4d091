"""What waits for a provider is woken when it serves again, and not each time that a bad one serves once."""

from uuid import uuid4

from tocsin_notify.app.delivery.circuits import Provider
from tocsin_notify.app.delivery.served_again import MOST_PROVIDERS, MOST_WAITING, Call, ServedAgain
from tocsin_notify.domain.page import Channel

from tests.unit.notify.test_circuit import Clock

SMS, HOST = Provider(Channel.SMS), Provider(Channel.WEBHOOK, "org", "example.com:443")


def call(began: float, provider: Provider = SMS) -> Call:
    return Call(provider, "org", uuid4(), began)


def test_the_first_call_that_is_served_wakes_all_that_wait_for_its_provider() -> None:
    again = ServedAgain(Clock())
    waiting, elsewhere = [call(1), call(2)], call(1, HOST)
    again.failed([*waiting, elsewhere])
    assert again.served([call(3)]) == [("org", each.notification) for each in waiting]
    assert again.served([call(4)]) == []
    assert again.served([call(2, HOST)]) == [("org", elsewhere.notification)]


def test_a_call_that_began_before_the_failed_one_says_nothing() -> None:
    again = ServedAgain(Clock())
    late = call(5)
    again.failed([late])
    assert again.served([call(4)]) == []
    assert again.served([late._replace(began=6)]) == [], "it is the one that was served"
    assert again.served([call(7)]) == []


def test_a_provider_that_serves_every_second_call_wakes_less_and_less() -> None:
    clock = Clock()
    again = ServedAgain(clock)
    woken = 0
    for _ in range(600):
        again.failed([call(clock.now)])
        clock.now += 0.1
        woken += bool(again.served([call(clock.now)]))
    assert woken <= 7, "within a minute"
    clock.now += 120
    again.failed([call(clock.now)])
    clock.now += 1
    assert again.served([call(clock.now)]), "it was well in between"


def test_memory_is_bounded() -> None:
    again = ServedAgain(Clock())
    again.failed(call(1) for _ in range(MOST_WAITING + 10))
    assert len(again.served([call(2)])) == MOST_WAITING
    again.failed(call(1, Provider(Channel.WEBHOOK, "org", str(number))) for number in range(MOST_PROVIDERS + 1))
    assert again.served([call(2, Provider(Channel.WEBHOOK, "org", "0"))]) == []
