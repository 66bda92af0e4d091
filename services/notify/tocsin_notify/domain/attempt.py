"""What follows one attempt: done, retry, or given up; and what follows the last one."""

from dataclasses import dataclass
from typing import Final

from tocsin_notify.domain.page import WAKING, DeathReason, Kind


@dataclass(frozen=True, slots=True)
class Sent:
    """The provider accepted it. `provider_id` is the provider's name for it, if it gave one."""

    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Retryable:
    """It failed, and a repeat may succeed. `after`: seconds the provider asked us to wait, if it did.

    `recipient`: the fault concerns this recipient, or some like it. The provider may well serve others.
    """

    reason: str
    after: float | None = None
    recipient: bool = False


@dataclass(frozen=True, slots=True)
class Permanent:
    """It failed for good: the same request can never succeed.

    `gone`: the address of the contact method does not exist any more, so nothing else can succeed there either.
    """

    reason: str
    gone: bool = False


Outcome = Sent | Retryable | Permanent

AWAY: Final = 60.0
"""Seconds to wait for a fault that only the operator or time can end: longer than a page waits, so it goes to the next
method."""


@dataclass(slots=True)
class RetryPolicy:
    """How often and when; all but `attempts` are seconds. Options of the queue change it while the process runs.

    `attempts` counts those through one method, after which another method is tried. `patience`: the longest that a page
    waits for a provider that asks for it (Retry-After) while its user has another method. `slow_base`, `slow_cap` and
    `window` are for pages that have no other method left: the pause between two tries at first and in the end, and the
    whole time.
    """

    attempts: int = 5
    base: float = 2.0
    cap: float = 300.0
    longest_retry_after: float = 900.0
    patience: float = 30.0
    slow_base: float = 60.0
    slow_cap: float = 600.0
    window: float = 6 * 3600.0


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


def span(seconds: float) -> str:
    """As people say it: `45 s`, `15 min`, `1 h 30 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return " ".join([f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes))


def judge(outcome: Outcome, tries: int, policy: RetryPolicy, chance: float) -> Verdict:
    """What follows attempt number `tries` (counted from 1). `chance` is uniform in [0, 1): the jitter, from outside.

    Full jitter, which is anything between zero and the exponential step: failures of one instant are not retried in one
    wave. A provider's Retry-After is a lower bound, but never beyond `longest_retry_after`.
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
            return _not_before(wait, after, policy)


def keep_trying(
    kind: Kind, reason: DeathReason, age: float, policy: RetryPolicy, chance: float, after: float | None = None
) -> RetryIn | None:
    """The slow retry of a notification whose page has no other method left; None: the page is given up.

    `age`: seconds since its first try. `chance` and `after` as for `judge`. A page matters until a person answers, so
    it is retried while its provider is away, up to `window`. News and tests have only their attempts: "it is resolved"
    is of no use hours later, and the user who asked for a test message or a code waits for it now.

    `slow_pace` says how long it waits.
    """
    if kind not in WAKING or reason is not DeathReason.ATTEMPTS_EXHAUSTED or age >= policy.window:
        return None
    return slow_pace(age, policy, chance, after)


def slow_pace(age: float, policy: RetryPolicy, chance: float, after: float | None = None) -> RetryIn:
    """The pause of a page that is retried, or whose provider fails for many; `age`, `chance` and `after` as above.

    The pause is at most a tenth of the age: once the provider is back, the page is later by no more than a tenth of the
    outage. A fixed pace would be several hundred tries, and as many copies where a provider takes a message but answers
    too late. The pause is at least half of that: a provider that refuses at once causes no tight loop.
    """
    longest = min(policy.slow_cap, max(policy.slow_base, age / 10))
    return _not_before((1.0 + chance) / 2 * longest, after, policy)


def _not_before(wait: float, after: float | None, policy: RetryPolicy) -> RetryIn:
    return RetryIn(max(wait, min(after or 0.0, policy.longest_retry_after)))
