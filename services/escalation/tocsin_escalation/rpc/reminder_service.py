"""ReminderService: decode, call one use case, encode."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import grpc
from tocsin.escalation.v1 import reminder_service_pb2 as pb
from tocsin.escalation.v1 import reminder_service_pb2_grpc as pb_grpc
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import invalid
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.listing import Position, listed
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.server import current_call
from tocsin_kit.rpc.timestamps import duration, timestamp

from tocsin_escalation.app.notices import reminders
from tocsin_escalation.app.notices.reminders import ReminderInput
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.domain.reminders import ReminderState, Rhythm
from tocsin_escalation.rpc.mapping import incident_id
from tocsin_escalation.store.notices import reminders as store
from tocsin_escalation.store.notices.reminders import ReminderRow

Context = grpc.aio.ServicerContext[Any, Any]

_STATES: Final = {state: pb.ReminderState.Value(f"REMINDER_STATE_{state.name}") for state in ReminderState}
_FIRST: Final = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))


class ReminderService(pb_grpc.ReminderServiceServicer):
    """What users are reminded of."""

    def __init__(self, db: Database, pages: PageTokens, budgets: Budgets) -> None:
        self._db = db
        self._once = ApplyOnce(db)
        self._pages = pages
        self._budgets = budgets

    async def CreateReminder(self, request: pb.CreateReminderRequest, context: Context) -> pb.CreateReminderResponse:
        """See the contract."""
        wanted, creator = _wanted(request), current_call().subject

        async def create(tx: Tx) -> pb.CreateReminderResponse:
            return pb.CreateReminderResponse(
                reminder=reminder_to(await reminders.create(tx, wanted, creator, self._budgets))
            )

        return await self._once("CreateReminder", request, pb.CreateReminderResponse, create)

    async def GetReminder(self, request: pb.GetReminderRequest, context: Context) -> pb.GetReminderResponse:
        """See the contract."""
        async with self._db.transaction(current_call().org_id) as tx:
            [row] = await reminders.as_they_stand(tx, [await reminders.find(tx, _id(request.name))])
        return pb.GetReminderResponse(reminder=reminder_to(row))

    async def ListReminders(self, request: pb.ListRemindersRequest, context: Context) -> pb.ListRemindersResponse:
        """See the contract."""
        incident = incident_id(request.incident, "incident") if request.incident else None

        async def read(after: Any, limit: int) -> Sequence[ReminderRow]:
            async with self._db.transaction(current_call().org_id) as tx:
                return await reminders.as_they_stand(tx, await store.page(tx, incident, after, limit))

        def place(row: ReminderRow) -> Position:
            return row.create_time, row.id

        found, token = await listed(self._pages, request, _FIRST, read, reminder_to, place)
        return pb.ListRemindersResponse(reminders=found, next_page_token=token)

    async def SnoozeReminder(self, request: pb.SnoozeReminderRequest, context: Context) -> pb.SnoozeReminderResponse:
        """See the contract."""
        id, length = _id(request.name), request.duration.ToTimedelta()

        async def snooze(tx: Tx) -> pb.SnoozeReminderResponse:
            note_before(reminder_to(await reminders.find(tx, id, lock=True)))
            return pb.SnoozeReminderResponse(reminder=reminder_to(await reminders.snooze(tx, id, length)))

        return await self._once("SnoozeReminder", request, pb.SnoozeReminderResponse, snooze)

    async def StopReminder(self, request: pb.StopReminderRequest, context: Context) -> pb.StopReminderResponse:
        """See the contract."""
        id, by = _id(request.name), current_call().subject

        async def stop(tx: Tx) -> pb.StopReminderResponse:
            note_before(reminder_to(await reminders.find(tx, id, lock=True)))
            return pb.StopReminderResponse(reminder=reminder_to(await reminders.stop(tx, id, by)))

        return await self._once("StopReminder", request, pb.StopReminderResponse, stop)


def reminder_to(row: ReminderRow) -> pb.Reminder:
    """A reminder for the contract."""
    return pb.Reminder(
        name=f"reminders/{row.id}",
        incident=f"incidents/{row.incident_id}" if row.incident_id is not None else "",
        user=f"users/{row.user_id}" if row.team_id is None else "",
        team=f"teams/{row.team_id}" if row.team_id is not None else "",
        text=row.text,
        every=duration(row.rhythm.every),
        next_time=timestamp(row.next_time),
        state=_STATES.get(row.state, pb.REMINDER_STATE_UNSPECIFIED),
        state_reason=row.state_reason,
        sent_count=row.sent_count,
        creator=row.creator,
        create_time=timestamp(row.create_time),
        until_resolved=row.until_resolved,
    )


def _wanted(request: pb.CreateReminderRequest) -> ReminderInput:
    given = request.reminder
    if given.every.nanos:
        raise invalid("reminder.every", "must be whole seconds")
    every: timedelta | None = given.every.ToTimedelta() if given.HasField("every") else None
    delay: timedelta | None = request.delay.ToTimedelta() if request.HasField("delay") else every
    if delay is None:
        raise invalid("delay", "must be set for a reminder that comes once: how long from now it comes")
    if bool(given.user) == bool(given.team):
        raise invalid("reminder.user", "must be set, or else `reminder.team`: one of the two")
    if not given.incident and not given.text.strip():
        raise invalid("reminder.text", "must be set for a reminder that is of no incident: it says of what")
    if given.until_resolved and (every is None or not given.incident):
        raise invalid(
            "reminder.until_resolved",
            "must be set only with `every` and `incident`: others outlast acknowledgements anyway",
        )
    incident = incident_id(given.incident, "reminder.incident") if given.incident else None
    kind, _, id = (given.user or given.team).partition("/")
    whom = Target(TargetKind.USER if kind == "users" else TargetKind.TEAM, id)
    return ReminderInput(incident, whom, given.text, Rhythm(every, given.until_resolved), delay)


def _id(name: str) -> UUID:
    return parse_uuid_name(name, "reminders")
