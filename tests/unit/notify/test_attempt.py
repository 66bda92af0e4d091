"""What follows an attempt."""

from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.domain.attempt import Done, GiveUp, Permanent, Retryable, RetryIn, RetryPolicy, Sent, judge
from tocsin_notify.domain.page import DeathReason

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
