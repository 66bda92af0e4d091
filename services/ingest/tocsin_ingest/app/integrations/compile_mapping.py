"""A mapping of the contract, compiled: how alerts are read out of JSON of any form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from tocsin.ingest.v1.alert_pb2 import (
    ALERT_ACTION_ACKNOWLEDGE,
    ALERT_ACTION_RESOLVE,
    ALERT_ACTION_TRIGGER,
    AlertAction,
)
from tocsin.ingest.v1.integration_service_pb2 import AlertMapping
from tocsin.type.v1.severity_pb2 import Severity
from tocsin_kit.errors import FieldViolation, TocsinError, invalid_fields

from tocsin_ingest.app.integrations.expressions import Expression, compile_expression

EXPRESSIONS: Final = (
    "alerts",
    "dedup_key",
    "summary",
    "severity",
    "action",
    "labels",
    "source",
    "details",
    "links",
)
"""Fields of the contract that hold one."""
DEFAULT: Final = AlertMapping(
    dedup_key="dedup_key",
    summary="summary",
    severity="severity",
    action="action",
    labels="labels",
    source="source",
    details="details",
    links="links",
)
"""Of an integration that has none."""
_FIRES: Final = """trigger triggered firing fire alert alerting alarm active open opened new down problem critical error warning
true"""
_IS_OVER: Final = (
    """resolve resolved ok close closed clear cleared recovery recovered normal up inactive end ended false"""
)
_WORDS: Final[Mapping[AlertAction.ValueType, str]] = {
    ALERT_ACTION_TRIGGER: _FIRES,
    ALERT_ACTION_ACKNOWLEDGE: "acknowledge acknowledged ack",
    ALERT_ACTION_RESOLVE: _IS_OVER,
}
ACTIONS: Final[Mapping[str, AlertAction.ValueType]] = {
    word: action for action, words in _WORDS.items() for word in words.split()
}
"""Common words for what a sender wants."""


_NO_NAMES: Final[Mapping[str, str]] = {}
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class CompiledMapping:
    """`expressions`: by their fields, without those that are empty. The keys of the others are in lower case.

    `names`: what errors call fields, in place of `mapping.…`: of mappings that no user has written.
    """

    expressions: Mapping[str, Expression]
    severities: Mapping[str, Severity.ValueType]
    actions: Mapping[str, AlertAction.ValueType]
    names: Mapping[str, str]


def compile_mapping(
    mapping: AlertMapping, place: str = "integration.mapping", names: Mapping[str, str] = _NO_NAMES
) -> CompiledMapping:
    """Raises INVALID_FIELD naming each expression that is none."""
    expressions: dict[str, Expression] = {}
    violations: list[FieldViolation] = []
    for field in EXPRESSIONS:
        text = getattr(mapping, field)
        if text.strip():
            try:
                expressions[field] = compile_expression(text, f"{place}.{field}")
            except TocsinError as error:
                violations += error.fields
    if violations:
        raise invalid_fields(violations)
    return CompiledMapping(expressions, _lower(mapping.severities), {**ACTIONS, **_lower(mapping.actions)}, names)


def _lower(values: Mapping[str, _Value]) -> dict[str, _Value]:
    return {name.strip().lower(): value for name, value in values.items()}
