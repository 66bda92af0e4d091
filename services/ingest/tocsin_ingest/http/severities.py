"""What senders call their severities. An unknown word is no severity: routing then takes the alert as critical."""

from collections.abc import Mapping
from typing import Any, Final

from tocsin.type.v1.severity_pb2 import (
    SEVERITY_CRITICAL,
    SEVERITY_ERROR,
    SEVERITY_INFO,
    SEVERITY_UNSPECIFIED,
    SEVERITY_WARNING,
    Severity,
)

_SEVERITIES: Final[Mapping[str, Severity.ValueType]] = {
    "critical": SEVERITY_CRITICAL,
    "crit": SEVERITY_CRITICAL,
    "page": SEVERITY_CRITICAL,
    "emergency": SEVERITY_CRITICAL,
    "fatal": SEVERITY_CRITICAL,
    "disaster": SEVERITY_CRITICAL,
    "error": SEVERITY_ERROR,
    "err": SEVERITY_ERROR,
    "high": SEVERITY_ERROR,
    "major": SEVERITY_ERROR,
    "warning": SEVERITY_WARNING,
    "warn": SEVERITY_WARNING,
    "minor": SEVERITY_WARNING,
    "info": SEVERITY_INFO,
    "informational": SEVERITY_INFO,
    "notice": SEVERITY_INFO,
    "none": SEVERITY_INFO,
}


def severity_of(value: Any) -> Severity.ValueType:
    """The severity that a sender's word stands for, in any case; SEVERITY_UNSPECIFIED for anything else."""
    return (
        _SEVERITIES.get(value.strip().lower(), SEVERITY_UNSPECIFIED) if isinstance(value, str) else SEVERITY_UNSPECIFIED
    )
