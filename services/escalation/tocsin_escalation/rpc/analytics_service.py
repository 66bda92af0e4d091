"""AnalyticsService: figures of the past."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import analytics_service_pb2 as pb
from tocsin.escalation.v1 import analytics_service_pb2_grpc as pb_grpc
from tocsin.type.v1.severity_pb2 import Severity
from tocsin_kit.errors import FieldViolation, invalid, invalid_fields
from tocsin_kit.rpc.call import current_call
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_escalation.app.figures.summaries import Summaries
from tocsin_escalation.domain.figures import Group, IncidentFigures, Keys, PageFigures, Question
from tocsin_escalation.domain.schedules.clock import UnknownZone, clock

Context = grpc.aio.ServicerContext[Any, Any]

_MOST_ROWS: Final = 5000
_QUARTER_SECONDS: Final = 900
_GROUPS: Final = {pb.SummaryGroup.Value(f"SUMMARY_GROUP_{group.name}"): group for group in Group}
_PERIODS: Final = {Group.DAY, Group.WEEK, Group.MONTH}


class AnalyticsService(pb_grpc.AnalyticsServiceServicer):
    """See the contract."""

    def __init__(self, summaries: Summaries) -> None:
        self._summaries = summaries

    async def SummarizeIncidents(
        self, request: pb.SummarizeIncidentsRequest, context: Context
    ) -> pb.SummarizeIncidentsResponse:
        """See the contract."""
        question = _question(request, request.time_zone or "UTC", severities=request.severities)
        rows, until = await self._summaries.of_incidents(current_call().org_id, question, _MOST_ROWS + 1)
        _require_few(rows)
        answer = pb.SummarizeIncidentsResponse(as_of_time=timestamp(until))
        if request.as_csv:
            answer.csv = _csv(question, rows, _INCIDENT_COLUMNS)
        else:
            answer.rows.extend(_incident_summary(row) for row in rows)
        return answer

    async def SummarizePages(self, request: pb.SummarizePagesRequest, context: Context) -> pb.SummarizePagesResponse:
        """See the contract."""
        question = _question(request, request.time_zone, users=request.users)
        rows, until = await self._summaries.of_pages(current_call().org_id, question, _MOST_ROWS + 1)
        _require_few(rows)
        answer = pb.SummarizePagesResponse(as_of_time=timestamp(until))
        if request.as_csv:
            answer.csv = _csv(question, rows, _PAGE_COLUMNS)
        else:
            answer.rows.extend(_page_summary(row) for row in rows)
        return answer


def _question(
    request: pb.SummarizeIncidentsRequest | pb.SummarizePagesRequest,
    zone: str,
    *,
    severities: Sequence[int] = (),
    users: Sequence[str] = (),
) -> Question:
    groups = tuple(_GROUPS[group] for group in request.group_by)
    violations = [
        FieldViolation(field, "must be at a full quarter of an hour of the years 1 to 9999")
        for field, time in (("start_time", request.start_time), ("end_time", request.end_time))
        if time.nanos or time.seconds % _QUARTER_SECONDS
    ]
    if (request.start_time.seconds, request.start_time.nanos) >= (request.end_time.seconds, request.end_time.nanos):
        violations.append(FieldViolation("end_time", "must be after start_time"))
    if len(_PERIODS.intersection(groups)) > 1:
        violations.append(FieldViolation("group_by", "may have one of day, week and month"))
    try:
        if zone:
            clock(zone)
    except UnknownZone:
        violations.append(FieldViolation("time_zone", f"{zone!r} is no zone of the IANA database"))
    if violations:
        raise invalid_fields(violations)
    return Question(
        _time(request.start_time),
        _time(request.end_time),
        zone,
        groups,
        tuple(name.removeprefix("policies/") for name in request.policies),
        tuple(name.removeprefix("teams/") for name in request.teams),
        tuple(severities),
        tuple(name.removeprefix("users/") for name in users),
    )


def _time(given: Timestamp) -> datetime:
    return given.ToDatetime(UTC)


def _require_few(rows: Sequence[object]) -> None:
    if len(rows) > _MOST_ROWS:
        raise invalid("group_by", f"makes more than {_MOST_ROWS} rows: ask for fewer groups or a shorter time")


def _incident_summary(row: IncidentFigures) -> pb.IncidentSummary:
    return pb.IncidentSummary(
        keys=_keys(row.keys),
        opened=row.opened,
        acknowledged=row.acknowledged,
        resolved=row.resolved,
        exhausted=row.exhausted,
        mean_time_to_acknowledge=_mean(row.acknowledge_ms, row.acknowledged),
        mean_time_to_resolve=_mean(row.resolve_ms, row.resolved),
    )


def _page_summary(row: PageFigures) -> pb.PageSummary:
    return pb.PageSummary(
        keys=_keys(row.keys),
        pages=row.pages,
        acknowledged=row.acknowledged,
        interruptions=row.interruptions,
        business_hours=row.business_hours,
        off_hours=row.off_hours,
        sleep_hours=row.sleep_hours,
    )


def _keys(keys: Keys) -> pb.SummaryKeys:
    return pb.SummaryKeys(
        first_day=keys.first_day.isoformat() if keys.first_day else "",
        hour_of_day=keys.hour_of_day,
        day_of_week=keys.day_of_week or 0,
        policy=f"policies/{keys.policy}" if keys.policy else "",
        team=f"teams/{keys.team}" if keys.team else "",
        severity=keys.severity or 0,  # type: ignore[arg-type]  # the number is the enum's own
        user=f"users/{keys.user}" if keys.user else "",
    )


def _mean(milliseconds: int, count: int) -> Duration | None:
    if not count:
        return None
    mean = Duration()
    mean.FromMilliseconds(round(milliseconds / count))
    return mean


def _seconds(milliseconds: int, count: int) -> str:
    return f"{milliseconds / count / 1000:.3f}" if count else ""


_INCIDENT_COLUMNS: Final[dict[str, Callable[[IncidentFigures], object]]] = {
    "opened": lambda row: row.opened,
    "acknowledged": lambda row: row.acknowledged,
    "resolved": lambda row: row.resolved,
    "exhausted": lambda row: row.exhausted,
    "mean_seconds_to_acknowledge": lambda row: _seconds(row.acknowledge_ms, row.acknowledged),
    "mean_seconds_to_resolve": lambda row: _seconds(row.resolve_ms, row.resolved),
}
_PAGE_COLUMNS: Final[dict[str, Callable[[PageFigures], object]]] = {
    "pages": lambda row: row.pages,
    "acknowledged": lambda row: row.acknowledged,
    "interruptions": lambda row: row.interruptions,
    "business_hours": lambda row: row.business_hours,
    "off_hours": lambda row: row.off_hours,
    "sleep_hours": lambda row: row.sleep_hours,
}
_SEVERITIES: Final[dict[int | None, str]] = {
    number: name.removeprefix("SEVERITY_").lower() for name, number in Severity.items()
}
_KEY_COLUMNS: Final[dict[Group, Callable[[Keys], object]]] = {
    Group.DAY: lambda keys: keys.first_day,
    Group.WEEK: lambda keys: keys.first_day,
    Group.MONTH: lambda keys: keys.first_day,
    Group.HOUR_OF_DAY: lambda keys: keys.hour_of_day,
    Group.DAY_OF_WEEK: lambda keys: keys.day_of_week,
    Group.POLICY: lambda keys: keys.policy,
    Group.TEAM: lambda keys: keys.team,
    Group.SEVERITY: lambda keys: _SEVERITIES.get(keys.severity, ""),
    Group.USER: lambda keys: keys.user,
}


def _csv(question: Question, rows: Iterable[Any], columns: dict[str, Callable[[Any], object]]) -> str:
    """Ids consist of letters, digits, points, dashes and underscores: no cell can begin like a formula of a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*(group.value for group in question.groups), *columns])
    for row in rows:
        writer.writerow(
            [*(_KEY_COLUMNS[group](row.keys) for group in question.groups), *(of(row) for of in columns.values())]
        )
    return text.getvalue()
