"""ShiftNoticeService: decode, call one use case, encode."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
from tocsin.escalation.v1 import shift_notice_service_pb2 as pb
from tocsin.escalation.v1 import shift_notice_service_pb2_grpc as pb_grpc
from tocsin.notify.v1.notification_pb2 import Channel
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import invalid
from tocsin_kit.ids import parse_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.listing import Position, listed
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.server import current_call
from tocsin_kit.rpc.timestamps import duration, timestamp

from tocsin_escalation.app.notices import shift_notices
from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.shift_notices import NoticeKind, NoticeState, week_minutes
from tocsin_escalation.store.notices import shift_notices as store
from tocsin_escalation.store.notices.shift_notices import ChoiceRow, NoticeRow, NoticeSettings

_SCOPE: Final = "schedules:write"
_MINUTE: Final = timedelta(minutes=1)
_KINDS: Final = {
    NoticeKind.BEFORE: pb.SHIFT_NOTICE_KIND_BEFORE,
    NoticeKind.HAND_OVER: pb.SHIFT_NOTICE_KIND_HAND_OVER,
    NoticeKind.WEEK: pb.SHIFT_NOTICE_KIND_WEEK_AHEAD,
}
_STATES: Final = {state: pb.ShiftNoticeState.Value(f"SHIFT_NOTICE_STATE_{state.name}") for state in NoticeState}
_FIRST: Final = (datetime(1, 1, 1, tzinfo=UTC), "", "", datetime(1, 1, 1, tzinfo=UTC))


class ShiftNoticeService(pb_grpc.ShiftNoticeServiceServicer):
    """What users want to be told of their shifts."""

    def __init__(self, db: Database, pages: PageTokens) -> None:
        self._db = db
        self._once = ApplyOnce(db)
        self._pages = pages

    async def GetShiftNoticeSettings(
        self, request: pb.GetShiftNoticeSettingsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetShiftNoticeSettingsResponse:
        """See the contract."""
        async with self._db.transaction(current_call().org_id) as tx:
            row = await shift_notices.find(tx, _user(request.user))
        return pb.GetShiftNoticeSettingsResponse(shift_notice_settings=_settings_to(request.user, row))

    async def UpdateShiftNoticeSettings(
        self, request: pb.UpdateShiftNoticeSettingsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpdateShiftNoticeSettingsResponse:
        """See the contract."""
        given = request.shift_notice_settings
        current_call().require_own(given.user, _SCOPE)
        wanted = _wanted(given)

        async def replace(tx: Tx) -> pb.UpdateShiftNoticeSettingsResponse:
            before, after = await shift_notices.replace(tx, _user(given.user), given.etag, wanted)
            note_before(_settings_to(given.user, before))
            return pb.UpdateShiftNoticeSettingsResponse(shift_notice_settings=_settings_to(given.user, after))

        response_type = pb.UpdateShiftNoticeSettingsResponse
        return await self._once("UpdateShiftNoticeSettings", request, response_type, replace)

    async def ListShiftNotices(
        self, request: pb.ListShiftNoticesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListShiftNoticesResponse:
        """See the contract."""
        user = _user(request.user)

        async def read(after: Any, limit: int) -> Sequence[NoticeRow]:
            async with self._db.transaction(current_call().org_id) as tx:
                await shift_notices.must_exist(tx, user)
                return await store.page(tx, user, after, limit)

        def place(row: NoticeRow) -> Position:
            return row.due_time, row.kind.value, row.schedule_id, row.start_time

        notices, token = await listed(self._pages, request, _FIRST, read, _notice_to, place)
        return pb.ListShiftNoticesResponse(shift_notices=notices, next_page_token=token)


def _user(name: str) -> str:
    return parse_name(name, "users", field="user")


def _wanted(given: pb.ShiftNoticeSettings) -> NoticeSettings:
    before = given.before.ToTimedelta() if given.HasField("before") else None
    if before is not None and before % _MINUTE:
        raise invalid("shift_notice_settings.before", "must be whole minutes")
    week = None
    if given.HasField("week_ahead"):
        hour, minute = map(int, given.week_ahead.time.split(":"))
        week = week_minutes(given.week_ahead.day - 1, hour, minute)
    channel = Channel.Name(given.channel).removeprefix("CHANNEL_").lower() if given.channel else ""
    minutes = None if before is None else before // _MINUTE
    return NoticeSettings(minutes, given.hand_over, week, channel, given.changes, given.swaps)


def _settings_to(user: str, row: ChoiceRow) -> pb.ShiftNoticeSettings:
    settings = pb.ShiftNoticeSettings(
        user=user,
        before=duration(None if row.before_minutes is None else row.before_minutes * _MINUTE),
        hand_over=row.hand_over,
        channel=Channel.Value(f"CHANNEL_{row.channel.upper()}") if row.channel else 0,  # type: ignore[arg-type]
        update_time=timestamp(row.update_time),
        etag=etag(row.version),
        changes=row.changes,
        swaps=row.swaps,
    )
    if row.week_minute is not None:
        day, minute = divmod(row.week_minute, DAY)
        settings.week_ahead.CopyFrom(
            pb.WeekAhead(day=day + 1, time=f"{minute // 60:02}:{minute % 60:02}")  # type: ignore[arg-type]
        )
    return settings


def _notice_to(row: NoticeRow) -> pb.ShiftNotice:
    return pb.ShiftNotice(
        kind=_KINDS.get(row.kind, pb.SHIFT_NOTICE_KIND_UNSPECIFIED),
        schedule=f"schedules/{row.schedule_id}" if row.schedule_id else "",
        start_time=timestamp(row.start_time),
        due_time=timestamp(row.due_time),
        state=_STATES.get(row.state, pb.SHIFT_NOTICE_STATE_UNSPECIFIED),
    )
