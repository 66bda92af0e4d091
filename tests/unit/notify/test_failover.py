"""Where a page goes when one of its notifications is given up."""

import uuid

from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.domain.attempt import Permanent, Retryable, RetryPolicy, Sent
from tocsin_notify.domain.failover import FAILOVER_STEP, Add, PullForward, Sibling, cannot_wait, fail_over
from tocsin_notify.domain.page import PAGES, Channel, Kind, Method, Page, State, Urgency

PAGE = Page(Kind.NEW_INCIDENT, Urgency.HIGH)
A, B, C = (Method(uuid.UUID(int=number), Channel.WEBHOOK, verified=True) for number in (1, 2, 3))


def sibling(method: Method, state: State, number: int = 9) -> Sibling:
    return Sibling(uuid.UUID(int=number), method.id, state)


def test_a_waiting_step_through_another_method_is_pulled_forward_before_anything_new() -> None:
    later = sibling(B, State.PENDING)
    assert fail_over(PAGE, A.id, [sibling(A, State.DEAD), later], [A, B, C]) == PullForward(later.id, B.id)


def test_a_waiting_step_through_the_failed_method_helps_nobody() -> None:
    assert fail_over(PAGE, A.id, [sibling(A, State.PENDING)], [A, B]) == Add(B, FAILOVER_STEP + 1)


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
    expected = kind in PAGES and after is not None and after > patience
    assert cannot_wait(kind, Retryable("busy", after), policy) is expected
    assert not cannot_wait(kind, Sent(), policy)
    assert not cannot_wait(kind, Permanent("gone"), policy)
