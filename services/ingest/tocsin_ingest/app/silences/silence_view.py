"""A silence as its contract shows it, and back."""

from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.ingest.v1.silence_service_pb2 import (
    SILENCE_STATE_ACTIVE,
    SILENCE_STATE_ENDED,
    SILENCE_STATE_PENDING,
    Silence,
    SilenceState,
)
from tocsin_kit.errors import invalid
from tocsin_kit.ids import format_name, parse_name
from tocsin_kit.rpc.masks import etag

from tocsin_ingest.store.silences import SilenceRow, Written, window_of

WRITABLE: Final = ("matchers", "integration", "start_time", "end_time", "recurrence", "reason")


def silence_of(row: SilenceRow, now: datetime) -> Silence:
    """The row in full. `now`: the database's clock."""
    silence = Silence.FromString(row.matchers)
    silence.name = format_name("silences", row.id)
    silence.integration = format_name("integrations", row.integration_id) if row.integration_id else ""
    silence.start_time.FromDatetime(row.start_time)
    silence.end_time.FromDatetime(row.window_end or row.end_time)
    if row.window_end is not None:
        silence.recurrence.time_zone = row.time_zone
        silence.recurrence.days.extend(row.days)  # type: ignore[arg-type]  # the numbers are the same
        silence.recurrence.until_time.FromDatetime(row.end_time)
    window = window_of(row, now)
    if window is not None:
        silence.window_start_time.FromDatetime(window[0])
        silence.window_end_time.FromDatetime(window[1])
    silence.reason = row.reason
    silence.author = row.author
    silence.state = _state(window, now)
    silence.held_alerts = row.held_alerts
    silence.silenced_alerts = row.silenced_alerts
    silence.silenced_messages = row.silenced_messages
    silence.create_time.FromDatetime(row.create_time)
    silence.update_time.FromDatetime(row.update_time)
    silence.etag = etag(row.version)
    return silence


def written_of(silence: Silence, now: datetime) -> Written:
    """What is stored of it. A start that is unset or has passed is `now`. Raises INVALID_FIELD."""
    if not silence.HasField("end_time"):
        raise invalid("silence.end_time", "is required: say until when, or for how long with a duration")
    again, end = silence.HasField("recurrence"), time_of(silence.end_time)
    return Written(
        integration_id=integration_of(silence),
        matchers=Silence(matchers=silence.matchers).SerializeToString(),
        start_time=start_of(silence, now),
        end_time=time_of(silence.recurrence.until_time) if again else end,
        reason=silence.reason,
        time_zone=silence.recurrence.time_zone,
        days=tuple(sorted(silence.recurrence.days)),
        window_end=end if again else None,
    )


def start_of(silence: Silence, now: datetime) -> datetime:
    """When it begins, at the earliest now."""
    return max(time_of(silence.start_time), now) if silence.HasField("start_time") else now


def integration_of(silence: Silence) -> str:
    """The id of its integration; empty: any."""
    if not silence.integration:
        return ""
    return parse_name(silence.integration, "integrations", field="silence.integration")


def time_of(timestamp: Timestamp) -> datetime:
    """To the microsecond, which is what the database keeps."""
    return timestamp.ToDatetime(tzinfo=UTC)


def _state(window: tuple[datetime, datetime] | None, now: datetime) -> SilenceState.ValueType:
    if window is None:
        return SILENCE_STATE_ENDED
    return SILENCE_STATE_ACTIVE if window[0] <= now else SILENCE_STATE_PENDING
