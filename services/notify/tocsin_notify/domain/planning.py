"""Plans the notifications of one page from the user's rules."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin_notify.domain.notification_settings import NotificationSettings
from tocsin_notify.domain.page import (
    LAST_RESORT,
    NEWS,
    ONE_WAY,
    RINGING,
    WAKING,
    Method,
    Page,
    Rule,
    Urgency,
    by_worth,
)


@dataclass(frozen=True, slots=True)
class Planned:
    """One notification to make: through `method`, `delay` seconds from now. (method, step) is unique within a page."""

    method: Method
    step: int
    delay: float
    reason: str = ""
    """Why it waits longer than its rule says."""


def plan(page: Page, methods: Sequence[Method], rules: Sequence[Rule]) -> list[Planned]:
    """The steps for this page; empty when no method can be used, which is a dead letter.

    `methods` and `rules` are the user's, in their order. A rule whose method is disabled, deleted or unverified is
    served by another usable one: a page too many is better than one too few. A user without rules for the urgency gets
    every usable method at once, and those of last resort only if there is no other. News and messages are one
    notification: the first step of their urgency that has no delay, or the first usable method that does not ring. A
    channel that they name is a preference: without a usable method of it they are planned as if they named none.
    """
    if page.only_method is not None:
        return [Planned(method, 0, 0.0) for method in methods if method.id == page.only_method]
    usable = by_worth([method for method in methods if method.usable])
    if page.kind in ONE_WAY:
        quiet = [method for method in usable if method.channel not in RINGING]
        return [Planned(_one_way(quiet, rules, page), 0, 0.0)] if quiet else []
    if page.channel_override is not None:
        return _at_once([method for method in usable if method.channel is page.channel_override])
    if not usable:
        return []
    steps = [rule for rule in rules if rule.urgency is page.urgency]
    if steps:
        return _by_rules(usable, steps)
    return _at_once([method for method in usable if method.channel not in LAST_RESORT] or usable)


def after_quiet_hours(
    page: Page, planned: Sequence[Planned], settings: NotificationSettings, now: datetime
) -> list[Planned]:
    """Steps of a page of low urgency that would be due within quiet hours are due at their end."""
    if settings.quiet is None or page.urgency is Urgency.HIGH or page.kind not in WAKING:
        return list(planned)
    return [_later(step, settings.quiet_until(now + timedelta(seconds=step.delay)), now) for step in planned]


def _later(step: Planned, until: datetime | None, now: datetime) -> Planned:
    if until is None:
        return step
    delay = (until - now) / timedelta(seconds=1)
    return replace(step, delay=delay, reason=f"waits for the end of quiet hours at {until:%Y-%m-%d %H:%M} UTC")


def is_kept_quiet(page: Page, methods: Sequence[Method]) -> bool:
    """Whether the page is news for a disabled user, or for one whose usable methods all ring: an empty plan is right
    then."""
    return page.kind in NEWS and any(method.usable or method.user_disabled for method in methods)


def _at_once(methods: Sequence[Method]) -> list[Planned]:
    return [Planned(method, 0, 0.0) for method in methods]


def _one_way(usable: Sequence[Method], rules: Sequence[Rule], page: Page) -> Method:
    wished = [method for method in usable if method.channel is page.channel_override]
    if wished:
        return wished[0]
    by_id = {method.id: method for method in usable}
    for rule in rules:
        if rule.urgency is page.urgency and rule.delay == 0 and rule.method in by_id:
            return by_id[rule.method]
    return usable[0]


def _by_rules(usable: Sequence[Method], steps: Sequence[Rule]) -> list[Planned]:
    by_id = {method.id: method for method in usable}
    named = {rule.method for rule in steps}
    spare = next((method for method in usable if method.id not in named), usable[0])
    planned: list[Planned] = []
    taken: set[tuple[UUID, float]] = set()
    for step, rule in enumerate(steps):
        method = by_id.get(rule.method, spare)
        if (method.id, rule.delay) not in taken:
            taken.add((method.id, rule.delay))
            planned.append(Planned(method, step, rule.delay))
    return planned
