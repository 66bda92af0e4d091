"""Each option of escalation's queue makes a difference to what it is about, without a restart."""

from datetime import timedelta

import pytest
from tocsin.queue.v1 import task_pb2
from tocsin_escalation.settings import EscalationSettings
from tocsin_escalation.wiring.queue import follow_options, queue_options
from tocsin_kit.tasks.journal import Journal
from tocsin_timers import TimerBroker, Worker

from tests.store.escalation.recorders import Desk
from tests.unit.kit.test_journal import Away, noted


def choose(desk: Desk, worker: Worker, **fields: float) -> Journal:
    """What a row with these options does to a replica that runs; its journal. Pauses are seconds."""
    live = queue_options(EscalationSettings.model_construct(worker_concurrency=200))
    journal = Journal("escalation", Away(), (OSError,))
    follow_options(live, desk.effects.retries, worker, journal)
    chosen = type(live.defaults)()
    for name, value in fields.items():
        if name.endswith("backoff"):
            getattr(chosen, name).FromTimedelta(timedelta(seconds=value))
        else:
            setattr(chosen, name, int(value))
    live.take(chosen, 1)
    return journal


@pytest.fixture
def worker() -> Worker:
    return Worker(TimerBroker("redis://127.0.0.1:1/0", queue="unused"), concurrency=200)


async def fails_once(desk: Desk) -> tuple[float, float, float]:
    """How long the timer of a broken incident waits for its next try, and how often its trouble was told loudly.

    Seconds from the beginning of the sweep, and from its end: what the sweep takes on this machine is no part of the pause.
    """
    incident = await desk.opens()
    await desk.passes(minutes=5)
    told = desk.effects.metrics.timers_keep_failing._value.get()
    async with desk.db.system() as tx:
        await tx.execute("""UPDATE escalations SET policy = '{"levels": 1}' WHERE incident_id = $1""", incident)
        began = await tx.now()
    await desk.sweep()
    async with desk.db.system() as tx:
        retry = await tx.fetchval("SELECT retry_time FROM timers WHERE incident_id = $1", incident)
        ended = await tx.now()
    told = desk.effects.metrics.timers_keep_failing._value.get() - told
    return (retry - began).total_seconds(), (retry - ended).total_seconds(), told


async def test_attempts_and_pauses_of_timers(desk: Desk, worker: Worker) -> None:
    most, least, told = await fails_once(desk)
    assert (most > 2, least <= 5, told) == (True, True, 0), "the third failure is told"
    choose(desk, worker, attempts=1, backoff=60)
    most, least, told = await fails_once(desk)
    assert (most > 25, least <= 60, told) == (True, True, 1)
    choose(desk, worker, backoff=60, most_backoff=60)
    assert desk.effects.retries.most_backoff == 60


def test_timers_at_once(desk: Desk, worker: Worker) -> None:
    choose(desk, worker, concurrency=7)
    assert worker._concurrency == 7


async def test_finished_tasks_that_are_kept(desk: Desk, worker: Worker) -> None:
    journal = choose(desk, worker, keep_completed=3, keep_failed=2)
    for number in range(9):
        for kind in (task_pb2.TASK_CHANGE_KIND_COMPLETED, task_pb2.TASK_CHANGE_KIND_FAILED):
            journal.note(noted(kind, after=number))
    await journal.send()
    assert [len((await journal.newest(failed=failed))[0]) for failed in (False, True)] == [3, 2]
