"""The kinds of limits. Names are part of the contract: operators change limits by name, and refusals name them."""

from dataclasses import dataclass
from typing import Final

RPCS: Final = "rpcs_per_second"
BYTES: Final = "bytes_per_second"
STREAMS: Final = "streams"
OBJECTS: Final = "objects"
OUTBOX_ROWS: Final = "outbox_rows"
_SAVED_SECONDS: Final = 10.0
"""How much of a rate by the second may be saved up: senders come in waves."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a service. `seconds`: the time in which `default` may be used; 0: a number at one time, no rate."""

    name: str
    default: int
    seconds: float = 0.0
    saved: float = 1.0
    """Times `default` that may be used at once."""

    def rate(self, allowed: float) -> float:
        """Tokens per second."""
        return allowed / self.seconds

    def burst(self, allowed: float) -> float:
        """Tokens at once."""
        return allowed * self.saved


def per_second(name: str, default: int) -> Limit:
    """A rate by the second, ten seconds of which may be used at once."""
    return Limit(name, default, 1.0, _SAVED_SECONDS)


def per_minute(name: str, default: int) -> Limit:
    """A rate by the minute, all of which may be used at once."""
    return Limit(name, default, 60.0, 1.0)
