"""The events of a calendar feed: shifts that keep their identity while who is on call changes.

Calendar programs know an event by its UID and copy it. So an event that was shown and is no longer true must be shown as
cancelled, and one whose end has moved must have a higher SEQUENCE (RFC 5545 §3.8.7.4). A feed therefore remembers what it has
shown. Instants are minutes, see `domain.schedules.clock`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY, WEEK
from tocsin_escalation.domain.schedules.model import Segment, Source, SourceKind

BACK: Final = 7 * DAY
AHEAD: Final = 11 * WEEK
"""With `BACK` and the rest of a week this is as much as `ResolveSchedule` answers at once."""
MOST_EVENTS: Final = 3000
"""Calendar programs read a feed as a whole. A feed with more events ends earlier."""
MOST_SCHEDULES: Final = 100
"""Of one user's feed."""
MOST_CANCELLED: Final = 300
"""Of cancelled events the newest are shown."""
_MONDAY: Final = 4 * DAY
"""1970-01-01 was a Thursday."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A user is on call in a schedule within [start, end) for one reason. `instead_of`: the user whom they replace."""

    schedule: str
    user: str
    start: int
    end: int
    reason: str = ""
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """A shift as a feed shows it. `sequence` counts its changes, `modified` is the minute of the last one."""

    shift: Shift
    sequence: int
    modified: int
    cancelled: bool = False

    def uid(self, org_id: str) -> str:
        """The same for as long as the user, the schedule and the start are the same, in every feed."""
        about = f"{org_id}/{self.shift.schedule}/{self.shift.user}/{self.shift.start}"
        return f"{hashlib.sha256(about.encode()).hexdigest()[:32]}@tocsin"


def window(now: int) -> tuple[int, int]:
    """What a feed shows: [since, until). Whole days and weeks, so that the same feed has the same text a minute later."""
    since = now // DAY * DAY - BACK
    until = now + AHEAD
    return since, until + (_MONDAY - until) % WEEK


def shifts_of(schedule: str, segments: Sequence[Segment], user: str = "") -> list[Shift]:
    """The shifts in a schedule's segments, of all users or of one user.

    Two turns of one user that follow each other are two shifts; turns of others do not divide a shift.
    """
    found: list[Shift] = []
    running: dict[str, tuple[tuple[Source, ...], int]] = {}
    for segment in segments:
        for person in segment.people:
            if user and person != user:
                continue
            why = tuple(replace(each, people=()) for each in segment.sources if person in each.people)
            known = running.get(person)
            if known is not None and known[0] == why and found[known[1]].end == segment.start:
                found[known[1]] = replace(found[known[1]], end=segment.end)
            else:
                instead = next((each.instead_of for each in why if each.instead_of), "")
                found.append(Shift(schedule, person, segment.start, segment.end, _reason(why[0]), instead))
                running[person] = (why, len(found) - 1)
    return found


def events_of(published: Sequence[Event], shifts: Sequence[Shift], since: int, now: int) -> list[Event]:
    """The events that a feed shows now, if it has shown `published` before and these are the shifts from `since` on.

    By start. Events that have ended before `since` are forgotten.
    """
    shifts = sorted(shifts, key=lambda shift: (shift.start, shift.schedule, shift.user))
    horizon = shifts[MOST_EVENTS].start if len(shifts) > MOST_EVENTS else None
    known = {(event.shift.schedule, event.shift.user, event.shift.start): event for event in published}
    running = {
        (event.shift.schedule, event.shift.user): event
        for event in published
        if not event.cancelled and event.shift.start < since < event.shift.end
    }
    found: list[Event] = []
    for shift in shifts:
        if horizon is not None and shift.start >= horizon:
            continue
        before = known.pop((shift.schedule, shift.user, shift.start), None)
        if before is None and shift.start == since:
            # It began before the window, which has moved since it was shown first.
            before = running.get((shift.schedule, shift.user))
            if before is not None:
                shift = replace(shift, start=before.shift.start)
                known.pop((shift.schedule, shift.user, shift.start), None)
        if before is None:
            found.append(Event(shift, 0, now))
        elif before.shift == shift and not before.cancelled:
            found.append(before)
        else:
            found.append(Event(shift, before.sequence + 1, now))
    gone = [
        each if each.cancelled else replace(each, cancelled=True, sequence=each.sequence + 1, modified=now)
        for each in known.values()
        if each.shift.end > since and (horizon is None or each.shift.start < horizon)
    ]
    found += sorted(gone, key=lambda event: -event.modified)[:MOST_CANCELLED]
    return sorted(found, key=lambda event: (event.shift.start, event.shift.schedule, event.shift.user))


def _reason(source: Source) -> str:
    return "" if source.kind is SourceKind.LAYER else str(source.kind)
