"""The quick encoding means what the slow one does."""

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin_timers import Encoder, TimerBroker


@pytest.mark.parametrize("labels", [None, {"priority": "critical"}, {"attempts": 3, "queue": "x"}])
def test_both_encodings_say_the_same(labels: dict[str, Any] | None) -> None:
    broker = TimerBroker("redis://127.0.0.1:1/0", "encoder")

    @broker.task(task_name="look", tint="blue")
    async def look(message: Timestamp) -> None:
        raise AssertionError("never run")

    encoder = Encoder(broker, look, labels)
    struct = Struct()
    struct.update({"long": "x" * 300})
    for message in (Timestamp(seconds=5), Timestamp(), struct, Timestamp(nanos=7)):
        for task_id in ("", "pages/1"):
            quick = encoder(message, task_id)
            slow = broker.encode(look, message, task_id=task_id, labels=labels)
            assert broker.formatter.loads(quick.message) == broker.formatter.loads(slow.message)
            assert (quick.labels, quick.task_id) == (slow.labels, slow.task_id)
