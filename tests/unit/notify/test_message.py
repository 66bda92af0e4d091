"""What became of a message, from its row and its notifications."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from tocsin_notify.domain.message import (
    MessageState,
    Step,
    Stored,
    in_time,
    pause_after,
    require_reachable_time,
    state_of,
    state_of_group,
)
from tocsin_notify.domain.page import State
from tocsin_notify.domain.wall_time import BadTime

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
STEPS = [
    Step(state, "", begun)
    for state, begun in itertools.product(State, (False, True))
    if begun or state in (State.PENDING, State.CANCELLED, State.DEAD)
]


def step(state: State, *, begun: bool = True) -> Step:
    return Step(state, "", begun)


@pytest.mark.parametrize(
    ("stored", "steps", "state"),
    [
        (Stored.SCHEDULED, [], MessageState.SCHEDULED),
        (Stored.CANCELLED, [], MessageState.CANCELLED),
        (Stored.RELEASED, [], MessageState.FAILED),
        (Stored.RELEASED, [step(State.PENDING)], MessageState.SENDING),
        (Stored.RELEASED, [step(State.DEAD), step(State.SENDING)], MessageState.SENDING),
        (Stored.RELEASED, [step(State.DEAD), step(State.SENT)], MessageState.SENT),
        (Stored.RELEASED, [step(State.DEAD), step(State.DEAD)], MessageState.FAILED),
        (Stored.RELEASED, [step(State.CANCELLED)], MessageState.SKIPPED),
        (Stored.RELEASED, [step(State.DEAD), step(State.CANCELLED)], MessageState.SKIPPED),
        (Stored.STOPPED, [step(State.CANCELLED)], MessageState.CANCELLED),
        (Stored.STOPPED, [step(State.SENDING)], MessageState.SENDING),
        (Stored.STOPPED, [step(State.SENT)], MessageState.SENT),
    ],
)
def test_the_state_is_that_of_what_was_made_of_it(stored: Stored, steps: list[Step], state: MessageState) -> None:
    assert state_of(stored, steps) is state


@pytest.mark.parametrize(
    ("stored", "parts", "state"),
    [
        (Stored.SCHEDULED, [], MessageState.SCHEDULED),
        (Stored.RELEASED, [step(State.SENT), step(State.PENDING, begun=False)], MessageState.SENDING),
        (Stored.RELEASED, [step(State.SENT), step(State.DEAD)], MessageState.SENT),
        (Stored.RELEASED, [], MessageState.FAILED),
        (Stored.STOPPED, [], MessageState.SKIPPED),
        (Stored.STOPPED, [step(State.CANCELLED, begun=False)], MessageState.CANCELLED),
    ],
)
def test_a_group_message_is_sent_once_none_of_its_people_waits(
    stored: Stored, parts: list[Step], state: MessageState
) -> None:
    assert state_of_group(stored, parts) is state


def test_escalation_is_asked_again_ever_later_but_at_least_once_a_minute() -> None:
    pauses = [pause_after(tries, 1.0) for tries in (1, 2, 3, 7, 1000)]
    assert pauses == [1.0, 2.0, 4.0, 60.0, 60.0]
    assert pause_after(1, 0.0) == 0.5


@pytest.mark.parametrize("stored", [Stored.RELEASED, Stored.STOPPED])
@pytest.mark.parametrize("count", [1, 2])
def test_a_cancel_is_in_time_only_if_nothing_began_and_nothing_can(stored: Stored, count: int) -> None:
    for steps in itertools.product(STEPS, repeat=count):
        told = in_time(stored, steps)
        assert told is (all(each.state is State.CANCELLED and not each.begun for each in steps))
        assert not (told and state_of(stored, steps) is MessageState.SENT)


def test_a_message_that_failed_before_anything_was_tried_was_over() -> None:
    assert not in_time(Stored.RELEASED, [])
    assert in_time(Stored.CANCELLED, [])


@pytest.mark.parametrize(
    ("later", "refusal"),
    [
        (timedelta(seconds=-61), "lies in the past; without a time it is sent at once"),
        (timedelta(seconds=-59), ""),
        (timedelta(days=731), ""),
        (timedelta(days=731, seconds=1), "must lie within the next 731 days"),
    ],
)
def test_a_message_is_sent_now_or_within_two_years(later: timedelta, refusal: str) -> None:
    if not refusal:
        require_reachable_time(NOW + later, NOW)
        return
    with pytest.raises(BadTime, match=refusal):
        require_reachable_time(NOW + later, NOW)
