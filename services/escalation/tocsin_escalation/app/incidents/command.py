"""Commands of people on incidents: one transaction, whose answer is stored by request_id, and then the confirmation that pages
stop."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import answered, keep, once, once_kept
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.incidents.advance import Advanced, advance, advance_one
from tocsin_escalation.app.incidents.confirm import Cancelling, Confirming, Stops
from tocsin_escalation.app.incidents.decision_data import DecisionData, Step
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.domain.escalation import Escalation, State
from tocsin_escalation.domain.events import Escalated, Resolved
from tocsin_escalation.store.incidents import escalations

_log = get_logger(__name__)

R = TypeVar("R", bound=Message)
Plan = Callable[[Mapping[UUID, Escalation], UUID], Sequence[Step]]
"""The steps for one of many incidents, its own one first, computed from the locked incidents; or it raises that incident's error.
"""


@dataclass(frozen=True, slots=True)
class IdempotentCall(Generic[R]):
    """A call that acts once, however often it is sent: its first answer is kept under its `request_id`."""

    org_id: str
    method: str
    request: Message
    response_type: type[R]


@dataclass(frozen=True, slots=True)
class Closed:
    """Ingest's answer to a resolve: None when it does not know the incident, else the number of its resolved event."""

    sequence: int | None


class Closing(Protocol):
    """Ingest, for resolving: it owns the dedup key that a resolve frees."""

    async def resolve(self, org_id: str, actor: str, incident_ids: Sequence[UUID]) -> list[Closed]:
        """Resolve these, in order. Raises TocsinError when ingest does not answer; then nothing is resolved here either."""


