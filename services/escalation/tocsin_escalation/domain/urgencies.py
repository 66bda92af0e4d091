"""How urgent incidents of a policy are at a time, and when those of low urgency are deferred.

Rules of the policy decide, the first whose condition holds. Where none does, the severity decides: critical and error are urgent.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin_escalation.domain.conditions import ALWAYS, Condition
from tocsin_escalation.domain.schedules.clock import DAY, WEEK, minute_of, time_of
from tocsin_escalation.domain.schedules.model import FOREVER
from tocsin_escalation.domain.schedules.windows import Interval
from tocsin_escalation.domain.words import Word

_AHEAD: Final = WEEK + DAY
"""Minutes: windows repeat each week, and a day more for clocks that change."""


class Urgency(Word):
    """By which contact rules people are paged. The words are kept in policies."""

    HIGH = "high"
    LOW = "low"
    DEFERRED = "deferred"
    """Low, and no level begins: the incident waits until another rule applies, or no rule does."""


@dataclass(frozen=True, slots=True)
class UrgencyRule:
    """How urgent the incidents are for which the condition holds."""

    urgency: Urgency
    condition: Condition = ALWAYS


@dataclass(frozen=True, slots=True)
class Deferral:
    """Until when an incident waits; None when no other rule ever applies. `rule` counts from 1."""

    until: datetime | None
    rule: int


Rules = Sequence[UrgencyRule]


def deciding(rules: Rules, severity: int, now: datetime) -> int:
    """Which rule decides, counted from 1; 0 when none does."""
    return next((number for number, rule in enumerate(rules, 1) if rule.condition.holds(severity, now)), 0)


def urgency_at(rules: Rules, severity: int, now: datetime) -> Urgency:
    """By the rules, else by the severity."""
    number = deciding(rules, severity, now)
    return rules[number - 1].urgency if number else Urgency.HIGH if severity <= 2 else Urgency.LOW


def deferral(rules: Rules, severity: int, now: datetime) -> Deferral | None:
    """None when nothing is deferred at the instant."""
    number = deciding(rules, severity, now)
    if not number or rules[number - 1].urgency is not Urgency.DEFERRED:
        return None
    since = minute_of(now)
    until = since + _AHEAD
    fitting = [(rule, rule.condition.times(since, until)) for rule in rules if rule.condition.is_for(severity)]
    edges = sorted({edge for _, times in fitting for time in times for edge in time if since < edge < until})
    for edge in edges:
        decides = next((rule for rule, times in fitting if _within(times, edge)), None)
        if decides is None or decides.urgency is not Urgency.DEFERRED:
            return Deferral(time_of(edge), number)
    return Deferral(None, number)


def _within(times: Sequence[Interval], minute: int) -> bool:
    place = bisect_right(times, (minute, FOREVER)) - 1
    return place >= 0 and minute < times[place][1]
