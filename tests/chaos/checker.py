"""Holds a history against what Tocsin promises. Knows no service, no table and no state: only `tests.chaos.history`.

The rules:

- lost: an alert was answered OK, no person or sender ended it, and a level never rang.
- double: one receiver was called for one level of one incident under two keys, or rang twice under one key although no
  process that makes calls was killed or frozen between the two.
- after OK: a call began after the acknowledge or the resolve of a person had returned OK.
- nobody's: a call for an incident that no answer named, at the wrong receiver, or for a level that does not exist.

Nothing here is about how late something was. So it is no violation either that a level is called before the level below it:
the call of the lower one was late by more than that level lasts, and the higher one was called in time. `overtaken` counts it.

What a database forgot because an earlier copy replaced it may ring again under another key. It may not be lost.
"""

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Literal

from tests.chaos.history import Alert, Call, Fault, History, first_rings

Rule = Literal["lost", "double", "after OK", "nobody's"]
RULES: tuple[Rule, ...] = ("lost", "double", "after OK", "nobody's")
ON_ITS_WAY = 0.25
"""Seconds between the begin of a call, which the promise is about, and its arrival on a machine with time for both."""
UNDER_WAY = 15.0
"""Seconds for which a call may have been under way when its process was killed: longer than any attempt lasts."""
AFTERWARDS = 10.0
"""Seconds after a fault whose lateness counts as recovery."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    rule: Rule
    incident: str
    detail: str
    at: float
    """The moment that tells which fault was near."""


@dataclass(frozen=True, slots=True)
class Late:
    """How long after its moment one level rang for the first time, in seconds."""

    due: float
    rang: float

    @property
    def seconds(self) -> float:
        return max(0.0, self.rang - self.due)


def check(history: History, *, on_its_way: float = ON_ITS_WAY) -> list[Violation]:
    """Every broken promise, in the order of time. `on_its_way`: how long a call that was begun may take to arrive."""
    found: list[Violation] = []
    alerts = {alert.incident: alert for alert in history.alerts}
    for incident, calls in history.by_incident().items():
        alert = alerts.get(incident)
        if alert is None:
            found += [
                Violation("nobody's", incident, f"{call.receiver} level {call.level}", call.began) for call in calls
            ]
            continue
        strangers = [call for call in calls if not _belongs(call, alert)]
        found += [
            Violation("nobody's", incident, f"{each.receiver} level {each.level}", each.began) for each in strangers
        ]
        own = [call for call in calls if _belongs(call, alert)]
        forgotten = _forgotten(alert, own, history.faults)
        found += _lost(alert, own, forgotten)
        if not forgotten:
            found += [*_doubles(alert, own, history.faults), *_after_ok(alert, own, history, on_its_way)]
    return sorted(found, key=lambda each: each.at)


def excused_doubles(history: History) -> list[Call]:
    """The second and later rings under one key that a kill or a freeze explains."""
    return [
        second
        for calls in _by_key(history.calls).values()
        for first, second in itertools.pairwise(calls)
        if _explained(first, second, history.faults)
    ]


def overtaken(history: History) -> list[Call]:
    """The first call of each level that came before the first call of the level below it."""
    found = []
    for calls in history.by_incident().values():
        firsts: dict[int, Call] = {}
        for call in calls:
            firsts.setdefault(call.level, call)
        found += [first for level, first in firsts.items() if firsts.get(level - 1, first).began > first.began]
    return found


def lateness(history: History) -> list[Late]:
    """Of each level that rang before the incident was answered: the first after the alert's OK, the next one timeout after the
    one before. What rings after it was ended is no late page but a broken promise, or forgotten by a restored database.
    """
    late = []
    by_incident = history.by_incident()
    for alert in history.alerts:
        due = alert.accepted
        rings = first_rings(by_incident[alert.incident])
        for level in range(1, len(alert.receivers) + 1):
            ring = rings.get(level)
            if ring is None or (alert.ended is not None and ring.began > alert.ended):
                break
            late.append(Late(due, ring.began))
            due = ring.began + alert.timeout
    return late


def count(violations: list[Violation]) -> Counter[Rule]:
    """How many of each rule."""
    return Counter(each.rule for each in violations)


def _belongs(call: Call, alert: Alert) -> bool:
    return 1 <= call.level <= len(alert.receivers) and alert.receivers[call.level - 1] == call.receiver


def _forgotten(alert: Alert, calls: list[Call], faults: list[Fault]) -> bool:
    """Something of this incident happened while a database lived that an earlier copy replaced."""
    moments = [alert.accepted, *(call.began for call in calls), *([alert.ended] if alert.ended is not None else [])]
    whole = len(alert.receivers) * alert.timeout
    return any(
        fault.forgets_since is not None
        and alert.accepted <= fault.ended
        and max(*moments, alert.accepted + whole) >= fault.forgets_since
        for fault in faults
    )


def _lost(alert: Alert, calls: list[Call], forgotten: bool) -> list[Violation]:
    if alert.ending:
        return []  # ended before the page, or after it: both are right
    rang = first_rings(calls)
    missing = [level for level in range(1, len(alert.receivers) + 1) if level not in rang]
    if forgotten and rang:
        return []  # an incident that is closed or opened anew goes through its levels again, or not
    return [Violation("lost", alert.incident, f"level {level} never rang", alert.accepted) for level in missing]


def _doubles(alert: Alert, calls: list[Call], faults: list[Fault]) -> list[Violation]:
    found = []
    keys: defaultdict[int, list[Call]] = defaultdict(list)
    for call in calls:
        if call.key not in [each.key for each in keys[call.level]]:
            keys[call.level].append(call)
    for level, firsts in keys.items():
        found += [
            Violation("double", alert.incident, f"level {level} under another key", call.began) for call in firsts[1:]
        ]
    for same in _by_key(calls).values():
        for first, second in itertools.pairwise(same):
            if not _explained(first, second, faults):
                gap = second.began - first.began
                detail = f"level {second.level} twice under one key, {gap:.2f} s apart"
                found.append(Violation("double", alert.incident, detail, second.began))
    return found


def _by_key(calls: list[Call]) -> dict[str, list[Call]]:
    """The calls that rang, by their key, in the order of time."""
    by_key: defaultdict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda each: each.began):
        if call.answered is not None:
            by_key[call.key].append(call)
    return by_key


def _explained(first: Call, second: Call, faults: list[Fault]) -> bool:
    return any(
        fault.harms_calls
        and first.began <= fault.ended
        and fault.began - UNDER_WAY <= first.began
        and second.began >= fault.began
        for fault in faults
    )


def _after_ok(alert: Alert, calls: list[Call], history: History, on_its_way: float) -> list[Violation]:
    if alert.ended is None or alert.ending not in ("acknowledged", "closed"):
        return []  # a sender's resolve is only handed over when it returns
    found = []
    for call in calls:
        began = _may_have_begun(call.began, history, on_its_way)
        if began > alert.ended + on_its_way:
            late = (call.began - alert.ended) * 1000
            detail = f"level {call.level} called {late:.0f} ms after {alert.ending} was OK"
            found.append(Violation("after OK", alert.incident, detail, call.began))
    return found


def _may_have_begun(arrived: float, history: History, on_its_way: float) -> float:
    """A recorder that stood still notes it too late. So it is with a caller that was frozen between begin and arrival."""
    spans = [*history.stalls, *((each.began, each.ended) for each in history.faults if each.harms_calls)]
    return min([arrived, *(began for began, ended in spans if began <= arrived <= ended + on_its_way)])