class Commands:
    """People's commands on incidents."""

    def __init__(self, db: Database, effects: Effects, notify: Cancelling, ingest: Closing) -> None:
        self.db: Final = db
        self.effects: Final = effects
        self.ingest: Final = ingest
        self._confirming = Confirming(db, notify, effects.relay)

    async def close(self) -> None:
        """Return when all work that follows the answers is done."""
        await self._confirming.drain()

    async def one(
        self,
        call: IdempotentCall[R],
        step: Step,
        respond: Callable[[Advanced], R],
    ) -> R:
        """One command on one incident, idempotent by request_id. `respond` gets no timeline entries.

        A person waits for it, who was just woken: so all that it writes is one statement. Raises the errors of `advance` (such as
        INCIDENT_NOT_FOUND, INCIDENT_RESOLVED), REQUEST_ID_REUSED, and CANCEL_UNCONFIRMED when the command is committed and notify
        has not confirmed it.
        """

        async def work(tx: Tx) -> tuple[R, Stops]:
            responses: list[R] = []

            async def answer(round_trip: Tx, done: Advanced) -> None:
                responses.append(respond(done))
                await keep(round_trip, call.method, call.request, responses[0])

            done, rows = await advance_one(tx, step, self.effects, answer)
            return responses[0], Stops([str(done.run.incident_id)], rows)

        repeated = _working(call, self._taking(step, respond), [step.incident_id], [step])
        response, stops = await once_kept(self.db, call.org_id, call.method, call.request, work, repeated)
        await self._confirm(call.org_id, stops, [step])
        return response

    async def noted(self, call: IdempotentCall[R], step: Step, respond: Callable[[Advanced], R]) -> R:
        """`one` whose `respond` gets the timeline's new entries."""
        return await self._once(call, self._taking(step, respond), [step.incident_id], [step])

    def _taking(self, step: Step, respond: Callable[[Advanced], R]) -> Callable[[Tx], Awaitable[R]]:
        async def take(tx: Tx) -> R:
            [answer] = await advance(tx, [step], self.effects, confirms=True)
            if isinstance(answer, TocsinError):
                raise answer
            return respond(answer)

        return take

    async def many(
        self,
        call: IdempotentCall[R],
        steps: Sequence[Step],
        respond: Callable[[Sequence[Advanced | TocsinError]], R],
    ) -> R:
        """One command on many incidents, each answered by itself, idempotent by request_id as a whole."""

        async def take(tx: Tx) -> R:
            return respond(await advance(tx, steps, self.effects, confirms=True))

        ids = [step.incident_id for step in steps]
        return await self._once(call, take, ids, steps)

    async def together(
        self,
        call: IdempotentCall[R],
        incident_ids: Sequence[UUID],
        plan: Callable[[Mapping[UUID, Escalation]], Sequence[Step]],
        respond: Callable[[Sequence[Advanced]], R],
    ) -> R:
        """Several steps, all or none: when one is refused none is applied, and its error is raised. Idempotent by request_id.

        `plan` returns the steps for the locked incidents and those they are merged with; it may raise too.
        """

        async def take(tx: Tx) -> R:
            runs = await escalations.lock(tx, list(incident_ids), kin=True)
            steps = plan(runs)
            answers = await advance(tx, steps, self.effects, await DecisionData.read(tx, runs, steps), confirms=True)
            done = [answer for answer in answers if isinstance(answer, Advanced)]
            if len(done) < len(answers):
                raise next(answer for answer in answers if isinstance(answer, TocsinError))
            return respond(done)

        return await self._once(call, take, incident_ids)

    async def each(
        self,
        call: IdempotentCall[R],
        incident_ids: Sequence[UUID],
        also: Sequence[UUID],
        plan: Plan,
        respond: Callable[[Sequence[Advanced | TocsinError]], R],
    ) -> R:
        """Several steps for each incident, answered by itself; idempotent by request_id as a whole. `also`: other incidents that
        the steps change."""

        async def take(tx: Tx) -> R:
            runs = await escalations.lock(tx, [*incident_ids, *also], kin=True)
            planned = [_planned(plan, runs, id) for id in incident_ids]
            steps = [step for group in planned if not isinstance(group, TocsinError) for step in group]
            known = await DecisionData.read(tx, runs, steps)
            taken = iter(await advance(tx, steps, self.effects, known, confirms=True))
            of_each = [
                group if isinstance(group, TocsinError) else list(islice(taken, len(group))) for group in planned
            ]
            return respond([each if isinstance(each, TocsinError) else each[0] for each in of_each])

        return await self._once(call, take, [*incident_ids, *also])

    async def _once(
        self,
        call: IdempotentCall[R],
        take: Callable[[Tx], Awaitable[R]],
        incident_ids: Sequence[UUID],
        steps: Sequence[Step] = (),
    ) -> R:
        """One transaction, whose answer is stored by request_id; then the confirmation that pages of these incidents have
        stopped."""

        work = _working(call, take, incident_ids, steps)
        response, stops = await self.db.run(call.org_id, work)
        await self._confirm(call.org_id, stops, steps)
        return response

    async def _confirm(self, org_id: str, stops: Stops, steps: Sequence[Step]) -> None:
        """Not for those who pass incidents on, whatever earlier commands left to be confirmed: a caller who was told to repeat the
        call would pass it on once more, and wake the next level as well."""
        if not steps or not all(isinstance(step.event, Escalated) for step in steps):
            await self._confirming.confirm(org_id, stops)

    async def answered(self, call: IdempotentCall[R]) -> R | None:
        """The stored answer of this request, with a new confirmation that pages have stopped; None for a new request."""
        async with self.db.transaction(call.org_id) as tx:
            before = await answered(tx, call.method, call.request, call.response_type)
            if before is None:
                return None
            names = [result.name for result in before.results]  # type: ignore[attr-defined]
            stops = await Stops.of(tx, [UUID(name.removeprefix("incidents/")) for name in names])
        await self._confirming.confirm(call.org_id, stops)
        return before

    async def answering(self, org_id: str, actor: str, run: Escalation, via: str) -> tuple[Step, bool]:
        """`resolving` for a person who answers a page of this incident: if it is merged, the target is resolved as well.

        The incident itself is resolved first; that decides whether it is still merged. The answer also says whether the incident
        of the step was resolved before.
        """
        own = await self.resolving(org_id, actor, [run.incident_id], via)
        before = run.state is State.RESOLVED
        if run.merged_into is None:
            return own[0], before
        [answer] = await self.db.run(org_id, lambda tx: advance(tx, own, self.effects))
        if isinstance(answer, TocsinError) or answer.run.merged_into is None or answer.run.resolved_by != actor:
            return own[0], before
        async with self.db.transaction(org_id) as tx:
            into = await escalations.get(tx, answer.run.merged_into)
        if into is None or into.run.state is State.RESOLVED:
            return own[0], before
        [step] = await self.resolving(org_id, actor, [into.run.incident_id], via)
        return replace(step, event=Resolved(actor, via=via, source=run.incident_id)), False

    async def resolving(self, org_id: str, actor: str, incident_ids: Sequence[UUID], via: str = "") -> list[Step]:
        """Let ingest resolve these, and return the remaining steps, one for each.

        Incidents that are merged into them are resolved first, here as well: otherwise they would page again. An incident that
        ingest does not know is resolved here alone. Ingest's database was restored from a backup, or has deleted an incident that
        ended long ago; in both cases no other event would end it.
        """
        async with self.db.transaction(org_id) as tx:
            parts = [id for id in await escalations.merged_into(tx, incident_ids) if id not in incident_ids]
        if parts:
            steps = await self._closing(org_id, actor, parts, via)
            await self.db.run(org_id, lambda tx: advance(tx, steps, self.effects))
        return await self._closing(org_id, actor, incident_ids, via)

    async def _closing(self, org_id: str, actor: str, incident_ids: Sequence[UUID], via: str) -> list[Step]:
        closed = await self.ingest.resolve(org_id, actor, incident_ids)
        unknown = [str(id) for id, answer in zip(incident_ids, closed, strict=True) if answer.sequence is None]
        if unknown:
            _log.warning("resolved_without_ingest", org_id=org_id, incidents=unknown)
        return [
            Step(id, Resolved(actor, via=via), sequence=answer.sequence or 0)
            for id, answer in zip(incident_ids, closed, strict=True)
        ]


def _working(
    call: IdempotentCall[R], take: Callable[[Tx], Awaitable[R]], incident_ids: Sequence[UUID], steps: Sequence[Step]
) -> Callable[[Tx], Awaitable[tuple[R, Stops]]]:
    """A transaction's work: the answer that is stored by request_id, and what notify is to be told."""

    async def work(tx: Tx) -> tuple[R, Stops]:
        response = await once(tx, call.method, call.request, call.response_type, lambda: take(tx))
        return response, await Stops.of(tx, [*incident_ids, *_others(response, steps)])

    return work


def _planned(plan: Plan, runs: Mapping[UUID, Escalation], id: UUID) -> Sequence[Step] | TocsinError:
    try:
        return plan(runs, id)
    except TocsinError as refusal:
        return refusal


def _others(response: Message, steps: Sequence[Step]) -> list[UUID]:
    """The incidents to which answers were passed on; the stop of their pages must be confirmed as well."""
    if not any(step.answers for step in steps):
        return []
    named = list[str]()
    if isinstance(response, pb.AcknowledgeIncidentResponse | pb.EscalateIncidentResponse):
        named = [response.incident.name]
    elif isinstance(response, pb.BatchAcknowledgeIncidentsResponse):
        named = [result.incident.name for result in response.results]
    return [UUID(name.removeprefix("incidents/")) for name in named if name]
