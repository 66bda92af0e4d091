"""What becomes of pages, in the rows: told twice, in any order, by several replicas at once, beside code of before."""

import asyncio
import json
from uuid import UUID, uuid4

import pytest
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_escalation.app.incidents.apply_outcomes import OutcomeArrival, OutcomeResult, apply_outcomes
from tocsin_escalation.app.people import reach
from tocsin_escalation.domain.decision import PageType, page_id
from tocsin_escalation.domain.escalation import Reached, State
from tocsin_escalation.domain.events import Acknowledged, OutcomeKind, PageOutcome
from tocsin_kit.errors import TocsinError

from tests.store.escalation.recorders import ORG, POLICY, Desk, Notify

APPLIED, DUPLICATE, UNKNOWN = OutcomeResult
UNREACHABLE, FAILED, DELAYED, SENT, _ = OutcomeKind


async def told(desk: Desk, incident: UUID, kind: OutcomeKind, *, org_id: str = ORG, who: str = "ana") -> OutcomeArrival:
    """An outcome of a user's page of the present level."""
    run = await desk.run(incident)
    page = page_id(run, PageType.ESCALATION, run.level, who)
    return OutcomeArrival(
        org_id, incident, PageOutcome(page, who, kind, run.level, reason="no verified contact method")
    )


async def test_the_next_level_is_paged_in_the_same_transaction_and_once(desk: Desk) -> None:
    incident = await desk.opens()
    outcome = await told(desk, incident, UNREACHABLE)
    answers = await asyncio.gather(*(apply_outcomes(desk.db, desk.effects, [outcome] * 2) for _ in range(6)))
    results = [result for answer in answers for result in answer]
    assert sorted(results) == [APPLIED, *[DUPLICATE] * 11]
    assert await desk.paged(incident) == [(1, "ana"), (2, "ben")]
    assert (await desk.said(incident)).count("page_unreachable") == 1


async def test_a_redelivery_of_days_later_changes_nothing(desk: Desk) -> None:
    incident = await desk.opens()
    outcome = await told(desk, incident, UNREACHABLE)
    await apply_outcomes(desk.db, desk.effects, [outcome])
    before = await desk.run(incident)
    assert await apply_outcomes(desk.db, desk.effects, [outcome]) == [DUPLICATE]
    assert await desk.run(incident) == before


async def test_reordered_outcomes_come_to_the_same(desk: Desk) -> None:
    for order in ([FAILED, SENT], [SENT, FAILED]):
        incident = await desk.opens()
        outcomes = [await told(desk, incident, kind) for kind in order]
        for outcome in outcomes:
            await apply_outcomes(desk.db, desk.effects, [outcome])
        assert (await desk.run(incident)).reached is Reached.SOMEBODY


async def test_what_moves_an_incident_and_what_only_informs_come_in_one_call(desk: Desk) -> None:
    left, informed = await desk.opens(), await desk.opens()
    calls = [await told(desk, informed, SENT), await told(desk, left, DELAYED), await told(desk, left, FAILED)]
    calls.append(OutcomeArrival(ORG, uuid4(), calls[0].outcome))
    assert await apply_outcomes(desk.db, desk.effects, [*calls, calls[0]]) == [*[APPLIED] * 3, UNKNOWN, DUPLICATE]
    assert (await desk.run(informed)).reached is Reached.SOMEBODY
    assert await desk.paged(left) == [(1, "ana"), (2, "ben")]
    assert (await desk.said(left))[2:4] == ["page_delayed", "page_failed"]
    assert (await desk.said(informed)).count("page_sent") == 1


async def test_an_outcome_named_with_another_tenant_is_of_no_incident(desk: Desk) -> None:
    incident = await desk.opens()
    foreign = await told(desk, incident, UNREACHABLE, org_id="evil")
    assert await apply_outcomes(desk.db, desk.effects, [foreign]) == [UNKNOWN]
    nowhere = OutcomeArrival(ORG, uuid4(), foreign.outcome)
    assert await apply_outcomes(desk.db, desk.effects, [nowhere]) == [UNKNOWN]
    assert await desk.paged(incident) == [(1, "ana")]


async def test_the_outcome_of_a_page_refuses_no_user_who_acts_on_what_they_read(desk: Desk) -> None:
    incident = await desk.opens()
    timer = (await desk.run(incident)).timer
    assert await apply_outcomes(desk.db, desk.effects, [await told(desk, incident, SENT)]) == [APPLIED]
    run = await desk.run(incident)
    assert (run.version, run.timer) == (1, timer)
    answer = await desk.take(incident, Acknowledged("users/ana"), etag="v1")
    assert not isinstance(answer, TocsinError)


async def test_an_acknowledge_and_the_last_failure_at_the_same_instant(desk: Desk) -> None:
    for _ in range(10):
        incident = await desk.opens()
        outcome = await told(desk, incident, UNREACHABLE)
        await asyncio.gather(
            desk.take(incident, Acknowledged("users/ana")), apply_outcomes(desk.db, desk.effects, [outcome])
        )
        run = await desk.run(incident)
        assert (run.state, run.timer) == (State.ACKNOWLEDGED, None)
        assert await desk.paged(incident) in ([(1, "ana")], [(1, "ana"), (2, "ben")])


async def test_an_escalation_of_code_before_works_and_is_never_said_to_have_reached_no_user(desk: Desk) -> None:
    """It writes neither column: what became of its pages is not known."""
    incident = await desk.opens()
    async with desk.db.system() as tx:
        await tx.execute("UPDATE escalations SET pages = DEFAULT, reached = DEFAULT")
    await apply_outcomes(desk.db, desk.effects, [await told(desk, incident, UNREACHABLE)])
    assert await desk.paged(incident) == [(1, "ana"), (2, "ben")]
    await apply_outcomes(desk.db, desk.effects, [await told(desk, incident, UNREACHABLE, who="ben")])
    run = await desk.run(incident)
    assert (run.state, run.reached) == (State.EXHAUSTED, Reached.UNKNOWN)


async def test_a_policy_frozen_by_code_before_can_be_read(desk: Desk) -> None:
    incident = await desk.opens()
    async with desk.db.system() as tx:
        frozen = json.loads(await tx.fetchval("SELECT policy FROM escalations"))
        del frozen["page_raised_urgency"]
        await tx.execute("UPDATE escalations SET policy = $1", json.dumps(frozen))
    policy = (await desk.run(incident)).policy
    assert policy is not None
    assert policy.page_raised_urgency


async def test_when_notify_is_away_a_policy_says_that_it_does_not_know(desk: Desk) -> None:
    notify = Notify()
    [known] = await reach.of_policies(desk.db, notify, ORG, [POLICY])
    assert ([each.level for each in known.warned], known.complete) == ([2], True)
    notify.away = TocsinError(reasons.ERROR_REASON_SERVICE_UNAVAILABLE, "no answer")
    [unknown] = await reach.of_policies(desk.db, notify, ORG, [POLICY])
    assert (unknown.warned, unknown.complete) == ((), False)
    with pytest.raises(TocsinError):
        await reach.list_unreachable(desk.db, notify, ORG, ("", 0), 10)
