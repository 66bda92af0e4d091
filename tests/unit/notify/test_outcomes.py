"""Outcomes of calls are written in batches."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from tocsin_kit.time_slices import yield_to_others
from tocsin_notify.app.delivery import outcomes
from tocsin_notify.app.delivery.calls import Finished
from tocsin_notify.app.delivery.outcomes import Outcomes
from tocsin_notify.app.delivery.slots import Limits, Slot, Slots
from tocsin_notify.domain.page import NORMAL, Channel, Kind


class _Written:
    """What was written, batch by batch."""

    def __init__(self) -> None:
        self.batches: list[list[Kind]] = []

    async def __call__(self, finished: list[Finished]) -> list[None]:
        self.batches.append([each.start.delivery.kind for each in finished])
        return [None] * len(finished)


def _finished(kind: Kind) -> Finished:
    start = SimpleNamespace(delivery=SimpleNamespace(kind=kind), slot=Slot("acme", Channel.EMAIL, NORMAL))
    return cast(Finished, SimpleNamespace(start=start))


async def test_messages_that_end_close_together_are_written_together_and_pages_do_not_wait_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outcomes, "_GATHER_SECONDS", 0.5)
    written, stop = _Written(), asyncio.Event()
    kept = Outcomes(written, stop, lambda _: False)
    await kept.finished(_finished(Kind.MESSAGE))
    assert written.batches == [[Kind.MESSAGE]], "one alone does not wait"
    waiting = []
    for _ in range(30):
        waiting.append(asyncio.create_task(kept.finished(_finished(Kind.MESSAGE))))
        await yield_to_others()
    await kept.finished(_finished(Kind.NEW_INCIDENT))
    assert written.batches[1:] == [[Kind.NEW_INCIDENT]]
    await asyncio.gather(*waiting)
    assert written.batches[2:] == [[Kind.MESSAGE] * 30]
    after = asyncio.create_task(kept.finished(_finished(Kind.MESSAGE)))
    await yield_to_others()
    assert len(written.batches) == 3, "it waits for those that follow it"
    await after
    stop.set()
    await kept.finished(_finished(Kind.MESSAGE))
    assert len(written.batches) == 5, "a stop waits for nothing"


async def test_messages_do_not_wait_while_others_wait_for_their_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "_GATHER_SECONDS", 60.0)
    slots = Slots(Limits(total=20, critical_reserve=0, per_org=6, rate=0.0), dict.fromkeys(Channel, 20))
    written = _Written()
    kept = Outcomes(written, asyncio.Event(), slots.is_scarce)
    await kept.finished(_finished(Kind.MESSAGE))
    for _ in range(3):
        slots.take(Slot("acme", Channel.EMAIL, NORMAL))
    async with asyncio.timeout(30):
        await kept.finished(_finished(Kind.MESSAGE))
    assert len(written.batches) == 2
