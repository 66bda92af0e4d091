"""Sends pages and cancellations to notify the safe way: by RPC, again and again until accepted."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from tocsin.notify.v1 import internal_service_pb2, notification_pb2
from tocsin.notify.v1.incident_event_pb2 import IncidentEvent
from tocsin_kit.db.outbox import Dead, Done, OutboxRow, RowAnswer

from tocsin_escalation.app.incidents.jobs import USER
from tocsin_escalation.clients.notify import Notify

M = TypeVar("M", bound=Message)


class NotifyDelivery:
    """Delivers outbox rows, of one kind at a time: each kind has a relay, so that none waits for the other.

    Pages come here a second after the page sender has tried; see `work.page_sender`.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self.follow_users: Callable[[Sequence[internal_service_pb2.UserChange]], Awaitable[None]] | None = None
        """Applies changes of users here once notify has them. Set later: it decides incidents, and decisions nudge relays."""

    async def pages(self, rows: Sequence[OutboxRow]) -> Sequence[RowAnswer]:
        """One answer per row, in order. If notify refuses the call as a whole, its error is raised."""
        jobs, answers = _read(rows, notification_pb2.NotificationJob)
        if jobs:
            await self._notify.submit(jobs)
        return answers

    async def cancellations(self, rows: Sequence[OutboxRow]) -> Sequence[RowAnswer]:
        """The same for cancellations."""
        cancellations, answers = _read(rows, internal_service_pb2.Cancellation)
        if cancellations:
            await self._notify.cancel(cancellations)
        return answers

    async def notices(self, rows: Sequence[OutboxRow]) -> Sequence[RowAnswer]:
        """The same for notices of shifts, which are messages, and for changes of users."""
        users = [row for row in rows if row.kind == USER]
        changes, told = _read(users, internal_service_pb2.UserChange)
        if changes:
            await self._notify.change_users(changes)
            if self.follow_users is not None:
                await self.follow_users(changes)
        others = [row for row in rows if row.kind != USER]
        answers = {row.id: each for row, each in zip(users, told, strict=True)}
        if others:
            answers |= {row.id: each for row, each in zip(others, await self.pages(others), strict=True)}
        return [answers[row.id] for row in rows]

    async def events(self, rows: Sequence[OutboxRow]) -> Sequence[RowAnswer]:
        """The same for incident events."""
        events, answers = _read(rows, IncidentEvent)
        if events:
            await self._notify.publish(events)
        return answers


def _read(rows: Sequence[OutboxRow], message: type[M]) -> tuple[list[M], list[RowAnswer]]:
    """The readable messages, and an answer per row for when they have been accepted."""
    messages: list[M] = []
    answers: list[RowAnswer] = []
    for row in rows:
        try:
            messages.append(message.FromString(row.payload))
        except DecodeError as error:
            answers.append(Dead(f"cannot be read: {error}"))
        else:
            answers.append(Done())
    return messages, answers
