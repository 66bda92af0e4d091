"""Routing rules of the contract to rules of the domain, with their regular expressions compiled once."""

from collections.abc import Iterable
from typing import Final

import re2
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, RoutingRule
from tocsin_kit.errors import FieldViolation, TocsinError, invalid_fields

from tocsin_ingest.domain.routing import Matcher, Operator, Pattern, Rule
from tocsin_ingest.domain.severity import Severity

_MEMORY: Final = 64 << 10
"""Bytes one compiled expression may take; counted repetition of repetition is refused instead of exploding."""


def compile_rules(rules: Iterable[RoutingRule], field: str = "integration.routing_rules") -> tuple[Rule, ...]:
    """The rules, ready to route. Raises INVALID_FIELD naming every expression that RE2 refuses, in RE2's words."""
    violations: list[FieldViolation] = []
    compiled = tuple(_rule(rule, f"{field}[{index}]", violations) for index, rule in enumerate(rules))
    if violations:
        raise invalid_fields(violations)
    return compiled


def _rule(rule: RoutingRule, field: str, violations: list[FieldViolation]) -> Rule:
    return Rule(
        matchers=tuple(
            _matcher(matcher, f"{field}.matchers[{index}]", violations) for index, matcher in enumerate(rule.matchers)
        ),
        policy=rule.policy,
        severity=Severity(rule.severity),
        group_by=tuple(rule.group_by),
        suppress=rule.suppress,
    )


def _matcher(matcher: LabelMatcher, field: str, violations: list[FieldViolation]) -> Matcher:
    operator = Operator(matcher.operator)
    pattern: Pattern | None = None
    if operator in (Operator.MATCHES, Operator.NOT_MATCHES):
        try:
            pattern = _compile(matcher.value)
        except TocsinError as error:
            violations.append(FieldViolation(f"{field}.value", error.message))
    return Matcher(matcher.label, operator, matcher.value, pattern)


def _compile(expression: str) -> Pattern:
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    options.never_capture = True
    options.dot_nl = True  # a label may span lines; `.*` must still mean "any value"
    try:
        pattern: Pattern = re2.compile(expression, options)
    except re2.error as error:
        reason = (
            error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
        )
        raise invalid_fields(
            [
                FieldViolation(
                    "", f"is not a regular expression RE2 accepts: {reason}; see its syntax page, or match with ="
                )
            ]
        ) from None
    return pattern
