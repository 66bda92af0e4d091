"""Escalation, for a person who answers a page: each call carries a short-lived credential of that person.

It also shows that the caller is notify: the pages that the answer stops come beside escalation's answer, and are stopped here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.escalation.v1.incident_pb2 import Incident, IncidentState
from tocsin.escalation.v1.incident_service_pb2_grpc import IncidentServiceStub
from tocsin.notify.v1.internal_service_pb2 import Cancellation, CancelNotificationsRequest
from tocsin_kit.auth import INTERNAL, SigningKeys, mint
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.beside import told_beside
from tocsin_kit.rpc.hedge import hedged

from tocsin_notify.domain.action import Action, Asked, Person

if TYPE_CHECKING:
    # Exists in the generated types only: the same stub, with awaitable answers.
    from tocsin.escalation.v1.incident_service_pb2_grpc import IncidentServiceAsyncStub

_log = get_logger(__name__)

_READ_SECONDS: Final = 2.0
_ACT_SECONDS: Final = 10.0
_FIRST_SECONDS: Final = 0.2
"""Other work gives way to an action for this long. One that takes longer waits for escalation, which that would not hasten."""
_MOST_PER_PAGE: Final = 500
_TOKEN_SECONDS: Final = 60.0
_SCOPES: Final = ("incidents:read", "incidents:write", INTERNAL)

Cancelling = Callable[[Sequence[Cancellation]], Awaitable[object]]
"""Returns once no provider call starts for them. Raises TocsinError when that is not certain."""


class Responders:
    """Every call has a deadline; every failure is a TocsinError."""

    def __init__(
        self, channel: grpc.aio.Channel, keys: SigningKeys, cancel: Cancelling, first: AbstractContextManager[object]
    ) -> None:
        """`channel` carries no credential of its own; `keys` are those that all services trust. `first`: held at the
        beginning of each action, since a person waits for it."""
        self._cancel = cancel
        self._first = first
        self._stub: IncidentServiceAsyncStub = IncidentServiceStub(channel)
        self._keys = keys

    async def incident(self, person: Person) -> Incident:
        """As it is now. Raises INCIDENT_NOT_FOUND, SERVICE_UNAVAILABLE."""
        request = pb.GetIncidentRequest(name=person.incident)
        response: pb.GetIncidentResponse = await self._call(self._stub.GetIncident, request, person, _READ_SECONDS)
        return response.incident

    async def assigned(
        self, person: Person, states: Sequence[IncidentState.ValueType], limit: int
    ) -> Sequence[Incident]:
        """The newest `limit` incidents, in one of these states, that page this person or that this person holds. Raises
        SERVICE_UNAVAILABLE."""
        found: list[Incident] = []
        request = pb.ListIncidentsRequest(assignee=person.user, states=states, page_size=min(limit, _MOST_PER_PAGE))
        while True:
            response: pb.ListIncidentsResponse = await self._call(
                self._stub.ListIncidents, request, person, _READ_SECONDS
            )
            found += response.incidents
            request.page_token = response.next_page_token
            if not request.page_token or len(found) >= limit:
                return found[:limit]

    async def act(self, person: Person, asked: Asked, request_id: UUID, via: str) -> None:
        """See the contract of each method for what it raises."""
        name, id = person.incident, str(request_id)
        match asked.action:
            case Action.ACKNOWLEDGE:
                acknowledge = pb.AcknowledgeIncidentRequest(request_id=id, name=name, via=via)
                await self._act(self._stub.AcknowledgeIncident, acknowledge, person)
            case Action.SNOOZE:
                snooze = pb.SnoozeIncidentRequest(request_id=id, name=name, via=via)
                snooze.duration.FromTimedelta(asked.snooze)
                await self._act(self._stub.SnoozeIncident, snooze, person)
            case Action.ESCALATE:
                escalate = pb.EscalateIncidentRequest(request_id=id, name=name, via=via)
                await self._act(self._stub.EscalateIncident, escalate, person)
            case Action.RESOLVE:
                resolve = pb.ResolveIncidentRequest(request_id=id, name=name, via=via)
                await self._act(self._stub.ResolveIncident, resolve, person)
            case Action.NOTE:
                note = pb.AddNoteRequest(request_id=id, name=name, text=asked.text, via=via)
                await self._act(self._stub.AddNote, note, person)

    async def acknowledge_all(self, person: Person, names: Sequence[str], request_id: UUID, via: str) -> None:
        """At most 250 incidents. An incident that is resolved or unknown does not stop the others."""
        request = pb.BatchAcknowledgeIncidentsRequest(request_id=str(request_id), names=names, via=via)
        await self._act(self._stub.BatchAcknowledgeIncidents, request, person)

    async def _act(self, method: Callable[..., Any], request: Any, person: Person) -> None:
        with ExitStack() as held:
            held.enter_context(self._first)
            over = asyncio.get_running_loop().call_later(_FIRST_SECONDS, held.close)
            held.callback(over.cancel)
            await self._call(method, request, person, _ACT_SECONDS)

    async def _call(self, method: Callable[..., Any], request: Any, person: Person, seconds: float) -> Any:
        token = mint(self._keys, org_id=person.org_id, subject=person.user, scopes=_SCOPES, ttl=_TOKEN_SECONDS)
        metadata = (("authorization", f"Bearer {token}"),)

        async def ask(request: Any, **options: Any) -> tuple[Any, CancelNotificationsRequest | None]:
            call = method(request, metadata=metadata, **options)
            response = await call
            return response, told_beside(await call.trailing_metadata(), CancelNotificationsRequest)

        try:
            # Each action has a request id, so that a repeated call is no second action.
            response, stops = await hedged(ask, request, seconds=seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="escalation") from error
        if stops is not None:
            await self._stop(person, stops.cancellations)
        return response

    async def _stop(self, person: Person, cancellations: Sequence[Cancellation]) -> None:
        """Raises CANCEL_UNCONFIRMED: what was asked for is done, and pages before it may still be sent."""
        own = [each for each in cancellations if each.org_id == person.org_id]
        strange = len(own) < len(cancellations)
        if strange:
            _log.error("stops_of_another_tenant", org_id=person.org_id, incident=person.incident)
        try:
            await self._cancel(own)
        except TocsinError as error:
            _log.warning("cancel_unconfirmed", org_id=person.org_id, incident=person.incident, error=error.message)
            raise _unconfirmed() from error
        if strange:
            raise _unconfirmed()


def _unconfirmed() -> TocsinError:
    return TocsinError(
        ErrorReason.ERROR_REASON_CANCEL_UNCONFIRMED,
        "the change is committed, but it is not certain that earlier pages are stopped; repeat the call",
        retry_after=1.0,
    )
