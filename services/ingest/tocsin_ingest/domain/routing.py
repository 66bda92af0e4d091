"""Which rules apply to an alert, and their effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Final, Protocol

from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.thresholds import Threshold
from tocsin_ingest.domain.values import value

MAX_STEPS: Final = 6_000_000
"""Of the regular expressions tried for one alert: the size of each times the characters it is tried on. The worst expressions
take about 20 ms for this many; a usual rule set takes a hundredth."""

SUMMARY: Final = "summary"
"""What matchers call the summary of an alert that has no label of this name."""


class Pattern(Protocol):
    """A compiled regular expression."""

    def fullmatch(self, text: str, /) -> object | None:
        """Anything but None when the whole of `text` matches."""


class Operator(IntEnum):
    """The four comparisons, numbered as `tocsin.ingest.v1.MatchOperator` (a test compares them)."""

    EQUAL = 1
    NOT_EQUAL = 2
    MATCHES = 3
    NOT_MATCHES = 4


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition; `pattern` is set for the two regular expression operators."""

    label: str
    operator: Operator
    value: str
    pattern: Pattern | None = None
    cost: int = 0
    """Steps per character the pattern is tried on."""

    def holds(self, value: str) -> bool:
        """Whether the label's value meets the condition."""
        match self.operator:
            case Operator.EQUAL:
                return value == self.value
            case Operator.NOT_EQUAL:
                return value != self.value
        assert self.pattern is not None
        return (self.pattern.fullmatch(value) is not None) == (self.operator is Operator.MATCHES)


@dataclass(frozen=True, slots=True)
class Rule:
    """One routing rule; an empty policy means the integration's default, UNSPECIFIED the alert's own severity."""

    matchers: tuple[Matcher, ...] = ()
    policy: str = ""
    severity: Severity = Severity.UNSPECIFIED
    group_by: tuple[str, ...] = ()
    suppress: bool = False
    pause: timedelta | None = None
    threshold: Threshold | None = None
    place: int = 0
    """In the integration's list, counted from 0; some may be left out of the rules in use."""
    name: str = ""
    continues: bool = False
    """When it matches, the rules after it are tried as well, and add the fields that it does not set."""
    group_window: timedelta | None = None
    """A part of `group_by`: see `Route`."""
    dedup_window: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Contribution:
    """The fields that a route has from one of the matching rules: fields of the contract's `RoutingRule`."""

    rule: Rule
    taken: tuple[str, ...]


@value
class Route:
    """What routing decided about one alert. `group_by`: the labels whose alerts share an incident. `group_window`: how long after
    the last one that joined it others may; None: as long as it is open. `dedup_window`: how long after its last trigger the
    next one repeats an alert; None: until it is resolved."""

    group_by: tuple[str, ...]
    policy: str
    severity: Severity
    suppress: bool
    cut: bool = False
    """The rules' expressions were too expensive for this alert: those not tried yet were skipped."""
    pause: timedelta | None = None
    threshold: Threshold | None = None
    rule: Rule | None = None
    """The last one that matched; None: the default route."""
    contributions: tuple[Contribution, ...] = ()
    """If a continuing rule matched: the rules that contributed something, in order. Empty: all is of `rule`."""
    group_window: timedelta | None = None
    dedup_window: timedelta | None = None


_SEVERITY_NAMES: Final = {severity: severity.name.lower() for severity in Severity} | {Severity.UNSPECIFIED: ""}


