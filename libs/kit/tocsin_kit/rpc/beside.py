"""Messages beside the answer to a call, for callers that are Tocsin's own services.

An answer is the same for every caller. What only a service can use goes into the trailing metadata of its call, as a message of
the contracts: a service that does not know it reads only the answer.
"""

from collections.abc import Iterable
from typing import Final, TypeVar

from google.protobuf.message import Message

from tocsin_kit.auth import INTERNAL
from tocsin_kit.rpc.call import find_call

M = TypeVar("M", bound=Message)

MOST_BYTES: Final = 4096
"""gRPC refuses an answer whose metadata have more than 8 KiB."""


def tell_service(message: Message) -> bool:
    """Send the message beside the answer to the current call. False: the caller is no service of Tocsin, or the message is too
    large, with those that were sent before; then the caller does not get it.

    The caller gets several messages of one kind as one, merged as protobuf does it: lists are joined.

    A service that acts for a person has a credential of the person's tenant with the scope `internal`, which gives it no further
    rights there. Only a service can make one: issuers of tenants cannot claim it.
    """
    call = find_call()
    if call is None or INTERNAL not in call.principal.scopes:
        return False
    if sum(len(value) for _, value in call.beside) + message.ByteSize() > MOST_BYTES:
        return False
    call.beside = (*call.beside, as_metadata(message))
    return True


def as_metadata(message: Message) -> tuple[str, bytes]:
    """The message as one entry of a call's trailing metadata."""
    return _key(type(message)), message.SerializeToString()


def told_beside(metadata: Iterable[tuple[str, str | bytes]] | None, kind: type[M]) -> M | None:
    """The message of this kind in the trailing metadata of a call, merged if there are several; None if there is none."""
    key = _key(kind)
    found = [value for name, value in metadata or () if name == key and isinstance(value, bytes)]
    if not found:
        return None
    told = kind()
    for value in found:
        told.MergeFromString(value)
    return told


def _key(kind: type[Message]) -> str:
    return f"{kind.DESCRIPTOR.full_name.lower()}-bin"
