"""A transaction that decides many incidents does not hold up the calls of other tenants."""

import asyncio
from typing import Any

import pytest
from tocsin_escalation.app.incidents.apply_events import Result, apply_events
from tocsin_escalation.domain.decide import decide

from tests.store.escalation.recorders import Desk


async def test_other_work_goes_on_between_the_incidents_of_a_storm(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    turns, seen = 0, list[int]()

    async def other_work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def noted(*args: Any) -> Any:
        seen.append(turns)
        return decide(*args)

    monkeypatch.setattr("tocsin_escalation.app.incidents.advance.decide", noted)
    monkeypatch.setattr("tocsin_escalation.app.incidents.advance._SLICE_SECONDS", 0.0)
    beside = asyncio.create_task(other_work())
    try:
        storm = [desk.opening(title=f"{number} down") for number in range(20)]
        assert await apply_events(desk.db, desk.effects, storm) == [Result.APPLIED] * 20
    finally:
        beside.cancel()
    assert len(set(seen)) == len(storm), "it had its turn between two incidents each"
