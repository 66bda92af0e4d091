"""Schedules of the contract to domain and back."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin.escalation.v1 import schedule_service_pb2
from tocsin_kit.errors import invalid
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_escalation.domain.coverage import LevelCoverage, PolicyCoverage
from tocsin_escalation.domain.earliest import Earliest
from tocsin_escalation.domain.schedules.clock import local_of, minute_of, time_of, wall_of
from tocsin_escalation.domain.schedules.model import (
    ALWAYS,
    FOREVER,
    Counts,
    Coverage,
    Group,
    Holidays,
    Layer,
    Mode,
    Segment,
    Source,
    SourceKind,
    Turn,
    Unit,
)
from tocsin_escalation.domain.schedules.questions import CurrentShift, Shift, covered
from tocsin_escalation.domain.schedules.versions import Rollout, current
from tocsin_escalation.domain.schedules.windows import Interval
from tocsin_escalation.domain.schedules.words import name_of
from tocsin_escalation.rpc.window_mapping import window_from, window_to
from tocsin_escalation.store.schedules import holiday_calendars
from tocsin_escalation.store.schedules.schedules import ScheduleRow

UNITS: Final = {
    pb.TURN_UNIT_HOUR: Unit.HOUR,
    pb.TURN_UNIT_DAY: Unit.DAY,
    pb.TURN_UNIT_WEEK: Unit.WEEK,
    pb.TURN_UNIT_MONTH: Unit.MONTH,
}
UNIT_NUMBERS: Final = {value: key for key, value in UNITS.items()}
ROLLOUTS: Final = {
    pb.ROLLOUT_UNSPECIFIED: Rollout.AFTER_SHIFT,
    pb.ROLLOUT_NOW: Rollout.NOW,
    pb.ROLLOUT_AFTER_SHIFT: Rollout.AFTER_SHIFT,
    pb.ROLLOUT_AFTER_ROUND: Rollout.AFTER_ROUND,
}
COVERAGES: Final = {
    Coverage.ON_CALL: pb.ON_CALL_COVERAGE_ON_CALL,
    Coverage.NOBODY: pb.ON_CALL_COVERAGE_NOBODY,
    Coverage.GAP: pb.ON_CALL_COVERAGE_GAP,
}
SOURCES: Final = {
    SourceKind.LAYER: pb.ON_CALL_SOURCE_KIND_LAYER,
    SourceKind.OVERRIDE: pb.ON_CALL_SOURCE_KIND_OVERRIDE,
    SourceKind.CALENDAR: pb.ON_CALL_SOURCE_KIND_CALENDAR,
    SourceKind.SWAP: pb.ON_CALL_SOURCE_KIND_SWAP,
    SourceKind.FIXED_PERIOD: pb.ON_CALL_SOURCE_KIND_FIXED_PERIOD,
    SourceKind.STAND_IN: pb.ON_CALL_SOURCE_KIND_STAND_IN,
}
MOST_GAPS: Final = 100
"""Of one schedule in a list."""
_FIRST: Final = minute_of(datetime(2000, 1, 1, tzinfo=UTC))
_LAST: Final = minute_of(datetime(2200, 1, 1, tzinfo=UTC))


def schedule_from(id: str, message: pb.Schedule) -> ScheduleRow:
    """A schedule of the contract; its shape has been checked. Raises INVALID_FIELD for times that cannot be."""
    zone = message.time_zone
    layers = tuple(_layer_from(f"schedule.layers[{n}]", layer, zone) for n, layer in enumerate(message.layers))
    return ScheduleRow(id, message.display_name, message.description, zone, message.stand_in, layers)


async def look_up_holidays(message: pb.Schedule) -> None:
    """In a thread, so that `schedule_from` need not: the first question takes a process a second."""
    places = {
        (layer.holidays.country, layer.holidays.subdivision) for layer in message.layers if layer.HasField("holidays")
    }

    def look_up() -> None:
        for place in places:
            with suppress(holiday_calendars.UnknownPlace):
                holiday_calendars.days_of(*place)

    if places:
        await asyncio.to_thread(look_up)


def schedule_to(row: ScheduleRow) -> pb.Schedule:
    """A schedule for the contract: its layers as they are or are about to be."""
    return pb.Schedule(
        name=f"schedules/{row.id}",
        display_name=row.display_name,
        description=row.description,
        time_zone=row.time_zone,
        layers=[_layer_to(layer, row.time_zone) for layer in current(row.layers)],
        stand_in=row.stand_in,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=etag(row.version),
    )


def _layer_from(path: str, message: pb.Layer, zone: str) -> Layer:
    try:
        anchor = local_of(datetime.fromisoformat(message.start))
    except ValueError:
        raise invalid(f"{path}.start", "is no date and time; write for example 2026-01-05T09:00") from None
    start, end = message.effective_start_time, message.effective_end_time
    return Layer(
        id=message.layer_id,
        name=message.display_name,
        rank=message.rank,
        mode=Mode.ADD if message.mode == pb.LAYER_MODE_ADD else Mode.MASK,
        turns=tuple(Turn(UNITS[turn.unit], turn.count) for turn in message.turns),
        anchor=anchor,
        zone=message.time_zone or zone,
        line_up=tuple(ids_of(entry.users) for entry in message.line_up),
        windows=tuple(map(window_from, message.windows)),
        holidays=_holidays_from(f"{path}.holidays", message.holidays) if message.HasField("holidays") else None,
        counts=Counts.COVERED if message.counting == pb.TURN_COUNTING_COVERED else Counts.ELAPSED,
        concurrent=message.concurrent or 1,
        not_before=whole_minute(start, f"{path}.effective_start_time")
        if message.HasField("effective_start_time")
        else ALWAYS,
        until=whole_minute(end, f"{path}.effective_end_time") if message.HasField("effective_end_time") else FOREVER,
    )


def _layer_to(layer: Layer, zone: str) -> pb.Layer:
    return pb.Layer(
        layer_id=layer.id,
        display_name=layer.name,
        rank=layer.rank,
        mode=pb.LAYER_MODE_ADD if layer.mode is Mode.ADD else pb.LAYER_MODE_MASK,
        turns=[pb.Turn(unit=UNIT_NUMBERS[turn.unit], count=turn.count) for turn in layer.turns],
        start=f"{wall_of(layer.anchor):%Y-%m-%dT%H:%M}",
        time_zone="" if layer.zone == zone else layer.zone,
        line_up=[pb.LineUpEntry(users=names_of(group)) for group in layer.line_up],
        windows=list(map(window_to, layer.windows)),
        holidays=_holidays_to(layer.holidays) if layer.holidays else None,
        counting=pb.TURN_COUNTING_COVERED if layer.counts is Counts.COVERED else pb.TURN_COUNTING_ELAPSED,
        concurrent=layer.concurrent,
        effective_start_time=time_to(layer.not_before),
        effective_end_time=time_to(layer.until),
        version_start_time=time_to(layer.since),
    )


def _holidays_from(path: str, message: pb.LayerHolidays) -> Holidays:
    country, subdivision = message.country, message.subdivision
    try:
        days = holiday_calendars.days_of(country, subdivision)
    except holiday_calendars.UnknownPlace:
        known = holiday_calendars.subdivisions(country)
        if known is None:
            raise invalid(f"{path}.country", f"no holidays of {country!r} are known; leave holidays out") from None
        text = f"{country} has none that is called {subdivision!r}; it has: {', '.join(known) or 'no subdivisions'}"
        raise invalid(f"{path}.subdivision", text[:1000]) from None
    return Holidays(country, subdivision, message.rule == pb.HOLIDAY_RULE_ONLY, days)


def _holidays_to(holidays: Holidays) -> pb.LayerHolidays:
    return pb.LayerHolidays(
        country=holidays.country,
        subdivision=holidays.subdivision,
        rule=pb.HOLIDAY_RULE_ONLY if holidays.only else pb.HOLIDAY_RULE_NEVER,
    )


def segments_to(segments: Sequence[Segment]) -> list[pb.OnCallSegment]:
    """Segments for the contract."""
    return list(map(segment_to, segments))


def segment_to(segment: Segment) -> pb.OnCallSegment:
    """A segment for the contract; an end that is not known is unset."""
    return pb.OnCallSegment(
        start_time=time_to(segment.start),
        end_time=time_to(segment.end),
        users=names_of(segment.people),
        coverage=COVERAGES[segment.coverage],
        sources=list(map(_source_to, segment.sources)),
        away=names_of(segment.away),
    )


def on_call_to(schedule: str, found: CurrentShift) -> schedule_service_pb2.OnCall:
    """Who is on call in a schedule, for the contract."""
    return schedule_service_pb2.OnCall(
        schedule=f"schedules/{schedule}",
        segment=segment_to(found.segment),
        next=segment_to(found.next) if found.next else None,
    )


def earliest_to(policy: str, level: int, found: Earliest) -> schedule_service_pb2.EarliestOnCall:
    """When a user is on call at a level first, for the contract."""
    return schedule_service_pb2.EarliestOnCall(
        policy=f"policies/{policy}",
        level=level,
        user=f"users/{found.user}",
        schedule=f"schedules/{found.schedule}" if found.schedule else "",
        start_time=time_to(found.start),
        end_time=time_to(found.end),
    )


def shift_to(schedule: str, shift: Shift) -> schedule_service_pb2.Shift:
    """A shift for the contract."""
    return schedule_service_pb2.Shift(
        schedule=f"schedules/{schedule}",
        start_time=time_to(shift.start),
        end_time=time_to(shift.end),
        swaps=[f"swaps/{id}" for id in shift.swaps],
    )


def coverage_to(schedule: str, segments: Sequence[Segment]) -> schedule_service_pb2.ScheduleCoverage:
    """How much is covered, for the contract."""
    gaps = [segment for segment in segments if segment.coverage is Coverage.GAP]
    return schedule_service_pb2.ScheduleCoverage(
        schedule=f"schedules/{schedule}",
        covered_percent=covered(segments) * 100,
        gaps=segments_to(gaps[:MOST_GAPS]),
    )


def policy_coverage_to(found: PolicyCoverage) -> schedule_service_pb2.PolicyCoverage:
    """How much a policy covers, for the contract."""
    return schedule_service_pb2.PolicyCoverage(
        policy=f"policies/{found.policy}",
        reached_percent=found.reached * 100,
        unreached=_gaps_to(found.unreached),
        levels=map(_level_coverage_to, found.levels),
        end_time=time_to(found.until),
    )


def _level_coverage_to(found: LevelCoverage) -> schedule_service_pb2.LevelCoverage:
    return schedule_service_pb2.LevelCoverage(
        level=found.level, covered_percent=found.covered * 100, gaps=_gaps_to(found.gaps)
    )


def _gaps_to(gaps: Sequence[Interval]) -> list[schedule_service_pb2.CoverageGap]:
    return [
        schedule_service_pb2.CoverageGap(start_time=time_to(start), end_time=time_to(end))
        for start, end in gaps[:MOST_GAPS]
    ]


def _source_to(source: Source) -> pb.OnCallSource:
    return pb.OnCallSource(
        kind=SOURCES[source.kind],
        source=name_of(source),
        users=names_of(source.people),
        turn=source.turn or 0,
        instead_of=f"users/{source.instead_of}" if source.instead_of else "",
    )


def whole_minute(time: Timestamp, field: str) -> int:
    """The minute that a timestamp is. Raises INVALID_FIELD between minutes, and out of what calendars are made for."""
    minute, seconds = divmod(time.seconds, 60)
    if seconds or time.nanos:
        raise invalid(field, "must be a whole minute")
    if not _FIRST <= minute < _LAST:
        raise invalid(field, "must lie between the years 2000 and 2200")
    return minute


def instant(time: Timestamp, field: str) -> datetime:
    """The minute in which a timestamp lies. Raises INVALID_FIELD out of what calendars are made for."""
    return time_of(whole_minute(Timestamp(seconds=time.seconds - time.seconds % 60), field))


def span_of(
    request: schedule_service_pb2.ResolveScheduleRequest
    | schedule_service_pb2.PreviewScheduleRequest
    | schedule_service_pb2.ListShiftsRequest
    | schedule_service_pb2.ListCoverageRequest,
) -> tuple[datetime, datetime]:
    """The minutes that are asked about. Raises INVALID_FIELD out of what calendars are made for."""
    return instant(request.start_time, "start_time"), instant(request.end_time, "end_time")


def time_to(minute: int) -> Timestamp | None:
    """The timestamp of a minute; nothing for ever."""
    return None if minute in (ALWAYS, FOREVER) else timestamp(time_of(minute))


def ids_of(names: Sequence[str]) -> Group:
    """The ids behind `users/`."""
    return tuple(name.removeprefix("users/") for name in names)


def names_of(users: Group) -> list[str]:
    """The names of users."""
    return [f"users/{user}" for user in users]
