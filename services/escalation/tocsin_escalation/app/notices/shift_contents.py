"""The content of notices about shifts, as the contract's `ShiftContent`: notify translates it into the user's language."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.notify.v1 import shift_pb2 as pb

from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.domain.schedules.model import Segment
from tocsin_escalation.domain.shift_changes import Change, ShiftTime
from tocsin_escalation.domain.shift_details import Names, OpenIncident, why_gained, why_lost
from tocsin_escalation.domain.shift_notices import NoticeKind, Shift

MOST_LISTED: Final = 20
"""Shifts or incidents of a message; it counts the others."""
_MOST_PEOPLE: Final = 5
_MOST_SCHEDULES: Final = 3
_NOTICES: Final = {
    NoticeKind.BEFORE: pb.SHIFT_NOTICE_BEFORE,
    NoticeKind.HAND_OVER: pb.SHIFT_NOTICE_HAND_OVER,
    NoticeKind.WEEK: pb.SHIFT_NOTICE_WEEK_AHEAD,
}
SegmentAt = Callable[[str, int], Segment | None]
"""Who is on call in a schedule at an instant; None: the schedule was deleted."""


@dataclass(frozen=True, slots=True)
class Reader:
    """The reader's time zone. `now`: the present minute."""

    zone: str
    now: int


@dataclass(frozen=True, slots=True)
class Open:
    """The open incidents of a hand-over, in their order. `cut`: there may be more than were read."""

    incidents: Sequence[OpenIncident]
    cut: bool


def of_shifts(
    kind: NoticeKind, shifts: Sequence[Shift], names: Names, reader: Reader, opened: Open | None = None
) -> pb.ShiftContent:
    """A notice of the reader's shifts. `opened`: of a hand-over."""
    told = _content(_NOTICES[kind], reader, [shift.schedule for shift in shifts], names)
    for shift in shifts[:MOST_LISTED]:
        stretch = told.stretches.add(schedule=names.schedule(shift.schedule))
        begun = kind is NoticeKind.WEEK and shift.start is not None and shift.start <= reader.now
        if shift.start is not None and not begun:  # for the coming week the time of the hand-over does not matter
            stretch.start_time.FromDatetime(time_of(shift.start))
        if shift.end is not None:
            stretch.end_time.FromDatetime(time_of(shift.end))
        if shift.hands_over:
            stretch.hands_over.CopyFrom(_people(shift.hands_over, names))
        if shift.beside:
            stretch.beside.CopyFrom(_people(shift.beside, names))
    told.more_stretches = max(0, len(shifts) - MOST_LISTED)
    if opened is not None:
        _tell_incidents(told, opened)
    return told


def of_change(change: Change, user: str, at: SegmentAt, names: Names, reader: Reader) -> pb.ShiftContent:
    """The time that became the user's, and the time they lost, with who has it now."""
    told = _content(pb.SHIFT_NOTICE_CHANGED, reader, sorted(change.schedules, key=names.schedule), names)
    for gained in change.gained[:MOST_LISTED]:
        made = told.stretches.add()
        made.CopyFrom(_stretch(gained, names))
        made.cause = why_gained(at(gained.schedule, gained.start), user) or ""
    for lost in change.lost[: MOST_LISTED - len(told.stretches)]:
        loss, why = why_lost(at(lost.schedule, lost.start), user)
        made = told.stretches.add()
        made.CopyFrom(_stretch(lost, names))
        made.cause = why or ""
        made.loss.CopyFrom(pb.ShiftLoss(people=_people(loss.people, names), absent=loss.absent, deleted=loss.deleted))
    told.more_stretches = len(change.gained) + len(change.lost) - len(told.stretches)
    return told


@dataclass(frozen=True, slots=True)
class Offer:
    """Time on call that a user offers."""

    swap: str
    giver: str
    offered: ShiftTime
    in_return: ShiftTime | None
    reason: str


def of_offer(offer: Offer, names: Names, reader: Reader) -> pb.ShiftContent:
    """To those to whom it is offered."""
    told = _swap(pb.SHIFT_NOTICE_SWAP_OFFERED, offer, [offer.giver], names, reader)
    told.reason, told.swap = offer.reason, offer.swap
    if offer.in_return is not None:
        told.in_return.CopyFrom(_stretch(offer.in_return, names))
    return told


def of_answer(offer: Offer, who: Collection[str], names: Names, reader: Reader, *, accepted: bool) -> pb.ShiftContent:
    """To the user who made it. `who`: has taken it, or declined it."""
    kind = pb.SHIFT_NOTICE_SWAP_ACCEPTED if accepted else pb.SHIFT_NOTICE_SWAP_DECLINED
    return _swap(kind, offer, who, names, reader)


def _swap(
    kind: pb.ShiftNotice.ValueType, offer: Offer, who: Collection[str], names: Names, reader: Reader
) -> pb.ShiftContent:
    told = _content(kind, reader, [offer.offered.schedule], names)
    told.stretches.append(_stretch(offer.offered, names))
    told.people.CopyFrom(_people(who, names))
    return told


def _content(kind: pb.ShiftNotice.ValueType, reader: Reader, schedules: Sequence[str], names: Names) -> pb.ShiftContent:
    return pb.ShiftContent(
        notice=kind,
        time_zone=reader.zone,
        make_time=_timestamp(reader.now),
        schedules=[names.schedule(each) for each in schedules[:_MOST_SCHEDULES]],
        more_schedules=max(0, len(schedules) - _MOST_SCHEDULES),
    )


def _tell_incidents(told: pb.ShiftContent, opened: Open) -> None:
    for each in opened.incidents[:MOST_LISTED]:
        incident = told.incidents.add(title=each.short_title, state=each.state)
        incident.severity = each.severity  # type: ignore[assignment]  # the number is the enum's own
        incident.create_time.FromDatetime(each.create_time)
    told.more_incidents = max(0, len(opened.incidents) - MOST_LISTED)
    told.incidents_incomplete = opened.cut


def _stretch(stretch: ShiftTime, names: Names) -> pb.ShiftStretch:
    return pb.ShiftStretch(
        schedule=names.schedule(stretch.schedule),
        start_time=_timestamp(stretch.start),
        end_time=_timestamp(stretch.end),
    )


def _people(ids: Collection[str], names: Names) -> pb.ShiftPeople:
    listed = [names.user(id) for id in ids]
    return pb.ShiftPeople(names=listed[:_MOST_PEOPLE], more=max(0, len(listed) - _MOST_PEOPLE))


def _timestamp(minute: int) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(time_of(minute))
    return made
