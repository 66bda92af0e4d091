"""Many messages for one task, encoded at a fraction of the price of one at a time."""

from typing import Any, Final

from google.protobuf.message import Message

from tocsin_timers.broker import Callable_, TimerBroker
from tocsin_timers.encoded import Encoded
from tocsin_timers.v1.envelope_pb2 import Envelope

MOST_HEADS: Final = 1024
"""Messages of more lengths than this are encoded anew now and then: the cache must not grow with what is sent."""


class Encoder:
    """Encodes calls of one task whose only argument is a protobuf message: `encoder(message, task_id)`.

    Everything before the argument's own bytes depends on nothing but their number: it is encoded once for each, and the
    argument put behind it. That is sound because concatenated protobuf encodings of one type are the encoding of the
    merged message (protobuf's encoding guide, "Last One Wins"), and the argument is the last field of the second one.
    The bytes mean what those of `TimerBroker.encode(task, message, task_id=task_id, labels=labels)` do.
    """

    def __init__(self, broker: TimerBroker, task: Callable_, labels: dict[str, Any] | None = None) -> None:
        bare = broker.encode(task, task_id="", labels=labels)
        self._labels = bare.labels
        self._head = bare.message
        self._heads: dict[tuple[type[Message], int], bytes] = {}

    def __call__(self, message: Message, task_id: str = "") -> Encoded:
        """One call, for `Timer` or `kick_many`. The message may be changed and used again afterwards."""
        data = message.SerializeToString()
        head = self._heads.get((message.__class__, len(data)))
        if head is None:
            head = self._head_of(message, data)
        named = Envelope(task_id=task_id).SerializeToString() if task_id else b""
        return Encoded(named + head + data, self._labels, task_id)

    def _head_of(self, message: Message, data: bytes) -> bytes:
        tail = Envelope()
        argument = tail.args.add().message
        argument.type = message.DESCRIPTOR.full_name
        argument.data = data
        whole = self._head + tail.SerializeToString()
        if len(self._heads) >= MOST_HEADS:
            self._heads.clear()
        head = self._heads[(message.__class__, len(data))] = whole[: len(whole) - len(data)]
        return head
