"""Where a page goes when one of its notifications is given up."""

import uuid

from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.domain.attempt import Permanent, Retryable, RetryPolicy, Sent
from tocsin_notify.domain.failover import (
    FAILOVER_STEP,
    Add,
    Elsewhere,
    PullForward,
    Sibling,
    cannot_wait,
    fail_over,
    go_around,
)
from tocsin_notify.domain.page import WAKING, Channel, Kind, Method, Page, State, Urgency

PAGE = Page(Kind.NEW_INCIDENT, Urgency.HIGH)
A, B, C = (Method(uuid.UUID(int=number), Channel.WEBHOOK, verified=True) for number in (1, 2, 3))


def sibling(method: Method, state: State, number: int = 9) -> Sibling:
    return Sibling(uuid.UUID(int=number), method.id, state)


def test_a_waiting_step_through_another_method_is_pulled_forward_before_anything_new() -> None:
    later = sibling(B, State.PENDING)
    assert fail_over(PAGE, A.id, [sibling(A, State.DEAD), later], [A, B, C]) == PullForward(later.id, B.id)


def test_a_waiting_step_through_the_failed_method_does_not_help() -> None:
    assert fail_over(PAGE, A.id, [sibling(A, State.PENDING)], [A, B]) == Add(B, FAILOVER_STEP + 1)


def test_the_last_resort_comes_after_all_others() -> None:
    last = Method(C.id, Channel.APPRISE, verified=True)
    assert fail_over(PAGE, A.id, [], [last, A, B]) == Add(B, FAILOVER_STEP + 2)
    assert fail_over(PAGE, A.id, [sibling(B, State.DEAD)], [last, A, B]) == Add(last, FAILOVER_STEP)


def test_a_digest_goes_to_no_other_method_than_its_users_choice() -> None:
    assert fail_over(Page(Kind.DIGEST, Urgency.LOW), A.id, [sibling(A, State.DEAD)], [A, B]) is None


def test_each_method_gets_one_chance() -> None:
    for state in (State.SENT, State.SENDING, State.DEAD, State.CANCELLED):
        assert fail_over(PAGE, A.id, [sibling(A, State.DEAD), sibling(B, state)], [A, B]) is None


def test_a_method_that_waits_for_its_next_attempt_had_its_chance() -> None:
    retrying = Sibling(uuid.UUID(int=9), B.id, State.PENDING, tried=True)
    assert fail_over(PAGE, A.id, [sibling(A, State.DEAD), retrying], [A, B]) is None
    assert fail_over(PAGE, A.id, [sibling(A, State.DEAD), retrying], [A, B, C]) == Add(C, FAILOVER_STEP + 2)


def test_unusable_methods_are_passed_over() -> None:
    unverified = Method(B.id, B.channel, verified=False)
    disabled = Method(C.id, C.channel, verified=True, disabled=True)
    assert fail_over(PAGE, A.id, [], [A, unverified, disabled]) is None


def test_an_override_and_a_named_method_hold_for_failing_over_too() -> None:
    mail = Method(B.id, Channel.EMAIL, verified=True)
    assert fail_over(Page(Kind.ESCALATION, Urgency.HIGH, Channel.WEBHOOK), A.id, [], [A, mail]) is None
    assert fail_over(Page(Kind.TEST, Urgency.HIGH, only_method=A.id), A.id, [], [A, B]) is None


@given(st.integers(1, 6), st.randoms())
def test_failing_over_again_and_again_tries_every_method_once_and_ends(many: int, random: object) -> None:
    methods = [Method(uuid.UUID(int=number), Channel.WEBHOOK, verified=True) for number in range(1, many + 1)]
    tried: list[Sibling] = []
    failed = methods[0]
    seen = [failed.id]
    while True:
        tried.append(Sibling(uuid.uuid4(), failed.id, State.DEAD))
        choice = fail_over(PAGE, failed.id, tried, methods)
        if choice is None:
            break
        assert isinstance(choice, Add)
        failed = choice.method
        seen.append(failed.id)
    assert seen == [method.id for method in methods]


@given(st.sampled_from(Kind), st.none() | st.floats(0, 1e9), st.floats(0, 900))
def test_a_page_does_not_wait_for_a_provider_that_asks_for_more_than_its_patience(
    kind: Kind, after: float | None, patience: float
) -> None:
    policy = RetryPolicy(patience=patience)
    expected = kind in WAKING and after is not None and after > patience
    assert cannot_wait(kind, Retryable("busy", after), policy) is expected
    assert not cannot_wait(kind, Sent(), policy)
    assert not cannot_wait(kind, Permanent("gone"), policy)


WAITS = sibling(A, State.PENDING, 1)


def test_a_page_goes_around_a_failing_provider_to_the_next_method_whose_provider_serves() -> None:
    assert go_around(PAGE, WAITS, [WAITS], [A, B, C], {A.id, B.id}, again=False) == Add(C, FAILOVER_STEP + 2)
    later = sibling(C, State.PENDING)
    family = [WAITS, sibling(B, State.PENDING, 2), later]
    assert go_around(PAGE, WAITS, family, [A, B, C], {A.id, B.id}, again=False) == PullForward(later.id, C.id)


def test_with_nothing_better_the_failing_provider_is_tried() -> None:
    assert go_around(PAGE, WAITS, [WAITS], [A], {A.id}, again=False) is None
    assert go_around(PAGE, WAITS, [WAITS], [A, B], {A.id, B.id}, again=False) is None
    dead = sibling(B, State.DEAD)
    assert go_around(PAGE, WAITS, [WAITS, dead], [A, B], {A.id}, again=True) is None
    named = Page(Kind.TEST, Urgency.HIGH, only_method=A.id)
    assert go_around(named, WAITS, [WAITS], [A, B], {A.id}, again=False) is None


def test_a_page_that_went_around_goes_on_only_when_what_took_it_over_has_failed() -> None:
    for state, tried in ((State.SENDING, False), (State.SENT, False), (State.PENDING, True)):
        other = Sibling(uuid.UUID(int=2), B.id, state, tried=tried)
        assert go_around(PAGE, WAITS, [WAITS, other], [A, B, C], {A.id}, again=True) == Elsewhere(B.id)
    dead = sibling(B, State.DEAD)
    assert go_around(PAGE, WAITS, [WAITS, dead], [A, B, C], {A.id}, again=True) == Add(C, FAILOVER_STEP + 2)


def test_an_earlier_step_that_went_out_does_not_hold_up_the_next_one() -> None:
    mail, call = sibling(B, State.SENT, 2), sibling(C, State.PENDING, 3)
    assert go_around(PAGE, WAITS, [mail, WAITS, call], [A, B, C], {A.id}, again=False) == PullForward(call.id, C.id)
