"""When a delivery to a subscription is tried again, and when the subscription is stopped. Pure: nothing here reads a clock."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

PROBING_FROM: Final = 3
"""Failures in a row after which a subscription gets one request at a time, with growing pauses."""
TRIES_IN_ORDER: Final = 5
"""Failed attempts of an event after which the next one of its incident does not wait for it any more."""
WIDTH: Final = 4
"""Requests at once of a subscription whose last request was taken, in each replica."""
_LEAST_FAILURES: Final = 10
"""Failures before a subscription is stopped, however long ago the first was: one with few events fails rarely."""
_RETRY_AFTER_MOST: Final = 900.0
"""The most seconds of an endpoint's Retry-After that are followed."""
GONE: Final = 410


@dataclass(frozen=True, slots=True)
class EventRetryPolicy:
    """Seconds. The pause before the second attempt is at most `base`, doubled for each further one up to `cap`.

    A delivery is given up once it is older than `window`; a subscription is stopped once every request failed for `stop_after`.
    """

    base: float
    cap: float
    window: float
    stop_after: float

    def pause(self, failures: int, luck: float) -> float:
        """The pause before the next attempt, after `failures` failed ones. `luck` is between 0 and 1: half of the pause
        is random, so that endpoints that failed together are not all tried in the same moment.
        """
        longest = min(self.cap, self.base * 2.0 ** min(failures - 1, 30))
        return longest * (0.5 + 0.5 * luck)


@dataclass(frozen=True, slots=True)
class EndpointAnswer:
    """The outcome of one request. `status` is 0 without an answer; `after` are the seconds of its Retry-After."""

    taken: bool
    status: int
    detail: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionHealth:
    """The state of a subscription. `failures` in a row, the first at `failing_since`; nothing is sent before
    `resume_time`."""

    failures: int = 0
    failing_since: datetime | None = None
    failure: str = ""
    resume_time: datetime | None = None
    stop_time: datetime | None = None
    proven: bool = False
    """Whether a request was ever accepted."""

    @property
    def probing(self) -> bool:
        """Whether it gets one request at a time."""
        return self.failures >= PROBING_FROM

    @property
    def width(self) -> int:
        """Requests at once. One until the first request is accepted, and one after a failure: an endpoint that hangs
        holds no more."""
        return 1 if self.doubtful else WIDTH

    @property
    def doubtful(self) -> bool:
        """Whether its endpoint may hang, as far as is known."""
        return not self.proven or self.failures > 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The consequences of an answer. `due_time` is None when the delivery has ended; `stopped`: by this answer."""

    standing: SubscriptionHealth
    due_time: datetime | None
    taken: bool
    stopped: bool = False


def judge(
    standing: SubscriptionHealth,
    answer: EndpointAnswer,
    now: datetime,
    *,
    attempts: int,
    since: datetime,
    policy: EventRetryPolicy,
    luck: float,
) -> Verdict:
    """The consequences for the delivery, from `since`, and for its subscription, of an answer to attempt number
    `attempts`."""
    if answer.taken:
        return Verdict(SubscriptionHealth(stop_time=standing.stop_time, proven=True), None, taken=True)
    failures = standing.failures + 1
    failing_since = standing.failing_since or now
    asked = min(answer.after or 0.0, _RETRY_AFTER_MOST)
    rest = asked
    if failures >= PROBING_FROM:
        rest = max(rest, policy.pause(failures - PROBING_FROM + 1, luck))
    for_long = failures >= _LEAST_FAILURES and now - failing_since >= timedelta(seconds=policy.stop_after)
    stops = standing.stop_time is None and (answer.status == GONE or for_long)
    after = replace(
        standing,
        failures=failures,
        failing_since=failing_since,
        failure=answer.detail,
        resume_time=now + timedelta(seconds=rest) if rest else None,
        stop_time=now if stops else standing.stop_time,
    )
    over = now - since >= timedelta(seconds=policy.window)
    due = None if over else now + timedelta(seconds=max(asked, policy.pause(attempts, luck)))
    return Verdict(after, due, taken=False, stopped=stops)
