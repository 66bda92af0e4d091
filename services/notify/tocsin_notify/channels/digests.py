"""A digest of a job, as the pure rendering takes it."""

from datetime import UTC
from typing import Any, Final

from tocsin.notify.v1 import digest_pb2 as pb
from tocsin.type.v1.severity_pb2 import Severity

from tocsin_notify.domain.digest import Frequency
from tocsin_notify.domain.digest_content import Content, Noise, OpenIncident, Shift

FREQUENCIES: Final = {
    pb.DIGEST_FREQUENCY_DAILY: Frequency.DAILY,
    pb.DIGEST_FREQUENCY_WEEKLY: Frequency.WEEKLY,
}
TO_FREQUENCIES: Final = {frequency: number for number, frequency in FREQUENCIES.items()}


def content_of(digest: pb.DigestContent) -> Content:
    """Its figures as values."""
    figures, person = digest.figures, digest.person
    answered = figures.HasField("mean_time_to_acknowledge")
    return Content(
        frequency=FREQUENCIES.get(digest.frequency, Frequency.DAILY),
        start=digest.start_time.ToDatetime(UTC),
        end=digest.end_time.ToDatetime(UTC),
        time_zone=digest.time_zone,
        opened=figures.opened,
        answer_seconds=figures.mean_time_to_acknowledge.ToTimedelta().total_seconds() if answered else None,
        resolved=figures.resolved,
        open=figures.open,
        unanswered=figures.unanswered,
        open_incidents=tuple(
            OpenIncident(each.title, _word(each.severity), each.create_time.ToDatetime(UTC), each.in_hand)
            for each in figures.open_incidents
        ),
        noisiest=tuple(Noise(each.title, each.incidents, each.alerts) for each in figures.noisiest),
        pages=person.pages,
        acknowledged=person.acknowledged,
        shifts=tuple(
            Shift(each.schedule, each.start_time.ToDatetime(UTC), each.end_time.ToDatetime(UTC))
            for each in person.shifts
        ),
        shifts_incomplete=person.shifts_incomplete,
    )


def document(content: Content) -> dict[str, Any]:
    """What webhooks carry (WEBHOOKS.md)."""
    return {
        "frequency": str(content.frequency),
        "start_time": content.start.isoformat(),
        "end_time": content.end.isoformat(),
        "time_zone": content.time_zone,
        "opened": content.opened,
        "mean_seconds_to_acknowledge": content.answer_seconds,
        "resolved": content.resolved,
        "open": content.open,
        "unanswered": content.unanswered,
        "open_incidents": [
            {
                "title": each.title,
                "severity": each.severity,
                "create_time": each.since.isoformat(),
                "in_hand": each.in_hand,
            }
            for each in content.open_incidents
        ],
        "noisiest": [
            {"title": each.title, "incidents": each.incidents, "alerts": each.alerts} for each in content.noisiest
        ],
        "pages": content.pages,
        "acknowledged": content.acknowledged,
        "shifts": [
            {"schedule": each.schedule, "start_time": each.start.isoformat(), "end_time": each.end.isoformat()}
            for each in content.shifts
        ],
    }


def _word(severity: Severity.ValueType) -> str:
    return Severity.Name(severity).removeprefix("SEVERITY_").lower() if severity else "critical"
