"""When a reminder is sent, when it comes next, and when it has ended."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.reminders import ReminderState, Rhythm, judge, page_id, why_over

PLANNED = datetime(2026, 11, 28, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
ONCE, AGAIN, TO_THE_END = Rhythm(), Rhythm(HOUR), Rhythm(HOUR, until_resolved=True)
RHYTHMS = [ONCE, AGAIN, TO_THE_END]


@pytest.mark.parametrize(
    ("state", "rhythm", "sends", "after", "reason"),
    [
        (State.TRIGGERED, ONCE, True, ReminderState.DONE, ""),
        (State.TRIGGERED, AGAIN, True, ReminderState.SCHEDULED, ""),
        (State.EXHAUSTED, ONCE, True, ReminderState.DONE, ""),
        (State.EXHAUSTED, AGAIN, True, ReminderState.SCHEDULED, ""),
        (State.SNOOZED, ONCE, True, ReminderState.DONE, ""),
        (State.SNOOZED, AGAIN, False, ReminderState.SCHEDULED, ""),
        (State.ACKNOWLEDGED, ONCE, True, ReminderState.DONE, ""),
        (State.ACKNOWLEDGED, AGAIN, False, ReminderState.STOPPED, "the incident was acknowledged by users/ana"),
        (State.ACKNOWLEDGED, TO_THE_END, True, ReminderState.SCHEDULED, ""),
        (State.SNOOZED, TO_THE_END, False, ReminderState.SCHEDULED, ""),
        (State.RESOLVED, TO_THE_END, False, ReminderState.STOPPED, "the incident was resolved by users/ana"),
        (State.RESOLVED, ONCE, False, ReminderState.STOPPED, "the incident was resolved by users/ana"),
        (State.RESOLVED, AGAIN, False, ReminderState.STOPPED, "the incident was resolved by users/ana"),
    ],
)
def test_what_becomes_of_a_reminder_that_is_due(
    state: State, rhythm: Rhythm, sends: bool, after: ReminderState, reason: str
) -> None:
    verdict = judge(state, "users/ana", PLANNED, rhythm, PLANNED)
    assert (verdict.sends, verdict.state, verdict.reason) == (sends, after, reason)
    assert verdict.next_time == (PLANNED + HOUR if after is ReminderState.SCHEDULED else None)


@given(st.integers(min_value=60, max_value=604_800), st.integers(min_value=0, max_value=10**8))
def test_times_do_not_drift_and_what_was_missed_is_made_up_for_by_one(pause: int, late: int) -> None:
    every, now = timedelta(seconds=pause), PLANNED + timedelta(seconds=late)
    coming = judge(State.TRIGGERED, "", PLANNED, Rhythm(every), now).next_time
    assert coming is not None
    assert now < coming <= now + every
    assert (coming - PLANNED) % every == timedelta(0)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_what_would_end_at_once_is_what_ends_when_it_is_due(state: State, rhythm: Rhythm) -> None:
    over = why_over(state, "", rhythm)
    assert (over is not None) is (judge(state, "", PLANNED, rhythm, PLANNED).state is ReminderState.STOPPED)


def test_each_coming_of_a_reminder_is_a_page_of_its_own() -> None:
    one, other = UUID(int=1), UUID(int=2)
    assert page_id(one, PLANNED) == page_id(one, PLANNED)
    assert len({page_id(each, PLANNED + later) for each in (one, other) for later in (timedelta(0), HOUR)}) == 4
    assert len({page_id(one, PLANNED, member) for member in ("", "ana", "ben")}) == 3, "each of a team gets their own"


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_one_of_no_incident_ends_by_itself_alone(rhythm: Rhythm) -> None:
    verdict = judge(None, "", PLANNED, rhythm, PLANNED)
    assert verdict.sends
    assert verdict.state is (ReminderState.DONE if rhythm is ONCE else ReminderState.SCHEDULED)
