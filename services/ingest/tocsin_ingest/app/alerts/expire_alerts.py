"""Resolve alerts whose end has come: the end that their sender named, or the maximum time after their newest trigger.

The rows are the timer, so a process that dies loses nothing, and any number of replicas may run this. Time in which alerts could
not be received does not count as the sender's silence: after an outage, or after a limit has refused its alerts, each alert gets
its whole time again.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger

from tocsin_ingest.app.alerts.commit_batch import decide_and_write
from tocsin_ingest.app.incidents.resolve_quiet import words
from tocsin_ingest.app.tenant_by_tenant import whatever_is_due
from tocsin_ingest.domain.actors import INGEST
from tocsin_ingest.domain.decision import AlertState
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.alerts import endings
from tocsin_ingest.store.alerts.endings import DueEnding, Ended
from tocsin_ingest.store.alerts.snapshot import lock_integrations

_log = get_logger(__name__)

EVERY: Final = 1.0
"""Seconds between two rounds: how late an alert may be resolved after its end."""
_AT_ONCE: Final = 500


class ExpireAlerts:
    """`round` is one round, of all tenants. `nudge` is called after a commit that left an event to deliver at once."""

    def __init__(self, database: Database, metrics: IngestMetrics, nudge: Callable[[], None]) -> None:
        self._database = database
        self._metrics = metrics
        self._nudge = nudge

    async def round(self) -> None:
        """All due alerts. Raises DATABASE_UNAVAILABLE."""
        failures = self._metrics.tenant_failures
        await whatever_is_due(
            self._database, endings.due, self._expire, at_once=_AT_ONCE, name="endings", failures=failures
        )

    async def _expire(self, org_id: str, due: Sequence[DueEnding], since: datetime) -> None:
        async def work(tx: Tx) -> tuple[Sequence[Ended], bool]:
            await lock_integrations(tx, {each.integration_id for each in due})
            ids = [each.alert_id for each in due]
            await endings.put_off(tx, ids, since)
            ended = [each for each in await endings.take(tx, ids) if each.state is not AlertState.RESOLVED]
            if not ended:
                return ended, False
            ended.sort(key=lambda each: (each.end_time, each.id))
            return ended, (await decide_and_write(tx, [_resolve(each) for each in ended]))[1].urgent

        ended, urgent = await self._database.run(org_id, work)
        for each in ended:
            _log.info("alert_expired", org_id=org_id, alert=str(each.id), because=_because(each))
        if ended:
            self._metrics.expired.inc(len(ended))
        if urgent:
            self._nudge()


def _resolve(ended: Ended) -> Message:
    return Message(
        ended.integration_id,
        ended.dedup_key,
        ended.key,
        # A live alert's incident is known by the alert.
        ended.key,
        Action.RESOLVE,
        INGEST,
        "",
        Severity.UNSPECIFIED,
        False,
        ended.summary,
        ended.source,
        b"",
        because=_because(ended),
    )


def _because(ended: Ended) -> str:
    if not ended.named:
        return f"it was not sent again for {words(ended.lasts)}, and its sender had named no end"
    at = ended.end_time.astimezone(UTC).isoformat(sep=" ", timespec="seconds")
    return f"it was not sent again before {at}, the end that its sender had named"
