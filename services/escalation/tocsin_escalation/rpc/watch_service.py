"""WatchService: streams of what changes."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1 import schedule_service_pb2
from tocsin.escalation.v1 import watch_service_pb2 as pb
from tocsin.escalation.v1 import watch_service_pb2_grpc as pb_grpc
from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.rpc.call import current_call
from tocsin_kit.rpc.closing import closing
from tocsin_kit.rpc.paging import PageTokens, cursor_invalid

from tocsin_escalation.app.watching.watch_incidents import Batch, Cursor, Feeds, WatchFilter
from tocsin_escalation.app.watching.watch_on_call import News, OnCalls, Shown
from tocsin_escalation.rpc import mapping, schedule_mapping
from tocsin_escalation.store.incidents.changes import Position

Context = grpc.aio.ServicerContext[Any, Any]


class WatchService(pb_grpc.WatchServiceServicer):
    """See the contract."""

    def __init__(self, incidents: Feeds, on_calls: OnCalls, tokens: PageTokens) -> None:
        self._incidents = incidents
        self._on_calls = on_calls
        self._tokens = tokens

    async def WatchIncidents(
        self, request: pb.WatchIncidentsRequest, context: Context
    ) -> AsyncIterator[pb.WatchIncidentsResponse]:
        """See the contract."""
        principal, binding = current_call().principal, _binding("WatchIncidents")
        wanted, cursor = _wanted(request), self._cursor(request.cursor, binding)
        sent = request.cursor
        try:
            async with closing(self._incidents.watch(principal, wanted, cursor)) as batches:
                async for batch in batches:
                    message = self._message(batch, binding)
                    yield message
                    sent = message.cursor
        except TocsinError as error:
            if error.reason == ErrorReason.ERROR_REASON_WATCH_TOO_SLOW:
                raise TocsinError(error.reason, error.message, metadata={"cursor": sent}) from error
            raise

    async def WatchOnCall(
        self, request: pb.WatchOnCallRequest, context: Context
    ) -> AsyncIterator[pb.WatchOnCallResponse]:
        """See the contract."""
        principal, binding = current_call().principal, _binding("WatchOnCall")
        schedules = [name.removeprefix("schedules/") for name in request.schedules]
        if not schedules and not request.policy:
            raise invalid("schedules", "must name a schedule, unless policy names a policy")
        shown = self._shown(request.cursor, binding)
        sent = request.cursor
        try:
            watching = self._on_calls.watch(principal, schedules, request.policy.removeprefix("policies/"), shown)
            async with closing(watching) as messages:
                async for news in messages:
                    message = self._news(news, binding)
                    yield message
                    sent = message.cursor
        except TocsinError as error:
            if error.reason == ErrorReason.ERROR_REASON_WATCH_TOO_SLOW:
                raise TocsinError(error.reason, error.message, metadata={"cursor": sent}) from error
            raise

    def _cursor(self, token: str, binding: bytes) -> Cursor | None:
        if not token:
            return None
        match self._tokens.unseal(token, binding):
            case (int(transaction), int(id), str(epoch), datetime() as time):
                return Cursor(Position(transaction, id), epoch, time)
        raise cursor_invalid()

    def _shown(self, token: str, binding: bytes) -> Shown | None:
        if not token:
            return None
        position = self._tokens.unseal(token, binding)
        if position is None:
            raise cursor_invalid()
        known = [str(each).partition("=") for each in position if each]
        return {id: bytes.fromhex(digest) for id, _, digest in known}

    def _news(self, news: News, binding: bytes) -> pb.WatchOnCallResponse:
        position = [f"{id}={digest.hex()}" for id, digest in news.shown.items()]
        return pb.WatchOnCallResponse(
            cursor=self._tokens.seal(position or [""], binding),
            on_calls=[
                schedule_mapping.on_call_to(state.schedule, state.standing)
                if state.standing
                else schedule_service_pb2.OnCall(schedule=f"schedules/{state.schedule}")
                for state in news.states
            ],
            schedules=[f"schedules/{id}" for id in news.shown] if news.states else [],
        )

    def _message(self, batch: Batch, binding: bytes) -> pb.WatchIncidentsResponse:
        """Listed once for all who get the same batch."""
        if isinstance(batch.message, pb.WatchIncidentsResponse):
            return batch.message
        cursor = batch.cursor
        made = pb.WatchIncidentsResponse(
            cursor=self._tokens.seal((*cursor.position, cursor.epoch, cursor.time), binding),
            changes=[
                pb.IncidentChange(
                    incident=mapping.incident(change.incident.run, change.incident.update_time),
                    entry=mapping.timeline_entry(change.row.entry),
                )
                for change in batch.changes
            ],
        )
        batch.message = made
        return made


def _binding(kind: str) -> bytes:
    """A cursor is good for the tenant of the call and for one kind of watch."""
    return f"{current_call().org_id}\0{kind}".encode()


def _wanted(request: pb.WatchIncidentsRequest) -> WatchFilter:
    return WatchFilter(
        states=frozenset(mapping.STATE_NAMES[state] for state in request.states),
        severities=frozenset(request.severities),
        policy=request.policy.removeprefix("policies/"),
        team=request.team.removeprefix("teams/"),
        assignee=request.assignee.removeprefix("users/"),
        labels=frozenset(request.labels.items()),
        incidents=frozenset(mapping.incident_id(name, "incidents") for name in request.incidents),
    )
