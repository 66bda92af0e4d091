"""One call for every incident that a filter finds: what is left out, what is counted, and how it goes on.

Each test costs about 0.2 s: a database, and no other service.
"""

import asyncio
import secrets
import uuid
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.type.v1 import target_pb2
from tocsin_escalation.app.incidents import bulk
from tocsin_escalation.app.incidents.advance import Advanced
from tocsin_escalation.app.incidents.command import Closed, IdempotentCall
from tocsin_escalation.app.incidents.merge import plan_part
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import Acknowledged, Escalated, Resolved
from tocsin_escalation.rpc.incident_service import IncidentService
from tocsin_escalation.store.incidents import finding
from tocsin_kit.auth import Principal, SigningKeys
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.call import Call, enter
from tocsin_kit.rpc.paging import PageTokens

from tests.store.escalation.merges import ANA, Ingest, commands, merge
from tests.store.escalation.recorders import ORG, Desk

STORM = pb.ListIncidentsRequest(query="storm")
PAGES = PageTokens(SigningKeys.parse(f"k1:{secrets.token_hex(32)}"))


async def change(
    desk: Desk, action: Any, ingest: Ingest | None = None, **fields: Any
) -> pb.BulkChangeIncidentsResponse:
    enter(Call("tocsin.escalation.v1.IncidentService/BulkChangeIncidents", Principal(ORG, ANA, frozenset()), "", None))
    given = {"filter": STORM, "action": action, **fields}
    service = IncidentService(desk.db, commands(desk, ingest), None, PAGES)  # type: ignore[arg-type]
    return await service.BulkChangeIncidents(pb.BulkChangeIncidentsRequest(**given), None)  # type: ignore[arg-type]


async def storm(desk: Desk, size: int = 3) -> list[UUID]:
    """Newest first, as a list has them."""
    opened = [await desk.opens(title=f"storm {number}") for number in range(size)]
    return opened[::-1]


def names(answer: pb.BulkChangeIncidentsResponse) -> list[UUID]:
    return [UUID(result.name.removeprefix("incidents/")) for result in answer.results]


async def states(desk: Desk, incidents: list[UUID]) -> set[State]:
    return {(await desk.run(each)).state for each in incidents}


def going_on(answer: pb.BulkChangeIncidentsResponse) -> pb.ListIncidentsRequest:
    assert answer.more is bool(answer.next_page_token)
    return pb.ListIncidentsRequest(query="storm", page_token=answer.next_page_token)


async def test_a_dry_run_counts_all_that_fit_and_shows_what_one_call_would_change(desk: Desk) -> None:
    many = await storm(desk, 5)
    await desk.opens(title="calm")
    await desk.take(many[1], Acknowledged(ANA))
    foreseen = await change(desk, pb.BULK_ACTION_ACKNOWLEDGE, dry_run=True, max_incidents=2)
    assert names(foreseen) == [many[0], many[2]]
    assert (foreseen.matching_count, foreseen.changed_count, foreseen.more) == (4, 0, True)
    rest = await change(desk, pb.BULK_ACTION_ACKNOWLEDGE, dry_run=True, filter=going_on(foreseen))
    assert (names(rest), rest.matching_count, rest.more) == (many[3:], 2, False)
    assert await states(desk, [many[0], *many[2:]]) == {State.TRIGGERED}


@pytest.mark.parametrize(("scanned", "most"), [(1, 100), (2, 3), (3, 2), (100, 4)])
async def test_the_count_is_bounded_and_does_not_depend_on_how_many_rows_are_looked_at(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, scanned: int, most: int
) -> None:
    monkeypatch.setattr(finding, "MOST_SCANNED", scanned)
    monkeypatch.setattr(bulk, "MOST_COUNTED", most)
    for _ in range(2):
        await storm(desk, 2)
        await desk.opens(title="calm")
    foreseen = await change(desk, pb.BULK_ACTION_RESOLVE, dry_run=True)
    assert foreseen.matching_count == min(4, most)


