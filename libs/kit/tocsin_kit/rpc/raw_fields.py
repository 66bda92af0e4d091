"""Messages whose inner messages stay bytes: a batch is split by protobuf's own parser, and nothing is made of its items yet.

On the wire an inner message is bytes with their length before it, as a field of type `bytes` is (protobuf, "Message
Structure"). So a type with the same fields, one of which is `bytes` instead of a message, reads and writes the same messages.
What is wrong inside of an item is found when the item is read by itself. In the same way a type with some of the fields reads
those of a message, and the others are unknown to it.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, Final

from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

_VARINT: Final = 7
_MORE: Final = 0x80
_Field: Final = descriptor_pb2.FieldDescriptorProto


@cache
def with_raw_field(descriptor: Descriptor, field: str) -> type[Message]:
    """The message type whose `field`, a message or a list of messages, holds the bytes of each. It keeps the annotations."""

    def change(message: descriptor_pb2.DescriptorProto) -> None:
        for each in message.field:
            if each.name == field:
                _close(each)

    return _like(descriptor, f"raw_{field}", change)


def partial_type(
    descriptor: Descriptor,
    name: str,
    fields: Iterable[str],
    inner: Mapping[str, type[Message]] | None = None,
    *,
    closed: bool = False,
) -> type[Message]:
    """The message type with these fields alone, whose annotations they keep; rules about the whole message are left out.

    `inner`: fields that hold a message of another type. `closed`: the other messages stay bytes, each entry of a map is one of a
    list, and enum values are numbers. `name` tells parts of one type apart.
    """
    wanted, types = frozenset(fields), {field: type_.DESCRIPTOR for field, type_ in (inner or {}).items()}

    def change(message: descriptor_pb2.DescriptorProto) -> None:
        kept = [each for each in message.field if each.name in wanted]
        for each in kept:
            if each.name in types:
                each.type_name = f".{types[each.name].full_name}"
            elif closed and each.type == _Field.TYPE_MESSAGE:
                _close(each)
            elif closed and each.type == _Field.TYPE_ENUM:
                each.type = _Field.TYPE_INT32
                each.ClearField("type_name")
        del message.field[:]
        message.field.extend(kept)
        rules: Any = message.options.Extensions[validate_pb2.message]
        rules.Clear()

    return _like(descriptor, name, change, *(each.file.name for each in types.values()))


def _close(field: descriptor_pb2.FieldDescriptorProto) -> None:
    field.type = _Field.TYPE_BYTES
    field.ClearField("type_name")


def _like(
    descriptor: Descriptor, name: str, change: Callable[[descriptor_pb2.DescriptorProto], None], *files: str
) -> type[Message]:
    """A message type that is what `change` makes of the type. `files`: what it needs beside the files that the type needs."""
    proto = descriptor_pb2.FileDescriptorProto()
    descriptor.file.CopyToProto(proto)
    del proto.message_type[:]
    del proto.enum_type[:]
    del proto.service[:]
    del proto.extension[:]
    proto.name = f"{name}/{descriptor.full_name}.proto"
    proto.package = f"{descriptor.file.package}.{name}"
    proto.dependency.extend(files)
    message = proto.message_type.add()
    descriptor.CopyToProto(message)
    change(message)
    pool = descriptor_pool.Default()
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{proto.package}.{message.name}"))


def length_delimited(number: int, data: bytes) -> bytes:
    """The bytes of a message of which only the inner message with this field number, below 16, is set."""
    return _head(number, len(data)) + data


@lru_cache(4096)
def _head(number: int, size: int) -> bytes:
    """Messages that are put together by the thousand are alike."""
    assert 0 < number < 16, "the tag is one byte"
    head = bytearray((number << 3 | 2,))
    while size >= _MORE:
        head.append(size & (_MORE - 1) | _MORE)
        size >>= _VARINT
    head.append(size)
    return bytes(head)


def takes_bytes(method: Any) -> Any:
    """Marks a unary method that is given the bytes of its request, within the size limit, and answers with bytes.

    It reads and validates them itself: what it recognises by its bytes was validated before.
    """
    method.takes_bytes = True
    return method
