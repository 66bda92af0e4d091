"""Merged incidents on a real database: alerts, ends and commands that cross, and that no tenant reaches another one's."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_escalation.app.incidents.advance import Advanced
from tocsin_escalation.app.incidents.apply_events import Arrival, Opening, Result, apply_events
from tocsin_escalation.app.incidents.command import Commands
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import Acknowledged, AlertsAdded, Resolved, RespondersAdded
from tocsin_escalation.store.incidents import escalations, timers
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError

from tests.store.escalation.merges import ANA, CALLS, Ingest, merge, tell, two, unmerge
from tests.store.escalation.recorders import ORG, Desk, Notify
from tests.store.escalation.test_turns import hold, write


async def test_a_merge_is_told_on_both_sides_and_stops_the_pages_of_one(desk: Desk) -> None:
    source, target = await two(desk)
    await merge(desk, source, target)
    run = await desk.run(source)
    assert (run.state, run.merged_into, run.timer) == (State.MERGED, target, None)
    assert (await desk.said(source))[-1] == "merged"
    assert (await desk.said(target))[-1] == "merged_from"
    async with desk.db.system() as tx:
        assert [timer.incident_id for timer in await timers.nearest(tx, None, 10)] == [target]
    await desk.passes(minutes=6)
    await desk.sweep()
    assert await desk.paged(source) == [(1, "ana")]
    assert await desk.paged(target) == [(1, "ana"), (2, "ben")]
    assert (await merge(desk, source, target)).already_merged
    assert (await desk.said(source)).count("merged") == 1, "said once"
    await unmerge(desk, source)
    assert await desk.paged(source) == [(1, "ana"), (1, "ana")]
    assert (await desk.said(target))[-1] == "unmerged_from"
    assert (await desk.run(source)).timer is not None


async def test_later_alerts_are_told_at_the_other_incident_and_raise_it(desk: Desk) -> None:
    source, target = (desk.opening(severity=4), desk.opening(severity=4))
    await apply_events(desk.db, desk.effects, [source, target])
    await merge(desk, source.incident_id, target.incident_id)
    await tell(desk, (source.incident_id, AlertsAdded(2, 1, "much worse", 1)))
    assert (await desk.said(target.incident_id))[-3:] == ["severity_raised", "alerts_added", "level_paged"]
    assert (await desk.run(target.incident_id)).facts.severity == 1
    run = await desk.run(source.incident_id)
    assert (run.state, run.facts.alert_count, run.last_sequence) == (State.MERGED, 2, 2)
    assert await desk.paged(source.incident_id) == [(1, "ana")]


async def test_what_still_fires_pages_again_when_the_other_incident_ends(desk: Desk) -> None:
    source, target = await two(desk)
    await merge(desk, source, target)
    await tell(desk, (target, Resolved("integrations/prom")))
    run = await desk.run(source)
    assert (run.state, run.merged_into) == (State.TRIGGERED, None)
    assert await desk.paged(source) == [(1, "ana"), (1, "ana")]
    assert (await desk.said(source))[-2:] == ["unmerged", "level_paged"]


async def test_both_end_in_one_batch_and_no_user_is_paged(desk: Desk) -> None:
    source, target = await two(desk)
    await merge(desk, source, target)
    await tell(desk, (target, Resolved("integrations/prom")), (source, Resolved("integrations/prom")))
    for incident in (source, target):
        assert (await desk.run(incident)).state is State.RESOLVED
        assert await desk.paged(incident) == [(1, "ana")]


async def test_a_person_resolves_it_with_everything_that_is_merged_into_it(desk: Desk) -> None:
    source, target = await two(desk)
    third = await desk.opens()
    await merge(desk, third, source)
    await merge(desk, source, target)
    assert (await desk.run(third)).merged_into == target, "it followed"
    ingest = Ingest()
    [step] = await Commands(desk.db, desk.effects, Notify(), ingest).resolving(ORG, ANA, [target])
    assert [set(each) for each in ingest.resolved] == [{source, third}, {target}]
    assert not isinstance(await desk.take(target, step.event), TocsinError)
    for incident in (source, target, third):
        run = await desk.run(incident)
        assert (run.state, run.resolved_by) == (State.RESOLVED, ANA)
        assert await desk.paged(incident) == [(1, "ana")], "nobody was paged again meanwhile"


async def test_what_cannot_be_merged(desk: Desk) -> None:
    source, target = await two(desk)
    over, third = await desk.opens(), await desk.opens()
    await desk.take(over, Resolved(ANA))
    foreign = desk.opening(org_id="umbrella")
    await apply_events(desk.db, desk.effects, [foreign])
    await merge(desk, source, target)
    for pair, reason in [
        ((source, third), reasons.ERROR_REASON_INCIDENT_STATE),
        ((third, source), reasons.ERROR_REASON_INCIDENT_STATE),
        ((target, source), reasons.ERROR_REASON_INCIDENT_STATE),
        ((third, third), reasons.ERROR_REASON_INVALID_FIELD),
        ((source, source), reasons.ERROR_REASON_INVALID_FIELD),
        ((third, over), reasons.ERROR_REASON_INCIDENT_RESOLVED),
        ((over, third), reasons.ERROR_REASON_INCIDENT_RESOLVED),
        ((third, foreign.incident_id), reasons.ERROR_REASON_INCIDENT_NOT_FOUND),
        ((foreign.incident_id, third), reasons.ERROR_REASON_INCIDENT_NOT_FOUND),
        ((third, uuid4()), reasons.ERROR_REASON_INCIDENT_NOT_FOUND),
    ]:
        before = [await desk.said(each) for each in pair]
        with pytest.raises(TocsinError) as refused:
            await merge(desk, *pair)
        assert refused.value.reason == reason
        assert [await desk.said(each) for each in pair] == before, "refused as a whole"
    with pytest.raises(TocsinError) as stale:
        await merge(desk, third, target, etag="v99")
    assert stale.value.reason == reasons.ERROR_REASON_ETAG_MISMATCH
    assert (await desk.said(target)).count("merged_from") == 1
    for incident, reason in [
        (third, reasons.ERROR_REASON_INCIDENT_STATE),
        (over, reasons.ERROR_REASON_INCIDENT_RESOLVED),
        (foreign.incident_id, reasons.ERROR_REASON_INCIDENT_NOT_FOUND),
    ]:
        with pytest.raises(TocsinError) as refused:
            await unmerge(desk, incident)
        assert refused.value.reason == reason
    refusal = await desk.take(source, Acknowledged(ANA))
    assert isinstance(refusal, TocsinError)
    assert refusal.metadata["merged_into"] == f"incidents/{target}"
    assert isinstance(await desk.take(source, RespondersAdded(ANA, ())), TocsinError)


async def test_two_incidents_that_are_merged_into_each_other_at_once(desk: Desk) -> None:
    """One of the two is taken; neither is lost in the other."""
    first, second = await two(desk)
    results = await asyncio.gather(
        *(merge(desk, *pair) for pair in [(first, second), (second, first)] * (CALLS // 2)), return_exceptions=True
    )
    assert any(isinstance(result, pb.MergeIncidentResponse) for result in results)
    states = sorted([(await desk.run(first)).state, (await desk.run(second)).state])
    assert states == [State.MERGED, State.TRIGGERED]
    async with desk.db.transaction(ORG) as tx:
        assert len(await escalations.merged_into(tx, [first, second])) == 1


async def test_a_merge_that_crosses_with_the_end_of_the_other_incident(desk: Desk) -> None:
    """Whichever is first: no incident stays merged into one that is over."""
    for _ in range(4):
        source, target = await two(desk)
        outcomes = await asyncio.gather(
            merge(desk, source, target),
            apply_events(desk.db, desk.effects, [Arrival(ORG, target, 2, Resolved("integrations/prom"))]),
            return_exceptions=True,
        )
        if outcomes[1] != [Result.APPLIED]:  # it lost a deadlock more often than it repeats, and ingest sends it again
            await tell(desk, (target, Resolved("integrations/prom")))
        assert (await desk.run(target)).state is State.RESOLVED
        assert (await desk.run(source)).state is State.TRIGGERED


async def test_a_merged_incident_is_swept_by_no_loop(desk: Desk) -> None:
    source, target = await two(desk)
    await merge(desk, source, target)
    await desk.passes(minutes=timedelta(hours=3) / timedelta(minutes=1))
    while await desk.sweep():
        pass
    async with desk.db.system() as tx:
        assert source not in await timers.missing(tx)
    assert await desk.paged(source) == [(1, "ana")]
    assert isinstance(await desk.take(target, Acknowledged(ANA)), Advanced)


async def test_the_lock_of_incidents_that_are_not_merged_costs_two_statements(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = await two(desk)
    other = await desk.opens()
    asked: list[str] = []
    fetch = Tx.fetch

    def counting(tx: Tx, sql: str, *args: object) -> Any:
        asked.append(sql)
        return fetch(tx, sql, *args)

    monkeypatch.setattr(Tx, "fetch", counting)

    async def lock(*incidents: UUID) -> tuple[set[UUID], int]:
        asked.clear()
        async with desk.db.system() as tx:
            return set(await escalations.lock(tx, list(incidents), kin=True)), len(asked)

    assert await lock(source, other) == ({source, other}, 2)
    await merge(desk, source, target)
    for one in (source, target):
        assert await lock(one) == ({source, target}, 2), "the kin is in the snapshot of the lock"
    assert await lock(other) == ({other}, 2)


async def test_what_is_merged_while_a_lock_is_waited_for_is_locked_as_well(desk: Desk) -> None:
    source, target = await two(desk)
    for wanted in (source, target):
        async with desk.db.system() as tx:
            await escalations.lock(tx, [source, target])

            async def lock(one: UUID = wanted) -> set[UUID]:
                async with desk.db.system() as other:
                    return set(await escalations.lock(other, [one], kin=True))

            waiting = asyncio.create_task(lock())
            async with asyncio.timeout(30):
                while not await tx.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    await asyncio.sleep(0.005)
            runs = await escalations.lock(tx, [source, target])
            merged = replace(runs[source], state=State.MERGED, merged_into=target, timer=None)
            await escalations.save(tx, [merged])
        assert await waiting == {source, target}
        async with desk.db.system() as tx:
            await escalations.save(tx, [runs[source]])


async def test_a_merge_that_crosses_with_a_timer_leaves_no_timer_and_no_page_behind(desk: Desk) -> None:
    for _ in range(4):
        source, target = await two(desk)
        await desk.passes(minutes=6)
        await asyncio.gather(merge(desk, source, target), desk.sweep())
        run = await desk.run(source)
        assert (run.state, run.timer, run.pages) == (State.MERGED, None, {})
        paged = await desk.paged(source)
        await desk.passes(minutes=60)
        while await desk.sweep():
            pass
        assert await desk.paged(source) == paged, "whatever was first, nothing pages for it afterwards"
        assert await desk.paged(target) == [(1, "ana"), (2, "ben")]


async def test_an_incident_that_ingest_opens_anew_stays_merged_and_is_told_where_people_look(desk: Desk) -> None:
    source = desk.opening(severity=3)
    target = desk.opening(severity=3)
    await apply_events(desk.db, desk.effects, [source, target])
    await merge(desk, source.incident_id, target.incident_id)
    assert isinstance(source.event, Opening)
    worse = replace(source.event.facts, severity=1, alert_count=7)
    anew = replace(source, sequence=5, event=replace(source.event, facts=worse, anew_because="an event was lost"))
    assert await apply_events(desk.db, desk.effects, [anew]) == [Result.APPLIED]
    run = await desk.run(source.incident_id)
    assert (run.state, run.merged_into, run.facts.alert_count) == (State.MERGED, target.incident_id, 7)
    assert (await desk.run(target.incident_id)).facts.severity == 1
    assert await desk.paged(source.incident_id) == [(1, "ana")]
    over = replace(anew, sequence=9, event=replace(anew.event, resolved_by="integrations/prom"))  # type: ignore[arg-type]
    assert await apply_events(desk.db, desk.effects, [over]) == [Result.APPLIED]
    assert (await desk.run(source.incident_id)).state is State.RESOLVED
    assert (await desk.said(target.incident_id))[-1] == "unmerged_from"


async def test_the_end_of_an_incident_waits_for_no_turn_of_what_is_merged_into_it(desk: Desk) -> None:
    """It is BUSY, as an incident whose own turn is held; its caller sends it again."""
    await write(desk)
    source, target, other = await desk.opens(policy="rota"), await desk.opens(), await desk.opens()
    await merge(desk, source, target)
    events = [Arrival(ORG, each, 2, Resolved("integrations/prom")) for each in (target, other)]
    async with desk.db.system() as tx:
        await hold(tx)
        async with asyncio.timeout(30):
            assert await apply_events(desk.db, desk.effects, events) == [Result.BUSY, Result.APPLIED]
    assert await apply_events(desk.db, desk.effects, events) == [Result.APPLIED, Result.DUPLICATE]
    assert (await desk.run(source)).state is State.TRIGGERED