async def test_a_storm_is_merged_into_one_incident_and_taken_apart_again(desk: Desk) -> None:
    many = await storm(desk, 4)
    into, parts = many[1], [many[0], *many[2:]]
    fields: dict[str, Any] = {"action": pb.BULK_ACTION_MERGE, "into": f"incidents/{into}"}
    foreseen = await change(desk, **fields, dry_run=True)
    assert (names(foreseen), foreseen.matching_count) == (parts, 3), "not into itself"

    first = await change(desk, **fields, max_incidents=2)
    assert (names(first), first.changed_count, first.failed_count) == (parts[:2], 2, 0)
    rest = await change(desk, **fields, filter=going_on(first))
    assert (names(rest), rest.more) == (parts[2:], False)
    assert {(await desk.run(part)).merged_into for part in parts} == {into}
    assert (await desk.said(into)).count("merged_from") == 3
    assert await desk.paged(into) == [(1, "ana")], "a merge of equals pages nobody"
    assert (await change(desk, **fields)).results == [], "what is merged is left out"

    apart = await change(desk, pb.BULK_ACTION_UNMERGE)
    assert (names(apart), apart.changed_count) == (parts, 3)
    assert await states(desk, many) == {State.TRIGGERED}
    assert (await desk.said(into)).count("unmerged_from") == 3


async def test_parts_follow_when_what_they_are_merged_into_is_merged_with_many(desk: Desk) -> None:
    target, other, source = await storm(desk)
    part = await desk.opens(title="calm")
    await merge(desk, part, source)
    answer = await change(desk, pb.BULK_ACTION_MERGE, into=f"incidents/{target}")
    assert (names(answer), answer.changed_count) == ([other, source], 2)
    assert {(await desk.run(each)).merged_into for each in (source, other, part)} == {target}


async def test_a_merge_into_what_takes_none_in_is_refused_as_a_whole_also_by_a_dry_run(desk: Desk) -> None:
    target, *many = await storm(desk)
    await desk.take(target, Resolved(ANA))
    for dry_run in (True, False):
        with pytest.raises(TocsinError, match="is resolved"):
            await change(desk, pb.BULK_ACTION_MERGE, into=f"incidents/{target}", dry_run=dry_run)
        with pytest.raises(TocsinError, match="does not exist"):
            await change(desk, pb.BULK_ACTION_MERGE, into=f"incidents/{uuid.uuid4()}", dry_run=dry_run)
    assert await states(desk, many) == {State.TRIGGERED}


async def test_a_part_that_ended_or_went_elsewhere_meanwhile_is_answered_by_itself_and_told_nowhere(desk: Desk) -> None:
    target, other, over, elsewhere, part = await storm(desk, 5)
    await desk.take(over, Resolved(ANA))
    await merge(desk, elsewhere, other)
    unknown = uuid.uuid4()
    errors: list[TocsinError | None] = []

    def respond(answers: Sequence[Advanced | TocsinError]) -> pb.BulkChangeIncidentsResponse:
        errors.extend(answer if isinstance(answer, TocsinError) else None for answer in answers)
        return pb.BulkChangeIncidentsResponse()

    await commands(desk).each(
        IdempotentCall(ORG, "BulkChangeIncidents", pb.BulkChangeIncidentsRequest(), pb.BulkChangeIncidentsResponse),
        [over, part, elsewhere, unknown],
        [target],
        lambda runs, id: plan_part(runs, id, target, ANA),
        respond,
    )
    assert [error and error.reason for error in errors] == [
        reasons.ERROR_REASON_INCIDENT_RESOLVED,
        None,
        reasons.ERROR_REASON_INCIDENT_STATE,
        reasons.ERROR_REASON_INCIDENT_NOT_FOUND,
    ]
    assert (await desk.said(target)).count("merged_from") == 1
    assert (await desk.run(part)).merged_into == target


