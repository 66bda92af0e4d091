"""What digests tell, for the contract."""

from datetime import UTC, datetime
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import internal_service_pb2 as pb
from tocsin.notify.v1 import digest_pb2
from tocsin_kit.errors import invalid
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_escalation.domain.figures import DigestFigures, DigestPerson
from tocsin_escalation.rpc.schedule_mapping import time_to

_QUARTER_SECONDS: Final = 900
_TITLE: Final = 200
"""Characters of a title: a digest is kept for each of its users, and shows no more."""


def span_of(request: pb.SummarizeForDigestsRequest) -> tuple[datetime, datetime]:
    """The time that is asked about. Raises INVALID_FIELD."""
    start, end = request.start_time, request.end_time
    for field, time in (("start_time", start), ("end_time", end)):
        if time.nanos or time.seconds % _QUARTER_SECONDS:
            raise invalid(field, "must be at a full quarter of an hour of the years 1 to 9999")
    if start.seconds >= end.seconds:
        raise invalid("end_time", "must be after start_time")
    return _time(start, "start_time"), _time(end, "end_time")


def figures_to(found: DigestFigures) -> digest_pb2.DigestFigures:
    """The tenant's figures, for the contract."""
    figures = digest_pb2.DigestFigures(
        opened=found.opened,
        acknowledged=found.acknowledged,
        resolved=found.ended,
        open=found.open,
        unanswered=found.unanswered,
        open_incidents=[
            digest_pb2.DigestIncident(
                title=each.title[:_TITLE],
                severity=each.severity,  # type: ignore[arg-type]  # the number is the enum's own
                create_time=timestamp(each.create_time),
                in_hand=each.in_hand,
            )
            for each in found.oldest
        ],
        noisiest=[
            digest_pb2.DigestNoise(title=each.title[:_TITLE], incidents=each.incidents, alerts=each.alerts)
            for each in found.noisiest
        ],
    )
    if found.acknowledged:
        mean = Duration()
        mean.FromMilliseconds(round(found.acknowledge_ms / found.acknowledged))
        figures.mean_time_to_acknowledge.CopyFrom(mean)
    return figures


def person_to(found: DigestPerson) -> digest_pb2.DigestPerson:
    """One user's figures, for the contract."""
    return digest_pb2.DigestPerson(
        user=f"users/{found.user}",
        pages=found.pages,
        acknowledged=found.acknowledged,
        shifts=[
            digest_pb2.DigestShift(schedule=each.schedule, start_time=time_to(each.start), end_time=time_to(each.end))
            for each in found.shifts
        ],
        shifts_incomplete=found.shifts_incomplete,
    )


def _time(given: Timestamp, field: str) -> datetime:
    try:
        return given.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(field, "must be a time of the years 1 to 9999") from error
