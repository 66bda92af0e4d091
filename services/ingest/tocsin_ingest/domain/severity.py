"""How bad things are. The numbers are those of `tocsin.type.v1.Severity` (a test compares them)."""

from enum import IntEnum
from typing import Final


class Severity(IntEnum):
    """Severities as the contract numbers them; numbers say nothing about which is worse, `worst` does."""

    UNSPECIFIED = 0
    CRITICAL = 1
    ERROR = 2
    WARNING = 3
    INFO = 4

    @classmethod
    def _missing_(cls, value: object) -> "Severity | None":
        """In a row of a newer version, an unknown one counts as critical: one page too many is better than one too few."""
        return cls.CRITICAL if isinstance(value, int) and value > 0 else None


_RANK: Final = {Severity.CRITICAL: 0, Severity.ERROR: 1, Severity.WARNING: 2, Severity.INFO: 3, Severity.UNSPECIFIED: 4}


def worst(one: Severity, other: Severity) -> Severity:
    """The worse of the two."""
    return one if _RANK[one] <= _RANK[other] else other