async def test_merges_of_one_storm_into_two_incidents_at_once_leave_one_that_pages(desk: Desk) -> None:
    many = await storm(desk, 8)
    answers = await asyncio.gather(
        *(change(desk, pb.BULK_ACTION_MERGE, into=f"incidents/{into}") for into in (many[0], many[1]) * 2),
        return_exceptions=True,
    )
    refused = {answer.reason for answer in answers if isinstance(answer, TocsinError)}
    assert refused <= {reasons.ERROR_REASON_INCIDENT_STATE}, "the one into which they go is merged meanwhile"
    assert all(isinstance(answer, pb.BulkChangeIncidentsResponse | TocsinError) for answer in answers)
    runs = [await desk.run(each) for each in many]
    [end] = [run for run in runs if run.state is not State.MERGED]
    assert {run.merged_into for run in runs if run is not end} == {end.incident_id}


async def test_one_that_cannot_be_escalated_is_answered_by_itself(desk: Desk) -> None:
    many = await storm(desk)
    await desk.take(many[1], Escalated(ANA, 0))
    answer = await change(desk, pb.BULK_ACTION_ESCALATE, request_id=(id := str(uuid.uuid4())))
    assert names(answer) == many
    assert [each.WhichOneof("result") for each in answer.results] == ["incident", "error", "incident"]
    assert "no level above it" in answer.results[1].error.message
    assert (answer.changed_count, answer.failed_count) == (2, 1)
    assert await change(desk, pb.BULK_ACTION_ESCALATE, request_id=id) == answer, "a repeat gets its first answer"
    assert [(await desk.run(each)).level for each in many] == [2, 2, 2]


async def test_each_further_change_is_what_the_call_for_one_incident_does(desk: Desk) -> None:
    many = await storm(desk)
    ben = pb.Targets(targets=[target_pb2.Target(user="users/ben")])
    told: list[tuple[Any, dict[str, Any], str]] = [
        (pb.BULK_ACTION_ADD_RESPONDERS, {"targets": ben}, "responders_added"),
        (pb.BULK_ACTION_SET_SEVERITY, {"severity": 4}, "edited"),
        (pb.BULK_ACTION_ADD_NOTE, {"note": "the switch is broken"}, "note"),
        (pb.BULK_ACTION_REASSIGN, {"targets": ben}, "reassigned"),
        (pb.BULK_ACTION_REASSIGN, {"policy": "policies/night"}, "reassigned"),
        (pb.BULK_ACTION_ESCALATE, {"level": 2}, "escalated"),
        (pb.BULK_ACTION_ACKNOWLEDGE, {}, "acknowledged"),
        (pb.BULK_ACTION_UNACKNOWLEDGE, {}, "unacknowledged"),
        (pb.BULK_ACTION_RESTART, {}, "restarted"),
        (pb.BULK_ACTION_RESOLVE, {}, "resolved"),
    ]
    for action, fields, kind in told:
        answer = await change(desk, action, **fields)
        assert (names(answer), answer.changed_count, answer.failed_count) == (many, 3, 0), kind
        assert all([kind in await desk.said(each) for each in many]), kind
    assert {(await desk.run(each)).facts.severity for each in many} == {4}
    later = await change(desk, pb.BULK_ACTION_ADD_NOTE, note="it was the cable")
    assert names(later) == many, "a note is for what is over as well"
    assert (await change(desk, pb.BULK_ACTION_SET_SEVERITY, severity=1)).results == []


class IngestBeforeUs(Ingest):
    """Its relay tells of the resolve before its answer is here."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk

    async def resolve(self, org_id: str, actor: str, incident_ids: Sequence[UUID]) -> list[Closed]:
        for each in incident_ids:
            await self._desk.take(each, Resolved(actor))
        return await super().resolve(org_id, actor, incident_ids)


async def test_what_ingest_tells_of_first_is_counted_as_resolved_by_this_call(desk: Desk) -> None:
    many = await storm(desk)
    answer = await change(desk, pb.BULK_ACTION_RESOLVE, ingest=IngestBeforeUs(desk))
    assert (names(answer), answer.changed_count, answer.failed_count) == (many, 3, 0)


async def test_what_is_so_already_is_not_counted_as_changed(desk: Desk) -> None:
    await storm(desk)
    answer = await change(desk, pb.BULK_ACTION_SET_SEVERITY, severity=1)
    assert (len(answer.results), answer.changed_count, answer.failed_count) == (3, 0, 0)
