"""What follows an attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.domain.attempt import (
    Done,
    GiveUp,
    Permanent,
    Retryable,
    RetryIn,
    RetryPolicy,
    Sent,
    judge,
    keep_trying,
    span,
)
from tocsin_notify.domain.page import WAKING, DeathReason, Kind

POLICY = RetryPolicy()


def test_sent_is_done_and_permanent_is_over() -> None:
    assert judge(Sent("x"), 1, POLICY, 0.5) == Done()
    assert judge(Permanent("gone"), 1, POLICY, 0.5) == GiveUp(DeathReason.PERMANENT_FAILURE)


def test_the_fifth_failure_is_the_last() -> None:
    assert [isinstance(judge(Retryable("busy"), tries, POLICY, 0.5), RetryIn) for tries in range(1, 6)] == [
        *[True] * 4,
        False,
    ]
    assert judge(Retryable("busy"), 5, POLICY, 0.5) == GiveUp(DeathReason.ATTEMPTS_EXHAUSTED)


def test_steps_double_up_to_the_cap() -> None:
    patient = RetryPolicy(attempts=100)
    waits = [judge(Retryable("busy"), tries, patient, 0.999_999) for tries in range(1, 13)]
    steps = [round(wait.seconds) for wait in waits if isinstance(wait, RetryIn)]
    assert steps == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]


@given(
    st.integers(1, 4),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(0, 1e9),
)
def test_a_wait_is_within_its_bounds_and_never_before_retry_after(
    tries: int, chance: float, after: float | None
) -> None:
    verdict = judge(Retryable("busy", after), tries, POLICY, chance)
    assert isinstance(verdict, RetryIn)
    asked = min(after or 0.0, POLICY.longest_retry_after)
    assert asked <= verdict.seconds <= max(asked, POLICY.base * 2 ** (tries - 1))


def test_jitter_spreads_over_the_whole_step() -> None:
    waits = [judge(Retryable("busy"), 3, POLICY, number / 100) for number in range(100)]
    seconds = [wait.seconds for wait in waits if isinstance(wait, RetryIn)]
    assert min(seconds) < 0.1
    assert max(seconds) > 7.9


@given(st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1e9), st.floats(0, POLICY.window, exclude_max=True))
def test_a_page_without_another_method_is_tried_on_at_a_slow_pace(
    chance: float, after: float | None, age: float
) -> None:
    for kind in WAKING:
        verdict = keep_trying(kind, DeathReason.ATTEMPTS_EXHAUSTED, age, POLICY, chance, after)
        assert verdict is not None
        asked = min(after or 0.0, POLICY.longest_retry_after)
        longest = max(60.0, min(600.0, age / 10))
        assert max(asked, longest / 2) <= verdict.seconds <= max(asked, longest)


def test_slow_retries_spread_over_half_of_their_pace() -> None:
    verdicts = [
        keep_trying(Kind.ESCALATION, DeathReason.ATTEMPTS_EXHAUSTED, 60.0, POLICY, number / 100)
        for number in range(100)
    ]
    seconds = [verdict.seconds for verdict in verdicts if verdict is not None]
    assert len(seconds) == 100
    assert min(seconds) == 30.0
    assert max(seconds) > 59.0


def test_a_provider_that_is_away_for_hours_is_not_asked_hundreds_of_times() -> None:
    age, tries = 30.0, 0
    while (verdict := keep_trying(Kind.ESCALATION, DeathReason.ATTEMPTS_EXHAUSTED, age, POLICY, 0.5)) is not None:
        age += verdict.seconds
        tries += 1
    assert 50 < tries < 100


def test_a_page_that_is_too_old_is_over() -> None:
    def goes_on(age: float) -> bool:
        return keep_trying(Kind.NEW_INCIDENT, DeathReason.ATTEMPTS_EXHAUSTED, age, POLICY, 0.5) is not None

    assert goes_on(POLICY.window - 0.001)
    assert not goes_on(POLICY.window)
    assert keep_trying(Kind.NEW_INCIDENT, DeathReason.ATTEMPTS_EXHAUSTED, 0.0, RetryPolicy(window=0.0), 0.5) is None


def test_what_failed_for_good_and_what_is_no_page_is_not_tried_on() -> None:
    for reason in set(DeathReason) - {DeathReason.ATTEMPTS_EXHAUSTED}:
        assert keep_trying(Kind.NEW_INCIDENT, reason, 60.0, POLICY, 0.5) is None
    for kind in set(Kind) - WAKING:
        assert keep_trying(kind, DeathReason.ATTEMPTS_EXHAUSTED, 60.0, POLICY, 0.5) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (900, "15 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (1e6, "277 h 47 min"),
    ],
)
def test_how_long_in_words(seconds: float, words: str) -> None:
    assert span(seconds) == words
