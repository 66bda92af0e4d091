"""The look at what waits for a provider whose circuit has opened, while the database has no answer."""

import uuid
from typing import Any

from prometheus_client import CollectorRegistry
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError
from tocsin_notify.app.delivery.circuits import Circuits, Provider
from tocsin_notify.app.delivery.go_around import GoAround
from tocsin_notify.domain.attempt import Retryable, RetryPolicy
from tocsin_notify.domain.circuit import CircuitPolicy
from tocsin_notify.domain.page import Channel
from tocsin_notify.metrics import NotifyMetrics


class _Away:
    """A database that cannot be reached."""

    asked = 0

    def system(self) -> Any:
        self.asked += 1
        raise TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "away")


async def test_a_look_that_fails_is_tried_again_with_the_next_round_and_stops_nothing() -> None:
    away: Any = _Away()
    unused: Any = None
    metrics = NotifyMetrics(CollectorRegistry())
    circuits = Circuits(CircuitPolicy(), metrics)
    go_around = GoAround(away, circuits, unused, metrics, RetryPolicy())
    assert not await go_around.waiting()
    assert away.asked == 0, "nothing has opened"
    for _ in range(20):
        circuits.learn(Provider(Channel.SMS), uuid.uuid4(), Retryable("503"), 0.1)
    assert circuits.any_open()
    for looks in (1, 2):
        assert not await go_around.waiting(), "the round ends; the next one comes with the sweep"
        assert away.asked == looks
