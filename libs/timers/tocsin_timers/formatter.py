"""Taskiq messages as protobuf."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from pydantic_core import PydanticSerializationError, to_jsonable_python
from taskiq.abc.formatter import TaskiqFormatter
from taskiq.labels import LabelType, prepare_label
from taskiq.message import BrokerMessage, TaskiqMessage

from tocsin_timers.errors import MessageUnreadable
from tocsin_timers.v1.envelope_pb2 import Envelope, Value

_INTEGERS: Final = range(-(2**63), 2**63)


class ProtobufFormatter(TaskiqFormatter):
    """Taskiq's formatter: `tocsin_timers.v1.Envelope` on the wire.

    A protobuf message among the arguments travels as itself (full type name and bytes) and arrives as an object of the
    same class; its generated module must be imported where it is read. None, booleans, whole numbers up to 64 bits,
    floats, text, bytes, lists and mappings with text keys keep their kind; what else Pydantic can turn into JSON
    (dates, UUIDs, enums, sets) arrives as that JSON value and is parsed again by the task's annotations.
    """

    def dumps(self, message: TaskiqMessage) -> BrokerMessage:
        """Raises TypeError for an argument that has no such form."""
        envelope = Envelope(task_id=message.task_id, task_name=message.task_name)
        for argument in message.args:
            _write(envelope.args.add(), argument)
        for name, argument in message.kwargs.items():
            _write(envelope.kwargs[name], argument)
        kinds = message.labels_types or {}
        for name, label in message.labels.items():
            kind = kinds.get(name, 0)
            if not isinstance(label, str):
                label, kind = prepare_label(label)
            entry = envelope.labels[name]
            entry.value = label
            if kind != LabelType.STR:
                entry.type = kind
        return BrokerMessage(
            task_id=message.task_id,
            task_name=message.task_name,
            message=envelope.SerializeToString(),
            labels=message.labels,
        )

    def loads(self, message: bytes) -> TaskiqMessage:
        """Raises MessageUnreadable when these are no envelope, or one with a message of an unknown type."""
        try:
            envelope = Envelope.FromString(message)
        except DecodeError as error:
            raise MessageUnreadable(f"not an envelope: {error}") from error
        if not envelope.task_name:
            raise MessageUnreadable("an envelope without a task name")
        labels, kinds = {}, {}
        for name, label in envelope.labels.items():
            labels[name] = label.value
            if label.type:
                kinds[name] = label.type
        return TaskiqMessage(
            task_id=envelope.task_id,
            task_name=envelope.task_name,
            labels=labels,
            labels_types=kinds,
            args=[_read(argument) for argument in envelope.args],
            kwargs={name: _read(argument) for name, argument in envelope.kwargs.items()},
        )


def _write(target: Value, value: Any) -> None:
    if isinstance(value, Message):
        target.message.type = value.DESCRIPTOR.full_name
        target.message.data = value.SerializeToString()
    elif value is None:
        # In a map an untouched Value would not exist at all.
        target.SetInParent()
    elif isinstance(value, bool):
        target.boolean = value
    elif isinstance(value, int) and type(value) is int:
        if value not in _INTEGERS:
            raise TypeError(f"{value} does not fit into 64 bits: pass it as text")
        target.integer = value
    elif type(value) is float:
        target.number = value
    elif type(value) is str:
        target.text = value
    elif isinstance(value, bytes):
        target.binary = value
    elif type(value) in (list, tuple):
        target.list.SetInParent()
        for item in value:
            _write(target.list.items.add(), item)
    elif isinstance(value, Mapping):
        target.map.SetInParent()
        for name, field in value.items():
            if not isinstance(name, str):
                raise TypeError(f"a mapping with the key {name!r}: only text keys can travel")
            _write(target.map.fields[name], field)
    else:
        try:
            plain = to_jsonable_python(value)
        except PydanticSerializationError as error:
            raise TypeError(f"{type(value).__name__} cannot travel: {error}") from error
        _write(target, plain)


def _read(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case None:
            return None
        case "message":
            try:
                return _message_class(value.message.type).FromString(value.message.data)
            except KeyError as error:
                raise MessageUnreadable(f"unknown message type {value.message.type!r}") from error
            except DecodeError as error:
                raise MessageUnreadable(f"not a {value.message.type}: {error}") from error
        case "list":
            return [_read(item) for item in value.list.items]
        case "map":
            return {name: _read(field) for name, field in value.map.fields.items()}
        case kind:
            return getattr(value, kind)


@lru_cache(maxsize=1024)
def _message_class(name: str) -> type[Message]:
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
