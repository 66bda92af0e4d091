"""Routing rules and matchers of the contract to those of the domain, with their regular expressions compiled once.

The time of RE2 grows with an expression's size times the text's length. So the sizes of all expressions of an integration, and of
all silences of a tenant, are limited together: 100 rules of 20 matchers each took 2.6 s per alert.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import re2
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, RoutingRule
from tocsin.ingest.v1.silence_service_pb2 import Silence
from tocsin_kit.errors import FieldViolation, invalid_fields

from tocsin_ingest.domain.routing import Matcher, Operator, Pattern, Rule
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.thresholds import Threshold

MAX_PROGRAM: Final = 10_000
"""Instructions that the compiled expressions of one integration, or of one tenant's silences, may count together, 20 for each
expression and those it compiles to: a dozen for `db-[0-9]+`, and at most 3,000 for one of 1,000 characters."""
EXPRESSIONS: Final = frozenset((Operator.MATCHES, Operator.NOT_MATCHES))
"""What takes a regular expression."""
_MEMORY: Final = 64 << 10
"""Bytes one compiled expression may take; counted repetition of repetition is refused instead of exploding."""
_REFUSED_PROGRAM: Final = 500
"""The cost of an expression that RE2 refuses: it is compiled before it is refused."""
_EXPRESSION: Final = 20
"""The fixed cost of each expression: compiling one takes about 20 µs at least."""
_MAX_VIOLATIONS: Final = 10
_OPERATORS: Final = frozenset(map(int, Operator))


def compile_rules(rules: Iterable[RoutingRule], path: str = "integration.routing_rules") -> tuple[Rule, ...]:
    """The rules, ready to route.

    Raises INVALID_FIELD naming the first ten expressions that RE2 refuses, in RE2's words, or the expression with which
    the integration's expressions have more than MAX_PROGRAM instructions.
    """
    compiling = _Compiling()
    compiled = tuple(_rule(rule, index, f"{path}[{index}]", compiling) for index, rule in enumerate(rules))
    if compiling.violations:
        raise invalid_fields(compiling.violations)
    return compiled


def compile_usable_rules(rules: Iterable[RoutingRule]) -> tuple[tuple[Rule, ...], list[int]]:
    """The rules that can be used, and the positions of those left out: refused by today's limits, or of a newer version.

    For stored rules: without the left-out rule an alert takes the next rule, or the default route, and is not lost.
    """
    usable: list[Rule] = []
    left_out: list[int] = []
    compiling = _Compiling()
    for index, rule in enumerate(rules):
        before = len(compiling.violations)
        compiled = _rule(rule, index, "", compiling)
        if len(compiling.violations) > before or compiling.over or says_more(rule):
            left_out.append(index)
            compiling.over = False
        else:
            usable.append(compiled)
    return tuple(usable), left_out


def check_matchers(
    matchers: Iterable[LabelMatcher], beside: Iterable[Iterable[LabelMatcher]], path: str = "silence.matchers"
) -> None:
    """Raises INVALID_FIELD for what cannot be compiled, or not within MAX_PROGRAM `beside` all these."""
    compiling = _Compiling()
    for each in beside:
        _matchers(each, "", compiling)
    # The others may have been stored under other limits; only the next expression is then one too many.
    compiling.program = min(compiling.program, MAX_PROGRAM)
    compiling.over = False
    compiling.violations.clear()
    _matchers(matchers, path, compiling)
    if compiling.violations:
        raise invalid_fields(compiling.violations)


def compile_usable_matchers(sets: Iterable[Iterable[LabelMatcher]]) -> list[tuple[Matcher, ...] | None]:
    """Each set compiled; None for one that today's limits refuse, or that a newer version stored."""
    compiling = _Compiling()
    usable: list[tuple[Matcher, ...] | None] = []
    for matchers in sets:
        before = len(compiling.violations)
        compiled = _matchers(matchers, "", compiling)
        usable.append(None if len(compiling.violations) > before or compiling.over else compiled)
        compiling.over = False
    return usable


