"""Many messages for one task, encoded at a fraction of the price of one at a time."""

from typing import Any, NamedTuple

from google.protobuf.message import Message

from tocsin_timers.broker import Callable_, TimerBroker
from tocsin_timers.v1.envelope_pb2 import Envelope


class Encoded(NamedTuple):
    """What arming needs of a BrokerMessage, without the price of making one."""

    message: bytes
    labels: dict[str, Any]


class Encoder:
    """Encodes calls of one task whose only argument is a protobuf message: `encoder(message)`.

    What is the same for all of them (name, labels) is encoded once and the argument put behind it: concatenated
    protobuf encodings of one type are the encoding of the merged message (protobuf's encoding guide, "Last One Wins").
    The bytes mean what those of `TimerBroker.encode(task, message, task_id="", labels=labels)` do.
    """

    def __init__(self, broker: TimerBroker, task: Callable_, labels: dict[str, Any] | None = None) -> None:
        bare = broker.encode(task, task_id="", labels=labels)
        self._labels = bare.labels
        self._head = bare.message
        self._tail = Envelope()
        self._argument = self._tail.args.add().message

    def __call__(self, message: Message) -> Encoded:
        """One call, for `Timer`. The message may be changed and used again afterwards."""
        argument = self._argument
        argument.type = message.DESCRIPTOR.full_name
        argument.data = message.SerializeToString()
        return Encoded(self._head + self._tail.SerializeToString(), self._labels)
