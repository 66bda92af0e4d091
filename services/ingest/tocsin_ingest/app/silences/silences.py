"""Make, change and end silences. Each function is the work of one transaction."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.silence_service_pb2 import (
    CreateSilenceRequest,
    ExpireSilenceRequest,
    Silence,
    UpdateSilenceRequest,
)
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.errors import FieldViolation, TocsinError, invalid, not_found
from tocsin_kit.ids import new_id, parse_uuid_name
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.masks import apply_paths, require_etag, update_paths
from tocsin_kit.rpc.validation import validate

from tocsin_ingest.app.integrations.compile_rules import check_matchers
from tocsin_ingest.app.silences.silence_view import WRITABLE, silence_of, start_of, time_of, written_of
from tocsin_ingest.domain.recurrence import LONGEST as LONGEST_WINDOW
from tocsin_ingest.domain.zones import UnknownZone, zone
from tocsin_ingest.store import silences
from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.silences import MatchersRow, SilenceRow, Written, window_of

MOST: Final = 200
"""Silences of one tenant that have not ended: each alert is compared with all of them."""
LONGEST: Final = timedelta(days=400)
_RETRY_AFTER: Final = 60.0


async def create(tx: Tx, request: CreateSilenceRequest, author: str, budgets: Budgets) -> Silence:
    """The new silence. Raises INVALID_FIELD, INTEGRATION_NOT_FOUND, LIMIT_REACHED."""
    await require_room(tx, "silences", budgets)
    wanted = Silence()
    wanted.CopyFrom(request.silence)
    now, others = await tx.now(), await silences.not_ended(tx)
    if len(others) >= MOST:
        raise TocsinError(
            ErrorReason.ERROR_REASON_LIMIT_REACHED,
            f"the tenant has {MOST} silences that have not ended, and may have no more; end some",
            metadata={"limit": "silences", "allowed": str(MOST)},
            retry_after=_RETRY_AFTER,
        )
    if request.HasField("duration"):
        if wanted.HasField("end_time"):
            raise invalid("duration", "must not be set together with silence.end_time")
        wanted.end_time.FromDatetime(start_of(wanted, now) + request.duration.ToTimedelta())
    silence = written_of(wanted, now)
    _check_times(silence, now)
    await _check_integration(tx, silence.integration_id)
    _check_matchers(wanted, others)
    silence_id = new_id()
    await silences.insert(tx, silence_id, silence, author)
    return await _read(tx, silence_id)


async def update(tx: Tx, request: UpdateSilenceRequest) -> Silence:
    """The silence as it is now. Raises SILENCE_NOT_FOUND, ETAG_MISMATCH, UPDATE_MASK_INVALID, INVALID_FIELD, ALREADY_ENDED,
    INTEGRATION_NOT_FOUND."""
    given = request.silence
    paths = update_paths(request.update_mask, given, writable=WRITABLE)
    row, now = await _lock(tx, given.name, given.etag, "silence.")
    after = silence_of(row, now)
    apply_paths(after, given, paths)
    validate(after, "silence")
    begun = row.start_time <= now
    if begun and (not after.HasField("start_time") or time_of(after.start_time) != row.start_time):
        raise invalid("silence.start_time", "cannot be changed once the silence has begun; leave it as it is")
    silence = written_of(after, now)
    silence = replace(silence, start_time=row.start_time) if begun else silence
    _check_times(silence, now)
    if silence.integration_id != row.integration_id:
        await _check_integration(tx, silence.integration_id)
    if silence.matchers != row.matchers:
        _check_matchers(after, [each for each in await silences.not_ended(tx) if each.id != row.id])
    await silences.change(tx, row.id, silence)
    return await _read(tx, row.id)


async def expire(tx: Tx, request: ExpireSilenceRequest) -> Silence:
    """The silence, which ends now. Raises SILENCE_NOT_FOUND, ETAG_MISMATCH, ALREADY_ENDED."""
    row, now = await _lock(tx, request.name, request.etag)
    over = written_of(silence_of(row, now), now)
    await silences.change(tx, row.id, replace(over, start_time=min(row.start_time, now), end_time=now))
    return await _read(tx, row.id)


async def _read(tx: Tx, silence_id: UUID) -> Silence:
    row = await silences.get(tx, silence_id)
    assert row is not None, "it was written in this transaction"
    return silence_of(row, await tx.now())


async def _lock(tx: Tx, name: str, etag: str, path: str = "") -> tuple[SilenceRow, datetime]:
    """The silence that has not ended, and the time. Alerts that it holds back are committed before this returns."""
    row = await silences.get(tx, parse_uuid_name(name, "silences", field=f"{path}name"), lock=True)
    if row is None:
        raise not_found(ErrorReason.ERROR_REASON_SILENCE_NOT_FOUND, name)
    now = await tx.now()
    if row.end_time <= now:
        raise TocsinError(
            ErrorReason.ERROR_REASON_ALREADY_ENDED,
            f"{name} has ended; make a new one",
            metadata={"name": name},
        )
    require_etag(etag, row.version, field=f"{path}etag")
    note_before(silence_of(row, now))
    return row, now


def _check_times(silence: Written, now: datetime) -> None:
    again = silence.window_end is not None
    until = "silence.recurrence.until_time" if again else "silence.end_time"
    if silence.end_time <= now:
        raise invalid(until, "must lie in the future; ExpireSilence ends a silence now")
    if silence.end_time > now + LONGEST:
        raise invalid(until, f"must be at most {LONGEST.days} days ahead")
    end = silence.window_end or silence.end_time
    if end <= silence.start_time:
        raise invalid("silence.end_time", "must be later than start_time")
    if again and end - silence.start_time > LONGEST_WINDOW:
        raise invalid(
            "silence.end_time", f"must be at most {LONGEST_WINDOW.days} days after start_time when it comes again"
        )
    if again:
        try:
            zone(silence.time_zone)
        except UnknownZone:
            raise invalid(
                "silence.recurrence.time_zone", "is no zone of the IANA database, such as Europe/Berlin"
            ) from None
        if window_of(silence, now) is None:
            raise invalid(
                "silence.recurrence", "has no window before until_time; choose other days or a later until_time"
            )


async def _check_integration(tx: Tx, integration_id: str) -> None:
    if integration_id and await integrations.version_of(tx, integration_id) is None:
        name = f"integrations/{integration_id}"
        text = f"{name} does not exist"
        raise TocsinError(
            ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND,
            f"silence.integration: {text}",
            metadata={"name": name},
            fields=(FieldViolation("silence.integration", text),),
        )


def _check_matchers(silence: Silence, others: list[MatchersRow]) -> None:
    check_matchers(silence.matchers, (Silence.FromString(each.matchers).matchers for each in others))
