"""CalendarService: decode, call one use case, encode."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import grpc
from tocsin.escalation.v1 import calendar_service_pb2 as pb
from tocsin.escalation.v1 import calendar_service_pb2_grpc as pb_grpc
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.db.requests import once
from tocsin_kit.errors import invalid
from tocsin_kit.ids import new_id, parse_uuid_name
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.listing import Position, listed
from tocsin_kit.rpc.masks import apply_update_mask
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.server import current_call
from tocsin_kit.rpc.timestamps import timestamp
from tocsin_kit.rpc.validation import validate

from tocsin_escalation.app.schedules import calendar_feeds, calendar_imports
from tocsin_escalation.app.schedules.calendar_feeds import COLLECTION
from tocsin_escalation.app.schedules.calendar_imports import CalendarImports
from tocsin_escalation.rpc import calendar_mapping
from tocsin_escalation.store.schedules import calendar_feeds as store
from tocsin_escalation.store.schedules import calendar_imports as import_store
from tocsin_escalation.store.schedules.calendar_feeds import FeedRow
from tocsin_escalation.store.schedules.calendar_imports import ImportRow

Context = grpc.aio.ServicerContext[Any, Any]

_SCOPE: Final = "schedules:write"
_log = get_logger(__name__)


class CalendarService(pb_grpc.CalendarServiceServicer):
    """Calendar feeds."""

    def __init__(
        self,
        db: Database,
        pages: PageTokens,
        budgets: Budgets,
        url_of: Callable[[str], str],
        imports: CalendarImports,
    ) -> None:
        """`url_of`: where the feed of a secret is found."""
        self._db = db
        self._once = ApplyOnce(db)
        self._pages = pages
        self._budgets = budgets
        self._url_of = url_of
        self._imports = imports

    async def CreateCalendarFeed(
        self, request: pb.CreateCalendarFeedRequest, context: Context
    ) -> pb.CreateCalendarFeedResponse:
        """See the contract."""
        call = current_call()
        call.require_own(request.calendar_feed.user, _SCOPE)
        wanted = _from(request.calendar_feed, call.subject)

        async def work(tx: Tx) -> pb.CreateCalendarFeedResponse:
            secret = ""

            async def create() -> pb.CreateCalendarFeedResponse:
                nonlocal secret
                await require_room(tx, "calendar_feeds", self._budgets)
                row, secret = await calendar_feeds.create(tx, wanted)
                return pb.CreateCalendarFeedResponse(calendar_feed=_to(row))

            response = await once(tx, "CreateCalendarFeed", request, pb.CreateCalendarFeedResponse, create)
            # Set only now, so that the stored answer for repeats never contains it.
            response.url = self._url_of(secret) if secret else ""
            return response

        response = await self._db.run(call.org_id, work)
        _log.info("calendar_feed_created", name=response.calendar_feed.name, author=call.subject)
        return response

    async def ListCalendarFeeds(
        self, request: pb.ListCalendarFeedsRequest, context: Context
    ) -> pb.ListCalendarFeedsResponse:
        """See the contract."""
        user, schedule = request.user.removeprefix("users/"), request.schedule.removeprefix("schedules/")

        async def read(after: Any, limit: int) -> Sequence[FeedRow]:
            async with self._db.transaction(current_call().org_id) as tx:
                return await store.page(tx, user, schedule, after, limit)

        def place(row: FeedRow) -> Position:
            return row.create_time, row.id

        feeds, token = await listed(self._pages, request, None, read, _to, place)
        return pb.ListCalendarFeedsResponse(calendar_feeds=feeds, next_page_token=token)

    async def DeleteCalendarFeed(
        self, request: pb.DeleteCalendarFeedRequest, context: Context
    ) -> pb.DeleteCalendarFeedResponse:
        """See the contract."""
        call = current_call()
        id = parse_uuid_name(request.name, COLLECTION)

        async def delete(tx: Tx) -> pb.DeleteCalendarFeedResponse:
            row = await calendar_feeds.must(tx, id, lock=True)
            call.require_own(f"users/{row.user_id}", _SCOPE)
            await store.delete(tx, id)
            note_before(_to(row))
            return pb.DeleteCalendarFeedResponse()

        response = await self._once("DeleteCalendarFeed", request, pb.DeleteCalendarFeedResponse, delete)
        _log.info("calendar_feed_deleted", name=request.name, author=call.subject)
        return response

    async def CreateCalendarImport(
        self, request: pb.CreateCalendarImportRequest, context: Context
    ) -> pb.CreateCalendarImportResponse:
        """See the contract."""
        call = current_call()
        wanted = calendar_mapping.import_from(request.calendar_import, call.subject)

        async def create(tx: Tx) -> pb.CreateCalendarImportResponse:
            await require_room(tx, "calendar_imports", self._budgets)
            row = await self._imports.create(tx, wanted, request.calendar_import.url)
            return pb.CreateCalendarImportResponse(calendar_import=calendar_mapping.import_to(row))

        return await self._once("CreateCalendarImport", request, pb.CreateCalendarImportResponse, create)

    async def GetCalendarImport(
        self, request: pb.GetCalendarImportRequest, context: Context
    ) -> pb.GetCalendarImportResponse:
        """See the contract."""
        async with self._db.transaction(current_call().org_id) as tx:
            row = await calendar_imports.must_import(tx, parse_uuid_name(request.name, calendar_imports.COLLECTION))
        return pb.GetCalendarImportResponse(calendar_import=calendar_mapping.import_to(row))

    async def ListCalendarImports(
        self, request: pb.ListCalendarImportsRequest, context: Context
    ) -> pb.ListCalendarImportsResponse:
        """See the contract."""
        schedule = request.schedule.removeprefix("schedules/")

        async def read(after: Any, limit: int) -> Sequence[ImportRow]:
            async with self._db.transaction(current_call().org_id) as tx:
                return await import_store.page(tx, schedule, after[0], limit)

        found, token = await listed(
            self._pages, request, (UUID(int=0),), read, calendar_mapping.import_to, lambda row: (row.id,)
        )
        return pb.ListCalendarImportsResponse(calendar_imports=found, next_page_token=token)

    async def UpdateCalendarImport(
        self, request: pb.UpdateCalendarImportRequest, context: Context
    ) -> pb.UpdateCalendarImportResponse:
        """See the contract."""
        given = request.calendar_import
        id = parse_uuid_name(given.name, calendar_imports.COLLECTION, field="calendar_import.name")

        def change(before: ImportRow) -> tuple[ImportRow, str]:
            merged = calendar_mapping.import_to(before)
            paths = apply_update_mask(merged, given, request.update_mask, writable=calendar_mapping.WRITABLE)
            validate(merged, "calendar_import")
            if "url" in paths and not merged.url:
                raise invalid("calendar_import.url", "must not be empty; leave it out of update_mask to keep it")
            wanted = calendar_mapping.import_from(merged, before.author)
            return replace(wanted, id=id, url=before.url, host=before.host), merged.url

        async def update(tx: Tx) -> pb.UpdateCalendarImportResponse:
            row = await self._imports.update(tx, id, given.etag, change)
            return pb.UpdateCalendarImportResponse(calendar_import=calendar_mapping.import_to(row))

        return await self._once("UpdateCalendarImport", request, pb.UpdateCalendarImportResponse, update)

    async def DeleteCalendarImport(
        self, request: pb.DeleteCalendarImportRequest, context: Context
    ) -> pb.DeleteCalendarImportResponse:
        """See the contract."""

        async def delete(tx: Tx) -> pb.DeleteCalendarImportResponse:
            row = await calendar_imports.must_import(tx, parse_uuid_name(request.name, calendar_imports.COLLECTION))
            await import_store.delete(tx, row.id)
            note_before(calendar_mapping.import_to(row))
            return pb.DeleteCalendarImportResponse()

        return await self._once("DeleteCalendarImport", request, pb.DeleteCalendarImportResponse, delete)


def _from(message: pb.CalendarFeed, author: str) -> FeedRow:
    user, schedule = message.user.removeprefix("users/"), message.schedule.removeprefix("schedules/")
    return FeedRow(new_id(), user, schedule, message.display_name, "", author)


def _to(row: FeedRow) -> pb.CalendarFeed:
    message = pb.CalendarFeed(
        name=f"{COLLECTION}/{row.id}",
        display_name=row.display_name,
        prefix=row.prefix,
        author=row.author,
        create_time=timestamp(row.create_time),
        last_fetch_time=timestamp(row.last_fetch_time),
    )
    if row.user_id:
        message.user = f"users/{row.user_id}"
    else:
        message.schedule = f"schedules/{row.schedule_id}"
    return message
