"""The next method of a page when one of its notifications is given up."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from tocsin_notify.domain.attempt import Outcome, Retryable, RetryPolicy
from tocsin_notify.domain.page import ONE_WAY, RINGING, WAKING, Kind, Method, Page, State, by_worth

GONE: Final = "its contact method was deleted; the page has other notifications"
"""Why a step is cancelled for which no other method was left, while its page had other notifications."""
REMOVED: Final = "removed from the queue by "
"""Why an operator's removal cancels a step; the operator's name follows."""
FAILOVER_STEP: Final = 1000
"""Steps from here on were not planned by a rule: they replaced a failed one. Rules are at most 30."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """A notification of the same page. `tried`: a pending one that waits for another attempt, not for its first.

    `taken`: a provider has accepted it, even if it failed since. `gone`: a cancelled one for which no method was left
    (`GONE`, `REMOVED`); others are cancelled because they are not needed.
    """

    id: UUID
    method: UUID
    state: State
    tried: bool = False
    taken: bool = False
    gone: bool = False


@dataclass(frozen=True, slots=True)
class PullForward:
    """A later step through another method exists: it is due now."""

    notification: UUID
    method: UUID


@dataclass(frozen=True, slots=True)
class Add:
    """A new notification through a method this page has not used."""

    method: Method
    step: int


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The page is being sent through another method, or was sent through it."""

    method: UUID


Failover = PullForward | Add


def fail_over(page: Page, failed: UUID, siblings: Sequence[Sibling], methods: Sequence[Method]) -> Failover | None:
    """The user's next usable method that this page has not tried yet; None when there is none left.

    `failed` is the method that was given up; `siblings` are the page's notifications, earliest due first, `methods` the
    user's in their order. Those of last resort are after all others. Failing over never returns to a method that was
    tried for this page: when all its methods fail, none is given up in favour of another that fails as well.
    """
    if page.only_method is not None:
        return None
    candidates = {method.id: method for method in methods if method.usable and _allowed(method, page)}
    tried = {sibling.method for sibling in siblings if sibling.tried or sibling.state is not State.PENDING} | {failed}
    for sibling in siblings:
        if sibling.state is State.PENDING and sibling.method in candidates and sibling.method not in tried:
            return PullForward(sibling.id, sibling.method)
    numbers = {method.id: number for number, method in enumerate(methods)}
    for method in by_worth(methods):
        if method.id in candidates and method.id not in tried:
            return Add(method, FAILOVER_STEP + numbers[method.id])
    return None


def reaches_nobody(siblings: Sequence[Sibling], methods: Sequence[Method]) -> bool:
    """Whether no notification of a page was sent, is being sent, or could be sent at its time, as things are now.

    A step that waits for a contact method that is switched off, no longer verified or deleted does not count: the level
    does not wait for it. The step stays, and is sent if the method can be used again by then.
    """
    usable = {method.id for method in methods if method.usable}
    for each in siblings:
        waits_in_vain = each.state is State.PENDING and each.method not in usable
        if not (each.state is State.DEAD or waits_in_vain or (each.state is State.CANCELLED and each.gone)):
            return False
    return True


def go_around(
    page: Page,
    notification: Sibling,
    siblings: Sequence[Sibling],
    methods: Sequence[Method],
    failing: Collection[UUID],
    *,
    again: bool,
) -> Failover | Elsewhere | None:
    """The method that a page uses at once although `notification` is not given up: the provider of its own method fails
    for many.

    `failing`: the methods with such a provider. `again`: the page went around it before; as long as another
    notification of the page is alive, it uses no further method. None: no better method is left, so it is tried like
    any other.
    """
    if again:
        for sibling in siblings:
            lives = sibling.state in (State.SENDING, State.SENT) or (sibling.state is State.PENDING and sibling.tried)
            if lives and sibling.id != notification.id and sibling.method not in failing:
                return Elsewhere(sibling.method)
    # The others keep their places: the step of a new notification is counted from them.
    fit = [method if method.id not in failing else replace(method, disabled=True) for method in methods]
    return fail_over(page, notification.method, siblings, fit)


def cannot_wait(kind: Kind, outcome: Outcome, policy: RetryPolicy) -> bool:
    """Whether a page that is to be tried again goes to another method of its user now, if there is one.

    A provider that asks for fifteen minutes is as good as away for a user who must be woken. News can wait.
    """
    return kind in WAKING and isinstance(outcome, Retryable) and (outcome.after or 0.0) > policy.patience


def _allowed(method: Method, page: Page) -> bool:
    if page.kind is Kind.DIGEST:
        return False
    if page.kind in ONE_WAY:
        return method.channel not in RINGING
    return page.channel_override is None or method.channel is page.channel_override
