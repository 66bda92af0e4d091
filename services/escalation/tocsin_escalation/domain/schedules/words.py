"""A segment of a schedule as text for the timeline."""

from typing import Final

from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.domain.schedules.model import FOREVER, Coverage, Segment, Source, SourceKind

COLLECTIONS: Final = {
    SourceKind.OVERRIDE: "overrides",
    SourceKind.SWAP: "swaps",
    SourceKind.FIXED_PERIOD: "fixedPeriods",
    SourceKind.CALENDAR: "calendarImports",
}
"""The collections of overrides, fixed periods and the like."""


def tell(schedule: str, segment: Segment) -> str:
    """`schedules/web has users/ana on call until 2026-03-09 09:00 UTC (turn 9 of layer week)`."""
    until = "" if segment.end >= FOREVER else f" until {at(segment.end)}"
    reasons = [*map(_source, segment.sources), *([f"away: {_names(segment.away)}"] if segment.away else [])]
    why = f" ({'; '.join(reasons)})" if reasons else ""
    match segment.coverage:
        case Coverage.ON_CALL:
            return f"schedules/{schedule} has {_names(segment.people)} on call{until}{why}"
        case Coverage.NOBODY:
            return f"schedules/{schedule} has nobody on call on purpose{until}{why}"
        case Coverage.GAP:
            return f"schedules/{schedule} has a gap: nobody is on call{until}{why}"


def at(minute: int) -> str:
    """`2026-03-09 09:00 UTC`."""
    return f"{time_of(minute):%Y-%m-%d %H:%M} UTC"


def name_of(source: Source) -> str:
    """The resource name of a plan, the id of a layer."""
    return f"{COLLECTIONS[source.kind]}/{source.id}" if source.kind in COLLECTIONS else source.id


def _source(source: Source) -> str:
    instead = f" instead of users/{source.instead_of}" if source.instead_of else ""
    match source.kind:
        case SourceKind.LAYER:
            return f"turn {source.turn} of layer {source.id}"
        case SourceKind.STAND_IN:
            return f"stands in at turn {source.turn} of layer {source.id}{instead}"
        case _:
            return f"{name_of(source)}{instead}"


def _names(users: tuple[str, ...]) -> str:
    return ", ".join(f"users/{user}" for user in users)
