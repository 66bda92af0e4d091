"""What time it is for credentials: by the clock of the service's database, which all its replicas share.

By the host's own clock, a service whose host is eleven minutes behind would show tokens that have expired for all others, and no
page would leave it; answers to pages, whose tokens live for a minute, would fail earlier still. Until the database has answered
once, and while it does not answer, the host's clock counts, with the difference that was seen last.
"""

import time
from typing import Final

from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

_LONGEST_QUESTION: Final = 1.0
"""Seconds between question and answer: after longer ones it is not known when the database looked at its clock."""
_SAY_FROM: Final = 5.0
_SAY_AGAIN: Final = 60.0
"""Seconds by which the difference must have changed."""

_ahead = 0.0
_said = 0.0


def now() -> float:
    """Epoch seconds."""
    return time.time() + _ahead


def told(epoch: float, asked: float) -> None:
    """The database was asked at `asked` (`time.time`), and its clock stood at `epoch` then."""
    global _ahead, _said
    answered = time.time()
    if not 0 <= answered - asked <= _LONGEST_QUESTION:
        return
    _ahead = epoch - (asked + answered) / 2
    if abs(_ahead) >= _SAY_FROM and abs(_ahead - _said) >= _SAY_AGAIN:
        _said = _ahead
        _log.warning("clock_differs", seconds=round(_ahead, 1), meaning="the database's clock is ahead of this host's")
