"""Calls that are due together begin a few at a time."""

from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry
from tocsin_notify.app.delivery.calls import Calls, Start
from tocsin_notify.app.delivery.permits import Permit
from tocsin_notify.metrics import NotifyMetrics


async def test_others_go_on_between_a_few_calls_and_the_next_ones() -> None:
    happened: list[str] = []

    class Recorded(Calls):
        def _begin(self, start: Start, permit: Permit) -> None:
            happened.append("call")
            permit.settle()

    async def others() -> None:
        happened.append("others")

    nothing: Any = None
    calls = Recorded(
        *(nothing, nothing, nothing, nothing, nothing, NotifyMetrics(CollectorRegistry())),
        begins=nothing,
        finished=nothing,
    )
    starts = [cast(Start, SimpleNamespace(delivery=None)) for _ in range(20)]
    await calls.start(starts, 0.0, give_way=others)
    assert happened == [*["call"] * 8, "others", *["call"] * 8, "others", *["call"] * 4]
