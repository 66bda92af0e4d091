"""Overrides, fixed periods and absences of the contract to rows and back."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin.escalation.v1 import schedule_service_pb2
from tocsin_kit.errors import invalid
from tocsin_kit.ids import new_id
from tocsin_kit.rpc.listing import made_in_slices
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.domain.schedules.model import FixedShift, Scope
from tocsin_escalation.rpc import schedule_mapping as mapping
from tocsin_escalation.store.schedules.absences import AbsenceRow
from tocsin_escalation.store.schedules.fixed_periods import FixedPeriodRow
from tocsin_escalation.store.schedules.overrides import OverrideRow

_R = TypeVar("_R", OverrideRow, FixedPeriodRow)

_SCOPES: Final = {"layer_id": Scope.LAYER, "user": Scope.PERSON, "beside": Scope.BESIDE}
"""By the field that says what an override replaces; without one it is the whole schedule."""


def override_from(message: pb.Override, field: str = "override") -> OverrideRow:
    """An override of the contract, which `field` holds, with a new id. Raises INVALID_FIELD for times that cannot be."""
    scope = _SCOPES.get(message.WhichOneof("of") or "", Scope.SCHEDULE)
    if scope is Scope.BESIDE and not message.beside:
        raise invalid(f"{field}.beside", "may only be true; leave it out to replace the people of the whole schedule")
    return OverrideRow(
        id=new_id(),
        schedule_id=message.schedule.removeprefix("schedules/"),
        start_time=time_of(mapping.whole_minute(message.start_time, f"{field}.start_time")),
        end_time=time_of(mapping.whole_minute(message.end_time, f"{field}.end_time")),
        scope=scope,
        replaced=message.layer_id or message.user.removeprefix("users/"),
        users=mapping.ids_of(message.users),
        reason=message.reason,
        author="",
    )


async def overrides_from(messages: Sequence[pb.Override], author: str) -> list[OverrideRow]:
    """Those of a request that has them as `overrides`. Raises INVALID_FIELD for times that cannot be."""
    return await _all_from("overrides", override_from, messages, author)


def override_to(row: OverrideRow) -> pb.Override:
    """An override for the contract."""
    message = pb.Override(
        name=f"overrides/{row.id}",
        schedule=f"schedules/{row.schedule_id}",
        start_time=timestamp(row.start_time),
        end_time=timestamp(row.end_time),
        users=mapping.names_of(row.users),
        reason=row.reason,
        author=row.author,
        create_time=timestamp(row.create_time),
        swap=f"swaps/{row.swap_id}" if row.swap_id else "",
    )
    if row.scope is Scope.LAYER:
        message.layer_id = row.replaced
    elif row.scope is Scope.PERSON:
        message.user = f"users/{row.replaced}"
    elif row.scope is Scope.BESIDE:
        message.beside = True
    return message


def fixed_period_from(message: pb.FixedPeriod, field: str = "fixed_period") -> FixedPeriodRow:
    """A fixed period of the contract, with a new id. Raises INVALID_FIELD for times that cannot be.

    `field` holds it in the request.
    """
    return FixedPeriodRow(
        id=new_id(),
        schedule_id=message.schedule.removeprefix("schedules/"),
        start_time=time_of(mapping.whole_minute(message.start_time, f"{field}.start_time")),
        end_time=time_of(mapping.whole_minute(message.end_time, f"{field}.end_time")),
        shifts=tuple(
            FixedShift(
                mapping.whole_minute(shift.start_time, f"{field}.shifts[{number}].start_time"),
                mapping.whole_minute(shift.end_time, f"{field}.shifts[{number}].end_time"),
                mapping.ids_of(shift.users),
            )
            for number, shift in enumerate(message.shifts)
        ),
        reason=message.reason,
        author="",
    )


async def fixed_periods_from(messages: Sequence[pb.FixedPeriod], author: str) -> list[FixedPeriodRow]:
    """Those of a request that has them as `fixed_periods`. Raises INVALID_FIELD for times that cannot be."""
    return await _all_from("fixed_periods", fixed_period_from, messages, author)


async def _all_from(field: str, decode: Callable[[Any, str], _R], messages: Sequence[Message], author: str) -> list[_R]:
    def one(numbered: tuple[int, Message]) -> _R:
        number, message = numbered
        return replace(decode(message, f"{field}[{number}]"), author=author)

    return await made_in_slices(enumerate(messages), one)


def stretch_from(message: schedule_service_pb2.ReplaceFixedPeriodsRequest) -> tuple[datetime, datetime]:
    """Its whole minutes. Raises INVALID_FIELD for times that cannot be."""
    return (
        time_of(mapping.whole_minute(message.start_time, "start_time")),
        time_of(mapping.whole_minute(message.end_time, "end_time")),
    )


def fixed_period_to(row: FixedPeriodRow) -> pb.FixedPeriod:
    """A fixed period for the contract."""
    return pb.FixedPeriod(
        name=f"fixedPeriods/{row.id}",
        schedule=f"schedules/{row.schedule_id}",
        start_time=timestamp(row.start_time),
        end_time=timestamp(row.end_time),
        shifts=[
            pb.FixedShift(
                start_time=mapping.time_to(shift.start),
                end_time=mapping.time_to(shift.end),
                users=mapping.names_of(shift.people),
            )
            for shift in row.shifts
        ],
        reason=row.reason,
        author=row.author,
        create_time=timestamp(row.create_time),
    )


def absence_from(message: pb.Absence) -> AbsenceRow:
    """An absence of the contract, with a new id. Raises INVALID_FIELD for times that cannot be."""
    return AbsenceRow(
        id=new_id(),
        user_id=message.user.removeprefix("users/"),
        start_time=time_of(mapping.whole_minute(message.start_time, "absence.start_time")),
        end_time=time_of(mapping.whole_minute(message.end_time, "absence.end_time")),
        reason=message.reason,
        author="",
    )


def absence_to(row: AbsenceRow) -> pb.Absence:
    """An absence for the contract."""
    return pb.Absence(
        name=f"absences/{row.id}",
        user=f"users/{row.user_id}",
        start_time=timestamp(row.start_time),
        end_time=timestamp(row.end_time),
        reason=row.reason,
        author=row.author,
        create_time=timestamp(row.create_time),
    )