class Subject:
    """The values of one alert that matchers use, and the steps that their regular expressions have taken on it.

    `summary`, `source` and `severity` (`critical`, `error`, `warning`, `info`) may be matched like labels unless the
    alert has labels of these names.
    """

    __slots__ = ("_labels", "_severity", "_source", "_steps", "_summary", "cut")

    def __init__(self, *, summary: str, source: str, severity: Severity, labels: Mapping[str, str]) -> None:
        self._summary = summary
        self._source = source
        self._severity = severity
        self._labels = labels
        self._steps = 0
        self.cut = False
        """The regular expressions have taken more than MAX_STEPS: the last answer is unknown."""

    def unmet(self, matchers: Sequence[Matcher]) -> Matcher | None:
        """The first matcher that does not hold, or at which it was `cut`; None: all of them hold."""
        for matcher in matchers:
            value = self.value(matcher.label)
            if matcher.cost:
                self._steps += matcher.cost * len(value)
                if self._steps > MAX_STEPS:
                    self.cut = True
                    return matcher
            if not matcher.holds(value):
                return matcher
        return None

    def meets(self, matchers: Sequence[Matcher]) -> bool | None:
        """Whether all of them hold; None when the regular expressions have taken more than MAX_STEPS."""
        unmet = self.unmet(matchers)
        return None if self.cut else unmet is None

    def value(self, label: str) -> str:
        """What a matcher of this label looks at."""
        value = self._labels.get(label)
        if value is not None:
            return value
        match label:
            case _ if label == SUMMARY:
                return self._summary
            case "source":
                return self._source
            case "severity":
                return _SEVERITY_NAMES[self._severity]
        return ""


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of an alert at a rule: the first matcher that did not hold, and the value it saw; None: the rule matches."""

    rule: Rule
    unmet: Matcher | None
    value: str = ""


def route(
    rules: Sequence[Rule],
    default_policy: str,
    *,
    summary: str,
    source: str,
    severity: Severity,
    labels: Mapping[str, str],
    tried: list[Trial] | None = None,
) -> Route:
    """The first rule whose matchers all hold decides, together with continuing rules before it; without any, the default route is
    used.

    Severity: the rule's, else the alert's, else CRITICAL. When the regular expressions take more than MAX_STEPS the alert takes
    the default route: routing must not delay other tenants' alerts. `tried` gets each rule that was tried.
    """
    subject: Subject | None = None
    continued: list[Rule] | None = None
    for rule in rules:
        unmet = None
        if rule.matchers:
            subject = subject or Subject(summary=summary, source=source, severity=severity, labels=labels)
            unmet = subject.unmet(rule.matchers)
        if subject is not None and subject.cut:
            return Route((), default_policy, severity or Severity.CRITICAL, False, cut=True)
        if tried is not None:
            looked_at = "" if unmet is None or subject is None else subject.value(unmet.label)
            tried.append(Trial(rule, unmet, looked_at))
        if unmet is not None:
            continue
        if rule.continues:
            continued = continued or []
            continued.append(rule)
        elif continued is not None:
            return _together([*continued, rule], default_policy, severity)
        else:
            return Route(
                rule.group_by,
                rule.policy or default_policy,
                rule.severity or severity or Severity.CRITICAL,
                rule.suppress,
                pause=rule.pause,
                threshold=rule.threshold,
                rule=rule,
                group_window=rule.group_window,
                dedup_window=rule.dedup_window,
            )
    if continued is not None:
        return _together(continued, default_policy, severity)
    return Route((), default_policy, severity or Severity.CRITICAL, False)


def states(rule: Rule) -> list[str]:
    """The fields in which a rule states something, in the contract's order."""
    return [field for field in _STATEMENTS if getattr(rule, field)]


_STATEMENTS: Final = (
    "policy",
    "severity",
    "group_by",
    "group_window",
    "dedup_window",
    "suppress",
    "pause",
    "threshold",
)
_NEEDLESS: Final = ("dedup_window", "pause", "threshold")
"""A suppressed alert opens no incident that it could leave, or that could be delayed."""


def _together(matched: Sequence[Rule], default_policy: str, severity: Severity) -> Route:
    """The fields of several matching rules: each field from the first rule that sets it."""
    stated: dict[str, Rule] = {}
    for rule in matched:
        for field in states(rule):
            stated.setdefault(field, rule)
    if stated.get("group_window") is not stated.get("group_by"):
        # It belongs to that field: if a rule groups by labels without a window, the route has no window.
        stated.pop("group_window", None)
    if "suppress" in stated:
        for field in _NEEDLESS:
            stated.pop(field, None)
    nothing = Rule()
    of = {field: stated.get(field, nothing) for field in _STATEMENTS}
    taken = [(rule, tuple(field for field in _STATEMENTS if stated.get(field) is rule)) for rule in matched]
    return Route(
        of["group_by"].group_by,
        of["policy"].policy or default_policy,
        of["severity"].severity or severity or Severity.CRITICAL,
        of["suppress"].suppress,
        pause=of["pause"].pause,
        threshold=of["threshold"].threshold,
        rule=matched[-1],
        contributions=tuple(Contribution(rule, fields) for rule, fields in taken if fields),
        group_window=of["group_window"].group_window,
        dedup_window=of["dedup_window"].dedup_window,
    )
