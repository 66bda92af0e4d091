"""Which policy an incident runs on: never one that pages no one for it now, while the tenant has another one for that."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_escalation.domain.choice import choose
from tocsin_escalation.domain.conditions import ALWAYS, Condition
from tocsin_escalation.domain.decision import NoteKind, Page
from tocsin_escalation.domain.policy import GapChoice, Level, OnCall, Policy, Target
from tocsin_escalation.domain.schedules.model import Window

from tests.unit.escalation.people import EVERYBODY, MINUTE, level, policy, schedule, user
from tests.unit.escalation.schedules.writing import WORKDAYS, hours
from tests.unit.escalation.test_conditions import begun, only

AT_NIGHT = datetime(2026, 3, 3, 3, 0, tzinfo=UTC)
AT_NOON = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
OFFICE: tuple[Window, ...] = (hours(WORKDAYS, 8, 18),)
ANY_SEVERITY = Condition((), OFFICE, "UTC")
CATCH_ALL = replace(policy(level(user("dora"))), id="catch-all")


def test_a_critical_incident_at_night_pages_the_tenants_fallback_when_its_policy_is_for_office_hours() -> None:
    office = policy(only(ANY_SEVERITY, user("ana")))
    assert choose("night", office, CATCH_ALL, EVERYBODY, 1, AT_NOON).policy is office
    started = choose("night", office, CATCH_ALL, EVERYBODY, 1, AT_NIGHT)
    assert started.policy is CATCH_ALL
    assert started.fallback_cause == (
        "policies/night has no level that pages anybody for it at this time; "
        "running on the tenant's fallback policies/catch-all"
    )
    assert choose("night", office, None, EVERYBODY, 1, AT_NIGHT).policy is office, "there is no other one"
    reaching = replace(office, fallback_target=user("ben"))
    assert choose("night", reaching, CATCH_ALL, EVERYBODY, 1, AT_NIGHT).policy is reaching


def test_who_is_meant_for_severe_incidents_only_stays_so() -> None:
    """A raise of the severity pages them, so the incident stays on their policy."""
    severe = policy(only(Condition((1, 2)), user("ana")))
    assert choose("night", severe, CATCH_ALL, EVERYBODY, 4, AT_NIGHT).policy is severe
    assert choose("night", severe, CATCH_ALL, EVERYBODY, 1, AT_NIGHT).policy is severe


@pytest.mark.parametrize(("choice", "stays"), [(GapChoice.HOLD, True), (GapChoice.SKIP, False)])
def test_a_level_that_waits_is_no_reason_outside_of_its_hours(choice: GapChoice, stays: bool) -> None:
    coming = OnCall((), "a gap", gap=True, comes_on=AT_NIGHT + 60 * MINUTE, next_users=("ana",))
    there = replace(EVERYBODY, schedules={"web": coming})
    waiting = policy(level(schedule("web")), on_gap=choice)
    assert (choose("night", waiting, CATCH_ALL, there, 1, AT_NIGHT).policy is waiting) == stays
    nobody = replace(policy(level(user("gone"))), id="after")
    instead = replace(waiting, on_gap=GapChoice.FALLBACK, fallback_target=user("ben"), next_policy="after")
    knowing = replace(there, policies={"after": nobody})
    assert choose("night", instead, CATCH_ALL, knowing, 1, AT_NIGHT).policy is instead, (
        "ben is paged instead of the gap"
    )
    by_day = policy(only(ANY_SEVERITY, schedule("web")), on_gap=choice)
    assert choose("night", by_day, CATCH_ALL, there, 1, AT_NIGHT).policy is CATCH_ALL


CONDITIONS = st.sampled_from((ALWAYS, ANY_SEVERITY, Condition((1, 2)), Condition((3, 4), OFFICE, "UTC")))
LEVELS = st.builds(
    lambda who, condition: replace(level(who), condition=condition),
    st.sampled_from((user("ana"), user("gone"), schedule("gap"), schedule("on"))),
    CONDITIONS,
)


@given(
    chain=st.lists(st.lists(LEVELS, min_size=1, max_size=3), min_size=1, max_size=3),
    gap=st.sampled_from(GapChoice),
    fallbacks=st.lists(st.sampled_from((None, user("ben"), user("gone"))), min_size=3, max_size=3),
    severity=st.integers(1, 4),
    now=st.sampled_from((AT_NIGHT, AT_NOON)),
)
def test_the_policy_asked_for_is_left_exactly_when_it_would_page_no_user_now_although_it_is_for_the_severity(
    chain: list[list[Level]], gap: GapChoice, fallbacks: list[Target | None], severity: int, now: datetime
) -> None:
    policies = [
        Policy(f"p{n}", tuple(levels), fallback_target=fallbacks[n], on_gap=gap, next_policy=f"p{n + 1}")
        for n, levels in enumerate(chain)
    ]
    policies[-1] = replace(policies[-1], next_policy="")
    coming = OnCall((), "a gap", gap=True, comes_on=now + 60 * MINUTE, next_users=("ana",))
    there = replace(
        EVERYBODY,
        policies={each.id: each for each in policies},
        schedules={"gap": coming, "on": OnCall(("cem",), "on call")},
    )
    chosen = choose("p0", policies[0], CATCH_ALL, there, severity, now).policy
    story = begun(policies[0], now, severity, there)
    pages = any(isinstance(command, Page) for command in story.decisions[-1].commands)
    if pages or NoteKind.LEVEL_HELD in story.said():
        assert chosen is policies[0]
    elif any(each.condition.is_for(severity) for levels in chain for each in levels):
        assert chosen is CATCH_ALL
