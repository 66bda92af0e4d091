"""Swaps of the contract to rows and back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from tocsin.escalation.v1 import swap_pb2 as pb
from tocsin_kit.errors import invalid
from tocsin_kit.ids import new_id
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.rpc import schedule_mapping as mapping
from tocsin_escalation.store.schedules.swaps import SwapRow, SwapState

STATES: Final[Mapping[SwapState, pb.SwapState.ValueType]] = {
    SwapState.OFFERED: pb.SWAP_STATE_OFFERED,
    SwapState.ACCEPTED: pb.SWAP_STATE_ACCEPTED,
    SwapState.DECLINED: pb.SWAP_STATE_DECLINED,
    SwapState.WITHDRAWN: pb.SWAP_STATE_WITHDRAWN,
    SwapState.EXPIRED: pb.SWAP_STATE_EXPIRED,
}


def swap_from(message: pb.Swap, author: str) -> SwapRow:
    """A swap of the contract, with a new id. Raises INVALID_FIELD for times that cannot be."""
    back = _stretch(message.in_return, "swap.in_return") if message.HasField("in_return") else (None, None)
    start, end = _stretch(message.offered, "swap.offered")
    return SwapRow(
        id=new_id(),
        schedule_id=message.schedule.removeprefix("schedules/"),
        user_id=message.user.removeprefix("users/"),
        start_time=start,
        end_time=end,
        return_start_time=back[0],
        return_end_time=back[1],
        offered_to=mapping.ids_of(message.offered_to),
        reason=message.reason,
        author=author,
    )


def swap_to(row: SwapRow, now: datetime) -> pb.Swap:
    """A swap for the contract, as it is by `now`."""
    back = None
    if row.return_start_time is not None:
        back = pb.SwapStretch(start_time=timestamp(row.return_start_time), end_time=timestamp(row.return_end_time))
    return pb.Swap(
        name=f"swaps/{row.id}",
        schedule=f"schedules/{row.schedule_id}",
        user=f"users/{row.user_id}",
        offered=pb.SwapStretch(start_time=timestamp(row.start_time), end_time=timestamp(row.end_time)),
        offered_to=mapping.names_of(row.offered_to),
        reason=row.reason,
        in_return=back,
        state=STATES.get(row.state_at(now), pb.SWAP_STATE_UNSPECIFIED),
        accepted_by=f"users/{row.accepted_by}" if row.accepted_by else "",
        declined_by=mapping.names_of(row.declined_by),
        author=row.author,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=etag(row.version),
    )


def user_of(name: str, subject: str) -> str:
    """Who acts, as `users/{user}`: the one named, or the credential's own. Raises INVALID_FIELD when it is no user's."""
    if not name and not subject.startswith("users/"):
        raise invalid("user", f"say for whom: the credential is that of {subject}")
    return name or subject


def _stretch(message: pb.SwapStretch, field: str) -> tuple[datetime, datetime]:
    return (
        time_of(mapping.whole_minute(message.start_time, f"{field}.start_time")),
        time_of(mapping.whole_minute(message.end_time, f"{field}.end_time")),
    )
