"""How many log lines failed calls may cause: a limit for each caller, so that neither a stranger nor a tenant can fill the log."""

from collections.abc import Hashable
from typing import Any, Final

from tocsin_kit.bounded import Bounded
from tocsin_kit.buckets import Buckets

_PER_SECOND: Final = 5.0
_AT_ONCE: Final = 200.0
_SIZE: Final = 10_000


class FailureLines:
    """For one kind of listener. The metrics count all failures, by method and code."""

    def __init__(self, per_second: float = _PER_SECOND, at_once: float = _AT_ONCE) -> None:
        self._buckets = Buckets(per_second, at_once, size=_SIZE)
        self._left_out: Bounded[Hashable, int] = Bounded(_SIZE)

    def take(self, who: Hashable, now: float) -> dict[str, Any] | None:
        """Further fields of a line about a failure of `who` at monotonic second `now`; None when the line is left out.

        `left_out`: how many lines were left out since the last one.
        """
        if self._buckets.take(who, now):
            self._left_out[who] = self._left_out.get(who, 0) + 1
            return None
        left_out = self._left_out.pop(who, 0)
        return {"left_out": left_out} if left_out else {}
