"""Decisions about alerts, stored with the alert: for explanations, and never read by a decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from tocsin.ingest.v1.alert_pb2 import (
    AlertDecision,
    AlertDecisions,
    EarlierAlert,
    PassedIncident,
    ThresholdProgress,
)
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Statement, param
from tocsin_kit.ids import format_name
from tocsin_kit.rpc.raw_fields import length_delimited

from tocsin_ingest.domain.decision import DecisionRecord, Earlier, Outcome
from tocsin_ingest.domain.group_windows import Passed
from tocsin_ingest.domain.thresholds import Below
from tocsin_ingest.store.tables import alerts, incidents

_FIELD: Final = AlertDecisions.DESCRIPTOR.fields_by_name["decisions"].number
_READ: Final = Statement(
    sa.select(alerts.c.decided, incidents.c.state.label("incident_state"))
    .outerjoin_from(
        alerts,
        incidents,
        sa.and_(incidents.c.id == alerts.c.incident_id, incidents.c.org_id.is_not_distinct_from(alerts.c.org_id)),
    )
    .where(alerts.c.id == param("id"), alerts.c.org_id.is_not_distinct_from(param("org_id")))
)


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided about an alert. `incident_open`: None when it has no incident, or that is forgotten."""

    decisions: Sequence[AlertDecision]
    incident_open: bool | None


def encode(records: Sequence[DecisionRecord]) -> bytes | None:
    """The bytes to append to the stored ones: messages of protobuf may be concatenated. None: nothing."""
    if not records:
        return None
    if len(records) == 1:
        return _encode_one(records[0])
    return b"".join(map(_encode_one, records))


def _encode_one(record: DecisionRecord) -> bytes:
    if record.is_plain:
        return _encode_plain(record.outcome, record.route, record.at)
    return length_delimited(_FIELD, record.route + _own(record))


@lru_cache(4096)
def _encode_plain(outcome: Outcome, route: bytes, at: datetime | None) -> bytes:
    """Alerts of one storm are decided alike, and those of a batch at one time."""
    return length_delimited(_FIELD, route + _own(DecisionRecord(outcome, route, at)))


def _own(record: DecisionRecord) -> bytes:
    decision = AlertDecision(outcome=record.outcome)  # type: ignore[arg-type]
    if record.at is not None:
        decision.time.FromDatetime(record.at)
    if record.hold is not None:
        decision.silence = format_name("silences", record.hold.silence_id)
        decision.until_time.FromDatetime(record.hold.until)
    elif record.pause is not None:
        decision.until_time.FromDatetime(record.pause.until)
    if record.below is not None:
        decision.threshold.CopyFrom(progress(record.below))
    if record.passed is not None:
        decision.passed.CopyFrom(passed(record.passed))
    if record.earlier is not None:
        decision.earlier.CopyFrom(earlier(record.earlier))
    if record.later_alert is not None:
        decision.later_alert = format_name("alerts", record.later_alert)
    return decision.SerializeToString()


def progress(below: Below) -> ThresholdProgress:
    """How far a group is from its threshold."""
    progress = ThresholdProgress(triggers=below.triggers, count=below.threshold.count)
    progress.window.FromTimedelta(below.threshold.window)
    return progress


def passed(incident: Passed) -> PassedIncident:
    """The incident that an alert came too late for."""
    passed = PassedIncident(incident=format_name("incidents", incident.incident_id))
    passed.last_join_time.FromDatetime(incident.joined)
    return passed


def earlier(alert: Earlier) -> EarlierAlert:
    """The alert that ended as another one of its key began."""
    earlier = EarlierAlert(
        alert=format_name("alerts", alert.alert_id), incident=format_name("incidents", alert.incident_id)
    )
    earlier.last_trigger_time.FromDatetime(alert.heard)
    return earlier


async def read(tx: Tx, alert_id: UUID) -> Decided:
    """What was decided about one alert of the tenant."""
    row = await tx.fetchrow(*_READ(org_id=tx.org_id, id=alert_id))
    if row is None:
        return Decided((), None)
    found = AlertDecisions.FromString(row["decided"] or b"").decisions
    return Decided(found, None if row["incident_state"] is None else row["incident_state"] == "open")
