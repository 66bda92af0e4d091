"""Answers about an incident that is merged into another one act where people look."""

import asyncio

import pytest
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_escalation.app.incidents.advance import Advanced
from tocsin_escalation.app.incidents.command import Commands, IdempotentCall
from tocsin_escalation.app.incidents.decision_data import Step
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import Acknowledged, Noted, Resolved
from tocsin_escalation.rpc import mapping
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc import masks

from tests.store.escalation.merges import ANA, Ingest, acknowledge, merge, tell, two, unmerge, words
from tests.store.escalation.recorders import ORG, Desk, Notify


async def test_an_answer_from_a_phone_acts_on_the_incident_into_which_its_own_was_merged(desk: Desk) -> None:
    source, target = await two(desk)
    third = await desk.opens()
    await merge(desk, third, source)
    await merge(desk, source, target)
    notify = Notify()
    assert await acknowledge(desk, notify, third) == f"incidents/{target}"
    assert f"incidents/{target}" in [each.incident for each in notify.cancelled], (
        "that its pages have stopped is certain"
    )
    run = await desk.run(target)
    assert (run.state, run.acknowledged_by) == (State.ACKNOWLEDGED, ANA)
    about = f"in answer to incidents/{third}, which is merged into this one"
    assert (await words(desk, target))[-1] == f"acknowledged by users/ana (by sms) {about}"
    passed = f"acknowledged (by sms): passed on to incidents/{target}, into which this one is merged"
    assert (await words(desk, third))[-1] == passed
    assert (await desk.run(third)).state is State.MERGED
    assert await acknowledge(desk, notify, source) == f"incidents/{target}"
    assert (await desk.said(source))[-1] == "merged", "nothing was done anew, and nothing is said"
    for via, etag in (("", ""), ("sms", masks.etag((await desk.run(source)).version))):
        with pytest.raises(TocsinError) as refused:
            await acknowledge(desk, notify, source, via, etag)
        assert refused.value.reason == reasons.ERROR_REASON_INCIDENT_STATE, "it names this very incident"
    await unmerge(desk, source)
    assert await acknowledge(desk, notify, source) == f"incidents/{source}"


async def test_many_answers_at_once_are_passed_on_each(desk: Desk) -> None:
    source, target = await two(desk)
    other = await desk.opens()
    await merge(desk, source, target)
    names = [f"incidents/{each}" for each in (source, other)]
    notify = Notify()
    response = await Commands(desk.db, desk.effects, notify, Ingest()).many(
        IdempotentCall(
            ORG,
            "BatchAcknowledgeIncidents",
            pb.BatchAcknowledgeIncidentsRequest(names=names, via="link"),
            pb.BatchAcknowledgeIncidentsResponse,
        ),
        [Step(each, Acknowledged(ANA, "link"), answers=True) for each in (source, other)],
        lambda answers: pb.BatchAcknowledgeIncidentsResponse(
            results=[
                pb.IncidentResult(name=name, incident=mapping.incident(answer.run))
                for name, answer in zip(names, answers, strict=True)
                if isinstance(answer, Advanced)
            ]
        ),
    )
    assert [each.incident.name for each in response.results] == [f"incidents/{target}", f"incidents/{other}"]
    assert {each.incident for each in notify.cancelled} >= {f"incidents/{target}", f"incidents/{other}"}


async def test_a_person_who_resolves_by_an_answer_ends_both_incidents(desk: Desk) -> None:
    source, target = await two(desk)
    await merge(desk, source, target)
    ingest = Ingest()
    phone = Commands(desk.db, desk.effects, Notify(), ingest)
    step, before = await phone.answering(ORG, ANA, await desk.run(source), "sms")
    assert (step.incident_id, before, ingest.resolved) == (target, False, [[source], [target]])
    again, before = await phone.answering(ORG, ANA, await desk.run(source), "sms")
    assert (again.incident_id, before) == (target, False), "the first try died on the way"
    assert isinstance(await desk.take(target, step.event), Advanced)
    about = f"in answer to incidents/{source}, which is merged into this one"
    assert (await words(desk, target))[-1] == f"resolved by users/ana (by sms) {about}"
    assert [(await desk.run(each)).state for each in (source, target)] == [State.RESOLVED] * 2
    assert await desk.paged(source) == [(1, "ana")]
    step, before = await phone.answering(ORG, ANA, await desk.run(source), "sms")
    assert (step.incident_id, before) == (source, True), "all is over"


async def test_an_answer_about_what_was_taken_out_or_ended_by_others_resolves_nothing_else(desk: Desk) -> None:
    source, target = await two(desk)
    await merge(desk, source, target)
    seen = await desk.run(source)
    await unmerge(desk, source)
    phone = Commands(desk.db, desk.effects, Notify(), Ingest())
    step, _ = await phone.answering(ORG, ANA, seen, "sms")
    assert step.incident_id == source, "it was taken out after the request had read it"
    third = await desk.opens()
    await merge(desk, third, target)
    await tell(desk, (third, Resolved("integrations/prom")))
    step, before = await phone.answering(ORG, ANA, await desk.run(third), "sms")
    assert (step.incident_id, before) == (third, True)
    assert (await desk.run(target)).state is State.TRIGGERED


async def test_a_note_about_a_merged_incident_is_told_where_people_look_as_well(desk: Desk) -> None:
    source, target = await two(desk)
    await merge(desk, source, target)
    answer = await desk.take(source, Noted(ANA, "same disk"))
    assert isinstance(answer, Advanced)
    assert answer.entries[-1].message == "same disk", "the caller gets the entry of the incident that was named"
    assert (await words(desk, source))[-1] == "same disk"
    assert (await words(desk, target))[-1] == f"of incidents/{source}, which is merged into this one: same disk"


async def test_an_answer_that_crosses_with_an_unmerge_is_never_lost(desk: Desk) -> None:
    for _ in range(6):
        source, target = await two(desk)
        await merge(desk, source, target)
        name, _ = await asyncio.gather(acknowledge(desk, Notify(), source), unmerge(desk, source))
        states = [(await desk.run(each)).state for each in (source, target)]
        if name == f"incidents/{source}":
            assert states == [State.ACKNOWLEDGED, State.TRIGGERED], "it was taken out first"
        else:
            assert states == [State.TRIGGERED, State.ACKNOWLEDGED]
