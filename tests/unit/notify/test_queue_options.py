"""Each option of notify's queue makes a difference to what it is about, without a restart."""

from collections.abc import Callable
from datetime import timedelta
from itertools import takewhile
from typing import Any, NamedTuple

import pytest
from tocsin.queue.v1 import task_pb2
from tocsin.queue.v1.queue_options_pb2 import QueueOptions
from tocsin_kit.budgets import Budgets, per_minute
from tocsin_kit.metrics import Metrics
from tocsin_kit.tasks.journal import Journal
from tocsin_kit.tasks.options import LiveOptions
from tocsin_notify.app.delivery.slots import NOTIFICATIONS, Limits, Slot, Slots
from tocsin_notify.domain.attempt import Retryable, RetryIn, RetryPolicy, judge
from tocsin_notify.domain.page import CRITICAL, NORMAL, Channel
from tocsin_notify.store.queues import QUEUE
from tocsin_notify.wiring.queue import follow_options

from tests.unit.kit.test_journal import Away, noted


class Queue(NamedTuple):
    """What works by the options."""

    policy: RetryPolicy
    slots: Slots
    journal: Journal

    def attempts(self) -> int:
        """How often a page is tried through one method."""
        return 1 + len([*takewhile(lambda tries: self.pause(tries) is not None, range(1, 100))])

    def pause(self, tries: int) -> float | None:
        """The longest one after so many failures, in seconds."""
        verdict = judge(Retryable("busy"), tries, self.policy, 0.999_999)
        return round(verdict.seconds, 1) if isinstance(verdict, RetryIn) else None

    def calls(self, priority: int) -> int:
        """How many begin at once, of as many tenants."""
        return sum(self.slots.take(Slot(f"org-{number}", Channel.CONSOLE, priority)) for number in range(1000))

    def of_one_tenant(self) -> int:
        """How many calls of one tenant begin, one after the other."""
        one, count = Slot("acme", Channel.CONSOLE, NORMAL), 0
        while count < 1000 and self.slots.take(one):
            self.slots.give_back(one)
            count += 1
        return count

    async def kept(self, *, failed: bool) -> int:
        """How many changes there are to look at."""
        kind = task_pb2.TASK_CHANGE_KIND_DEAD if failed else task_pb2.TASK_CHANGE_KIND_COMPLETED
        for number in range(30):
            self.journal.note(noted(kind, after=number))
        await self.journal.send()
        return len((await self.journal.newest(failed=failed))[0])


def queue(**chosen: float) -> Queue:
    """One that runs by its defaults, and has just read a row with these options. Pauses are seconds."""
    budgets = Budgets((per_minute(NOTIFICATIONS, 200),), Metrics(), clock=lambda: 0.0)
    policy = RetryPolicy(attempts=5, base=2, cap=300)
    slots = Slots(Limits(total=20, critical_reserve=5, per_org=50, rate=0), dict.fromkeys(Channel, 1000), budgets)
    journal = Journal(QUEUE, Away(), (OSError,))
    defaults = made(
        attempts=5, backoff=2, most_backoff=300, keep_completed=20, keep_failed=20,
        rate_per_minute=200, concurrency=20, urgent_reserve=5,
    )  # fmt: skip
    live = LiveOptions(QUEUE, defaults)
    follow_options(live, policy, slots, budgets, journal)
    journal.keep(20, 20)
    live.take(made(**chosen), 1)
    return Queue(policy, slots, journal)


def made(**fields: float) -> QueueOptions:
    options = QueueOptions()
    for name, value in fields.items():
        if name.endswith("backoff"):
            getattr(options, name).FromTimedelta(timedelta(seconds=value))
        else:
            setattr(options, name, int(value))
    return options


@pytest.mark.parametrize(
    ("option", "look", "before", "after"),
    [
        ({"attempts": 2}, Queue.attempts, 5, 2),
        ({"backoff": 10}, lambda queue: queue.pause(1), 2, 10),
        ({"most_backoff": 3}, lambda queue: queue.pause(4), 16, 3),
        ({"rate_per_minute": 100}, Queue.of_one_tenant, 200, 100),
        ({"concurrency": 10}, lambda queue: queue.calls(CRITICAL), 20, 10),
        ({"concurrency": 10}, lambda queue: queue.calls(NORMAL), 15, 5),
        ({"urgent_reserve": 12}, lambda queue: queue.calls(NORMAL), 15, 8),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_changes_what_it_is_about(
    option: dict[str, float], look: Callable[[Queue], Any], before: float, after: float
) -> None:
    assert (look(queue()), look(queue(**option))) == (before, after)


async def test_as_many_finished_tasks_are_kept_as_the_options_say() -> None:
    assert await queue().kept(failed=False) == await queue().kept(failed=True) == 20
    assert await queue(keep_completed=7).kept(failed=False) == 7
    assert await queue(keep_failed=0).kept(failed=True) == 0


def test_what_is_urgent_waits_for_no_rate() -> None:
    busy = queue(rate_per_minute=10)
    assert busy.of_one_tenant() == 10
    assert busy.slots.take(Slot("acme", Channel.CONSOLE, CRITICAL))
