"""Messages whose inner messages stay bytes: a batch is split by protobuf's own parser, and nothing is made of its items yet.

On the wire an inner message is bytes with their length before it, as a field of type `bytes` is (protobuf, "Message
Structure"). So a type with the same fields, one of which is `bytes` instead of a message, reads and writes the same messages.
What is wrong inside of an item is found when the item is read by itself.
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

_VARINT = 7
_MORE = 0x80


@cache
def unopened(descriptor: Descriptor, field: str) -> type[Message]:
    """The message type whose `field`, a message or a list of messages, holds the bytes of each. It keeps the annotations."""
    proto = descriptor_pb2.FileDescriptorProto()
    descriptor.file.CopyToProto(proto)
    del proto.message_type[:]
    del proto.enum_type[:]
    del proto.service[:]
    del proto.extension[:]
    proto.name = f"unopened/{descriptor.full_name}.{field}.proto"
    proto.package = f"{descriptor.file.package}.unopened_{field}"
    message = proto.message_type.add()
    descriptor.CopyToProto(message)
    for each in message.field:
        if each.name == field:
            each.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
            each.ClearField("type_name")
    pool = descriptor_pool.Default()
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{proto.package}.{message.name}"))


def enclosed(number: int, data: bytes) -> bytes:
    """The bytes of a message of which only the inner message with this field number, below 16, is set."""
    assert 0 < number < 16, "the tag is one byte"
    size = len(data)
    if size < _MORE:
        return bytes((number << 3 | 2, size)) + data
    length = bytearray((number << 3 | 2,))
    while size >= _MORE:
        length.append(size & (_MORE - 1) | _MORE)
        size >>= _VARINT
    length.append(size)
    return bytes(length) + data


def takes_bytes(method: Any) -> Any:
    """Marks a unary method that is given the bytes of its request, within the size limit, and answers with bytes.

    It reads and validates them itself: what it recognises by its bytes was validated before.
    """
    method.takes_bytes = True
    return method
