"""Calendar imports of the contract to rows and back."""

from typing import Final

from tocsin.escalation.v1 import calendar_service_pb2 as pb
from tocsin.escalation.v1 import schedule_pb2
from tocsin_kit.ids import new_id
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_escalation.domain.schedules.model import Mode
from tocsin_escalation.store.schedules.calendar_imports import ImportRow

WRITABLE: Final = ("url", "display_name", "rank", "mode", "time_zone", "names")
"""Of an import, by people."""


def import_from(message: pb.CalendarImport, author: str) -> ImportRow:
    """An import of the contract, with a new id and without its URL."""
    return ImportRow(
        id=new_id(),
        schedule_id=message.schedule.removeprefix("schedules/"),
        display_name=message.display_name,
        url=b"",
        host="",
        time_zone=message.time_zone,
        rank=message.rank,
        mode=Mode.ADD if message.mode == schedule_pb2.LAYER_MODE_ADD else Mode.MASK,
        names={text: user.removeprefix("users/") for text, user in message.names.items()},
        author=author,
    )


def import_to(row: ImportRow) -> pb.CalendarImport:
    """An import for the contract, without its URL."""
    return pb.CalendarImport(
        name=f"calendarImports/{row.id}",
        schedule=f"schedules/{row.schedule_id}",
        display_name=row.display_name,
        rank=row.rank,
        mode=schedule_pb2.LAYER_MODE_ADD if row.mode is Mode.ADD else schedule_pb2.LAYER_MODE_MASK,
        time_zone=row.time_zone,
        names={text: f"users/{user}" for text, user in row.names.items()},
        host=row.host,
        author=row.author,
        create_time=timestamp(row.create_time),
        fetch_time=timestamp(row.fetch_time),
        read_time=timestamp(row.read_time),
        error=row.error,
        shift_count=len(row.shifts),
        cut=row.cut,
        unmatched=list(row.unmatched),
        etag=etag(row.version),
    )
