"""Partial updates (AIP-134) and etags (AIP-154)."""

from collections.abc import Collection
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.errors import FieldViolation, TocsinError, invalid
from tocsin_kit.rpc.call import note_before

ALL: Final = "*"


def update_paths(
    mask: FieldMask, source: Message, *, writable: Collection[str], field: str = "update_mask"
) -> tuple[str, ...]:
    """The paths an update writes: the mask's, or every populated writable field without a mask, or all for `*`.

    A path of the message that is not `writable` (a name, a time the server sets) is left out. A path that does not
    exist raises UPDATE_MASK_INVALID. A path below a writable one (`owner.email`) counts as writable.
    """
    if not mask.paths:
        return tuple(path for path in writable if _is_set(source, path))
    if ALL in mask.paths:
        return tuple(writable)
    for path in mask.paths:
        if not _exists(source.DESCRIPTOR, path):
            raise TocsinError(
                ErrorReason.ERROR_REASON_UPDATE_MASK_INVALID,
                f"{field}: there is no field {path}",
                metadata={"path": path},
                fields=(FieldViolation(field, f"there is no field {path}; writable are {', '.join(writable)}"),),
            )
    return tuple(
        path for path in dict.fromkeys(mask.paths) if any(path == w or path.startswith(f"{w}.") for w in writable)
    )


def apply_paths(target: Message, source: Message, paths: Collection[str]) -> None:
    """Copy each path from `source` to `target`: a list or map is replaced, an unset field is cleared."""
    for path in paths:
        *parents, name = path.split(".")
        into, given = target, source
        for parent in parents:
            into, given = getattr(into, parent), getattr(given, parent)
        into.ClearField(name)
        descriptor = given.DESCRIPTOR.fields_by_name[name]
        if descriptor.is_repeated:
            getattr(into, name).MergeFrom(getattr(given, name))
        elif descriptor.message_type is not None:
            if given.HasField(name):
                getattr(into, name).CopyFrom(getattr(given, name))
        elif not descriptor.has_presence or given.HasField(name):
            setattr(into, name, getattr(given, name))


def apply_update_mask(
    target: Message, source: Message, mask: FieldMask, *, writable: Collection[str], field: str = "update_mask"
) -> tuple[str, ...]:
    """`update_paths`, then `apply_paths`; returns the paths written. The former `target` is written to the audit log."""
    note_before(target)
    paths = update_paths(mask, source, writable=writable, field=field)
    apply_paths(target, source, paths)
    return paths


def etag(version: int) -> str:
    """The etag of a row's version."""
    return f"v{version}"


def require_etag(given: str, version: int, *, required: bool = False, field: str = "etag") -> None:
    """Raises ETAG_MISMATCH when `given` is not the current version's; an empty one passes unless `required`."""
    if not given:
        if required:
            raise invalid(field, "is required: send the etag of the resource as you read it")
        return
    if given != etag(version):
        raise _mismatch()


def _mismatch() -> TocsinError:
    return TocsinError(
        ErrorReason.ERROR_REASON_ETAG_MISMATCH,
        "the resource changed since this etag was read; read it again, then repeat the change",
    )


def _is_set(message: Message, path: str) -> bool:
    field = message.DESCRIPTOR.fields_by_name[path]
    if field.is_repeated:
        return len(getattr(message, path)) > 0
    if field.has_presence:
        return message.HasField(path)
    return bool(getattr(message, path) != field.default_value)


def _exists(descriptor: Any, path: str) -> bool:
    head, dot, rest = path.partition(".")
    field = descriptor.fields_by_name.get(head)
    if field is None:
        return False
    if not dot:
        return True
    return not field.is_repeated and field.message_type is not None and _exists(field.message_type, rest)
