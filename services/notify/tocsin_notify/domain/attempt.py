"""What follows one attempt: done, again later, or given up."""

from dataclasses import dataclass

from tocsin_notify.domain.page import DeathReason


@dataclass(frozen=True, slots=True)
class Sent:
    """The provider took it. `provider_id` is its own name for it, if it gave one."""

    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Retryable:
    """It failed in a way that may pass. `after`: seconds the provider asked us to wait, if it did."""

    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Permanent:
    """It failed for good: the same request can never succeed."""

    reason: str


Outcome = Sent | Retryable | Permanent


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when. `attempts` counts all of them; the others are seconds."""

    attempts: int = 5
    base: float = 2.0
    cap: float = 300.0
    longest_retry_after: float = 900.0


@dataclass(frozen=True, slots=True)
class Done:
    """It was sent."""


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Again, `seconds` from now."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Not through this method any more."""

    reason: DeathReason


Verdict = Done | RetryIn | GiveUp


def judge(outcome: Outcome, tries: int, policy: RetryPolicy, chance: float) -> Verdict:
    """What follows attempt number `tries` (counted from 1). `chance` is uniform in [0, 1): the jitter, from outside.

    Full jitter, that is anything between nothing and the exponential step: failures of one instant do not come back as
    one wave. A provider's Retry-After is a lower bound, but never beyond `longest_retry_after`.
    """
    match outcome:
        case Sent():
            return Done()
        case Permanent():
            return GiveUp(DeathReason.PERMANENT_FAILURE)
        case Retryable(after=after):
            if tries >= policy.attempts:
                return GiveUp(DeathReason.ATTEMPTS_EXHAUSTED)
            wait = chance * min(policy.cap, policy.base * 2.0 ** min(tries - 1, 60))
            return RetryIn(max(wait, min(after or 0.0, policy.longest_retry_after)))
