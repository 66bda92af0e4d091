"""A stretch of a schedule in words, as the timeline tells it."""

from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.domain.schedules.model import FOREVER, Coverage, Segment, Source, SourceKind


def tell(schedule: str, segment: Segment) -> str:
    """`schedules/web has users/ana on call until 2026-03-09 09:00 UTC (turn 9 of layer week)`."""
    until = "" if segment.end >= FOREVER else f" until {time_of(segment.end):%Y-%m-%d %H:%M} UTC"
    away = f"; away: {_names(segment.away)}" if segment.away else ""
    why = f" ({'; '.join(map(_source, segment.sources))}{away})" if segment.sources or away else ""
    match segment.coverage:
        case Coverage.ON_CALL:
            return f"schedules/{schedule} has {_names(segment.people)} on call{until}{why}"
        case Coverage.NOBODY:
            return f"schedules/{schedule} has nobody on call on purpose{until}{why}"
        case Coverage.GAP:
            return f"schedules/{schedule} has a gap: nobody is on call{until}{why}"


def _source(source: Source) -> str:
    instead = f" instead of users/{source.instead_of}" if source.instead_of else ""
    match source.kind:
        case SourceKind.LAYER:
            return f"turn {source.turn} of layer {source.id}"
        case SourceKind.STAND_IN:
            return f"stands in at turn {source.turn} of layer {source.id}{instead}"
        case SourceKind.OVERRIDE:
            return f"overrides/{source.id}{instead}"
        case SourceKind.FIXED_PERIOD:
            return f"fixedPeriods/{source.id}"


def _names(users: tuple[str, ...]) -> str:
    return ", ".join(f"users/{user}" for user in users)