def compile_expressions(expressions: Mapping[str, str], most: int) -> dict[str, Pattern]:
    """Those that are not empty, by their fields. Raises INVALID_FIELD as `compile_rules`, with `most` instead of MAX_PROGRAM."""
    compiling = _Compiling(most)
    compiled = {path: compiling.pattern(each, path) for path, each in expressions.items() if each}
    if compiling.violations:
        raise invalid_fields(compiling.violations)
    return {path: pattern for path, pattern in compiled.items() if pattern is not None}


@dataclass(slots=True)
class _Compiling:
    """What the expressions of one integration have taken so far. `most`: instructions that they may count together."""

    most: int = MAX_PROGRAM
    program: int = 0
    over: bool = False
    violations: list[FieldViolation] = field(default_factory=list)

    def pattern(self, expression: str, path: str) -> Pattern | None:
        """The compiled expression; None and a violation for one that cannot be used."""
        if self.program > self.most or len(self.violations) >= _MAX_VIOLATIONS:
            self.over = True
            return None
        pattern = _compile(expression)
        if isinstance(pattern, str):
            self.program += _REFUSED_PROGRAM
            self.violations.append(FieldViolation(path, pattern))
            return None
        self.program += pattern.programsize + _EXPRESSION
        if self.program > self.most:
            self.violations.append(
                FieldViolation(
                    path,
                    f"with this regular expression all expressions together count {self.program} instructions ("
                    f"{_EXPRESSION} for each and those it compiles to), and at most {self.most} are allowed; use fewer "
                    "or simpler ones (counted repetition such as .{100} costs most), or match with =",
                )
            )
            return None
        return pattern


def _rule(rule: RoutingRule, place: int, path: str, compiling: _Compiling) -> Rule:
    return Rule(
        matchers=_matchers(rule.matchers, f"{path}.matchers", compiling),
        policy=rule.policy,
        severity=Severity(rule.severity),
        group_by=tuple(rule.group_by),
        suppress=rule.suppress,
        pause=rule.pause.ToTimedelta() if rule.HasField("pause") else None,
        threshold=Threshold(rule.threshold.count, rule.threshold.window.ToTimedelta())
        if rule.HasField("threshold")
        else None,
        place=place,
        name=rule.display_name,
        continues=rule.continue_matching,
        group_window=rule.group_window.ToTimedelta() if rule.HasField("group_window") else None,
        dedup_window=rule.dedup_window.ToTimedelta() if rule.HasField("dedup_window") else None,
    )


def _matchers(matchers: Iterable[LabelMatcher], path: str, compiling: _Compiling) -> tuple[Matcher, ...]:
    return tuple(_matcher(each, f"{path}[{index}].value", compiling) for index, each in enumerate(matchers))


def _matcher(matcher: LabelMatcher, path: str, compiling: _Compiling) -> Matcher:
    if int(matcher.operator) not in _OPERATORS:
        compiling.violations.append(FieldViolation(path, f"has the operator {matcher.operator}, which is not known"))
        return Matcher(matcher.label, Operator.EQUAL, matcher.value)
    operator = Operator(matcher.operator)
    if operator not in EXPRESSIONS:
        return Matcher(matcher.label, operator, matcher.value)
    pattern = compiling.pattern(matcher.value, path)
    return Matcher(matcher.label, operator, matcher.value, pattern, getattr(pattern, "programsize", 0))


def says_more(stored: RoutingRule | Silence) -> bool:
    """Whether a newer version stored it with a field that this one does not know.

    Without that field the matcher could match more alerts: a silence of one service would hold back those of all.
    """
    known = type(stored)()
    known.CopyFrom(stored)  # type: ignore[arg-type]
    known.DiscardUnknownFields()
    return known.ByteSize() < stored.ByteSize()


def _compile(expression: str) -> "_Compiled | str":
    """The expression compiled, or why RE2 refuses it."""
    try:
        pattern: _Compiled = re2.compile(expression, _OPTIONS)
    except re2.error as error:
        words = error.args[0] if error.args else ""
        reason = words.decode(errors="replace") if isinstance(words, bytes) else str(error)
        return f"is not a regular expression RE2 accepts: {reason}; see its syntax page, or match with ="
    return pattern


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    options.never_capture = True
    options.dot_nl = True  # a label may span lines; `.*` must still mean "any value"
    return options


_OPTIONS: Final = _options()


class _Compiled(Pattern):
    """RE2's own pattern."""

    programsize: int
