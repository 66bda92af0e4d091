"""When a reminder is sent, when it comes next, and when it has ended."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.reminders import ReminderState, judge, page_id, why_over

PLANNED = datetime(2026, 11, 28, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVERY = [None, HOUR]


@pytest.mark.parametrize(
    ("state", "every", "sends", "after", "reason"),
    [
        (State.TRIGGERED, None, True, ReminderState.DONE, ""),
        (State.TRIGGERED, HOUR, True, ReminderState.SCHEDULED, ""),
        (State.EXHAUSTED, None, True, ReminderState.DONE, ""),
        (State.EXHAUSTED, HOUR, True, ReminderState.SCHEDULED, ""),
        (State.SNOOZED, None, True, ReminderState.DONE, ""),
        (State.SNOOZED, HOUR, False, ReminderState.SCHEDULED, ""),
        (State.ACKNOWLEDGED, None, True, ReminderState.DONE, ""),
        (State.ACKNOWLEDGED, HOUR, False, ReminderState.STOPPED, "the incident was acknowledged by users/ana"),
        (State.RESOLVED, None, False, ReminderState.STOPPED, "the incident was resolved by users/ana"),
        (State.RESOLVED, HOUR, False, ReminderState.STOPPED, "the incident was resolved by users/ana"),
    ],
)
def test_what_becomes_of_a_reminder_that_is_due(
    state: State, every: timedelta | None, sends: bool, after: ReminderState, reason: str
) -> None:
    verdict = judge(state, "users/ana", PLANNED, every, PLANNED)
    assert (verdict.sends, verdict.state, verdict.reason) == (sends, after, reason)
    assert verdict.next_time == (PLANNED + HOUR if after is ReminderState.SCHEDULED else None)


@given(st.integers(min_value=60, max_value=604_800), st.integers(min_value=0, max_value=10**8))
def test_times_do_not_drift_and_what_was_missed_is_made_up_for_by_one(pause: int, late: int) -> None:
    every, now = timedelta(seconds=pause), PLANNED + timedelta(seconds=late)
    coming = judge(State.TRIGGERED, "", PLANNED, every, now).next_time
    assert coming is not None
    assert now < coming <= now + every
    assert (coming - PLANNED) % every == timedelta(0)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("every", EVERY)
def test_what_would_end_at_once_is_what_ends_when_it_is_due(state: State, every: timedelta | None) -> None:
    over = why_over(state, "", every)
    assert (over is not None) is (judge(state, "", PLANNED, every, PLANNED).state is ReminderState.STOPPED)


def test_each_coming_of_a_reminder_is_a_page_of_its_own() -> None:
    one, other = UUID(int=1), UUID(int=2)
    assert page_id(one, PLANNED) == page_id(one, PLANNED)
    assert len({page_id(each, PLANNED + later) for each in (one, other) for later in (timedelta(0), HOUR)}) == 4
    assert len({page_id(one, PLANNED, member) for member in ("", "ana", "ben")}) == 3, "each of a team gets their own"


@pytest.mark.parametrize("every", EVERY)
def test_one_of_no_incident_ends_by_itself_alone(every: timedelta | None) -> None:
    verdict = judge(None, "", PLANNED, every, PLANNED)
    assert verdict.sends
    assert verdict.state is (ReminderState.DONE if every is None else ReminderState.SCHEDULED)
