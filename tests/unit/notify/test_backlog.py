"""Which call that ends begins another round of deliveries."""

import pytest
from tocsin_notify.app.delivery.backlog import Backlog
from tocsin_notify.app.delivery.slots import Slot
from tocsin_notify.domain.page import CRITICAL, DIGESTS, NORMAL, SLOW, Channel
from tocsin_testkit.busy import until


class Nudges:
    """Counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def slot(priority: int, channel: Channel = Channel.EMAIL) -> Slot:
    return Slot("acme", channel, priority)


@pytest.mark.parametrize("priority", [CRITICAL, NORMAL, SLOW[CRITICAL]])
def test_pages_that_wait_follow_any_call_that_ends(priority: int) -> None:
    nudges = Nudges()
    backlog = Backlog(nudges)
    backlog.of(NORMAL).any = True
    assert backlog.waits
    backlog.slot_freed(slot(priority))
    assert nudges.count == 1


def test_what_waits_for_a_channel_follows_its_calls_alone() -> None:
    nudges = Nudges()
    backlog = Backlog(nudges)
    backlog.of(NORMAL).full.add(Channel.EMAIL)
    backlog.slot_freed(slot(NORMAL, Channel.SMS))
    assert nudges.count == 0
    backlog.slot_freed(slot(NORMAL))
    assert nudges.count == 1


async def test_digests_that_wait_follow_digests_together_and_hold_up_nothing_that_is_told_of_pages() -> None:
    nudges = Nudges()
    backlog = Backlog(nudges)
    backlog.of(DIGESTS).full.add(Channel.EMAIL)
    assert not backlog.waits
    backlog.slot_freed(slot(NORMAL))
    assert nudges.count == 0
    for _ in range(5):
        backlog.slot_freed(slot(DIGESTS))
    await until(lambda: nudges.count)
    for _ in range(3):
        backlog.slot_freed(slot(DIGESTS))
    await until(lambda: nudges.count > 1)
    assert nudges.count == 2, "one for all that ended together"
    backlog.forget()
    backlog.slot_freed(slot(DIGESTS))
    backlog.of(NORMAL).any = True
    backlog.slot_freed(slot(DIGESTS))
    assert nudges.count == 3, "pages do not wait for them"
