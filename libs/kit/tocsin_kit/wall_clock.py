"""The time for credentials: by the clock of the service's database, which all its replicas share.

By the host's own clock, a service whose host is eleven minutes behind would show tokens that have expired for all others, and no
page would leave it; answers to pages, whose tokens live for a minute, would fail earlier still. Until the database has answered
once, the host's clock is used. From then on only the monotonic clock is added to the database's time: setting a host's clock
changes nothing.
"""

import time
from typing import Final

from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

_LONGEST_QUESTION: Final = 1.0
"""Seconds between question and answer: after longer ones it is not known when the database looked at its clock."""
_SET_FROM: Final = 2.0
"""Seconds by which it is ahead of what was expected: more than two such questions can be wrong, less than any lease allows for."""
_SAY_FROM: Final = 5.0
_SAY_AGAIN: Final = 60.0
"""Seconds by which the difference must have changed."""

_ahead = time.time() - time.monotonic()
"""Of the monotonic clock."""
_known = False
_set_at = float("-inf")
_said = 0.0


def now() -> float:
    """Epoch seconds."""
    return time.monotonic() + _ahead


def told(epoch: float, asked: float) -> None:
    """The database was asked at `asked` (`time.monotonic`), and its clock stood at `epoch` then."""
    global _ahead, _known, _set_at, _said
    answered = time.monotonic()
    if not 0 <= answered - asked <= _LONGEST_QUESTION:
        return
    before, _ahead = _ahead, epoch - (asked + answered) / 2
    if _known and _ahead - before >= _SET_FROM:
        _set_at = answered
        _log.warning(
            "database_clock_set",
            seconds=round(_ahead - before, 1),
            meaning="the database's clock was set ahead: what was to come is due, and leases are over",
        )
    _known = True
    differs = now() - time.time()
    if abs(differs) >= _SAY_FROM and abs(differs - _said) >= _SAY_AGAIN:
        _said = differs
        side = "ahead of" if differs > 0 else "behind"
        _log.warning("clock_differs", seconds=round(differs, 1), meaning=f"the database's clock is {side} this host's")


def was_set_ahead(seconds: float) -> bool:
    """Whether the database's clock was seen to be set ahead within the last `seconds`: leases ended before their time."""
    return time.monotonic() - _set_at <= seconds
