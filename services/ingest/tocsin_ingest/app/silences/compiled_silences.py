"""Silences, compiled once and kept for as long as their rows stay the same."""

from collections.abc import Callable, Sequence
from typing import Final

from tocsin.ingest.v1.silence_service_pb2 import Silence as SilenceMessage
from tocsin_kit.bounded import Bounded
from tocsin_kit.db.pool import Tx
from tocsin_kit.logging import get_logger

from tocsin_ingest.app.integrations.compile_rules import EXPRESSIONS, compile_usable_matchers, says_more
from tocsin_ingest.domain.routing import Operator
from tocsin_ingest.domain.silences import Matched, Silence
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store import silences
from tocsin_ingest.store.silences import MatchersRow

_log = get_logger(__name__)

AHEAD: Final = 5.0
"""Seconds before its start from which a silence is loaded here; longer than the age that cached data may have."""
_TENANTS: Final = 10_000
_TENANTS_SIMULATED: Final = 1000
"""Tenants of which the silences of another time are kept."""
_Compiled = tuple[list[MatchersRow], tuple[Silence, ...]]
"""Silences as they are stored, and ready to be matched."""


def usable_silences(rows: Sequence[MatchersRow]) -> tuple[Silence, ...]:
    """Those that can be compiled within today's limits and have no field of a newer version, ready to be matched."""
    stored = [SilenceMessage.FromString(row.matchers) for row in rows]
    sets = compile_usable_matchers(each.matchers for each in stored)
    return tuple(
        Silence(Matched(row.id, row.version), row.integration_id, matchers)
        for row, each, matchers in zip(rows, stored, sets, strict=True)
        if matchers is not None and not says_more(each)
    )


def expressions_of(rows: Sequence[MatchersRow]) -> int:
    """How many regular expressions they have."""
    return sum(
        Operator(matcher.operator) in EXPRESSIONS
        for row in rows
        for matcher in SilenceMessage.FromString(row.matchers).matchers
    )


class CompiledSilences:
    """Those of all tenants. Equal rows give the same tuple object, so that a caller can tell by identity that nothing changed."""

    def __init__(self, metrics: IngestMetrics) -> None:
        self._metrics = metrics
        self._now: Bounded[str, _Compiled] = Bounded(_TENANTS)
        self._simulated: Bounded[str, _Compiled] = Bounded(_TENANTS_SIMULATED)
        self._cut: Bounded[str, tuple[Silence, ...]] = Bounded(_TENANTS)

    async def read(self, tx: Tx) -> tuple[Silence, ...]:
        """Those of the tenant that hold now or soon. What cannot be compiled is left out, counted and logged."""
        rows = await silences.about(tx, AHEAD)
        if not rows:
            self._now.pop(tx.org_id, None)
            return ()
        known = self._now.get(tx.org_id)
        if known is not None and known[0] == rows:
            return known[1]
        usable = usable_silences(rows)
        if len(usable) < len(rows):
            self._metrics.rules_left_out.inc(len(rows) - len(usable))
            _log.warning("silences_left_out", org_id=tx.org_id, silences=len(rows) - len(usable))
        self._now[tx.org_id] = (rows, usable)
        return usable

    def of_rows(self, org_id: str, rows: list[MatchersRow], pay: Callable[[int], None]) -> tuple[Silence, ...]:
        """Those of another time than now. `pay` is told how many expressions are compiled, before they are."""
        for known in (self._now.get(org_id), self._simulated.get(org_id)):
            if known is not None and known[0] == rows:
                return known[1]
        if not rows:
            return ()
        pay(expressions_of(rows))
        usable = usable_silences(rows)
        self._simulated[org_id] = (rows, usable)
        return usable

    def were_cut(self, org_id: str, integration_id: str, applied: tuple[Silence, ...]) -> None:
        """An alert was not silenced because these were too expensive for it: counted, and logged once for each set."""
        self._metrics.silences_cut.inc()
        if self._cut.get(org_id) is not applied:
            self._cut[org_id] = applied
            _log.warning("silences_cut", org_id=org_id, integration=integration_id)
