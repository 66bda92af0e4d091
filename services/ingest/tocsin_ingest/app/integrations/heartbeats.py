"""Heartbeats: an integration that must call in, the incident when it does not, and the end of that incident when it calls again.

The mark `missing` and the alert are written in one transaction, so a process that dies leaves both or neither. Redis holds nothing
of this.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, ALERT_ACTION_TRIGGER, AlertInput
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import invalid
from tocsin_kit.logging import get_logger

from tocsin_ingest.app.alerts.commit_batch import decide_and_write
from tocsin_ingest.app.alerts.own_alerts import HEARTBEAT
from tocsin_ingest.app.alerts.route_alert import route_alert
from tocsin_ingest.app.incidents.resolve_quiet import words
from tocsin_ingest.app.integrations.directory import Directory, Routing
from tocsin_ingest.app.tenant_by_tenant import whatever_is_due
from tocsin_ingest.domain.actors import INGEST
from tocsin_ingest.domain.message import Message
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.alerts.snapshot import lock_integrations
from tocsin_ingest.store.integrations import heartbeats
from tocsin_ingest.store.integrations.heartbeats import Heartbeat

_log = get_logger(__name__)

EVERY: Final = 2.0
"""Seconds between two rounds: how late the incident of a missing heartbeat may be opened."""
_AT_ONCE: Final = 200
_SUMMARY: Final = 1024
_LABELS: Final = {"heartbeat": "missing"}


class Heartbeats:
    """`beat` takes a heartbeat, `round` finds the missing ones, of all tenants."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        metrics: IngestMetrics,
        nudge: Callable[[], None],
    ) -> None:
        self._database = database
        self._directory = directory
        self._metrics = metrics
        self._nudge = nudge

    async def beat(self, org_id: str, integration_id: str) -> tuple[datetime, bool]:
        """When the next one must have come, and whether heartbeats were missing until now.

        Raises INVALID_FIELD (none is expected), INTEGRATION_NOT_FOUND, DATABASE_UNAVAILABLE.
        """
        async with self._database.transaction(org_id) as tx:
            due = await heartbeats.receive(tx, integration_id)
        if due is not None:
            return due, False
        routing = await self._directory.routing(org_id, integration_id)

        async def work(tx: Tx) -> tuple[datetime | None, bool]:
            await lock_integrations(tx, {integration_id})
            before = await heartbeats.lock(tx, integration_id)
            due = await heartbeats.come_back(tx, integration_id)
            if before is not None and before.heartbeat_missing:
                await self.resolve(tx, routing, f"integrations/{integration_id}")
            return due, before is not None and before.heartbeat_missing

        due, returned = await self._database.run(org_id, work)
        if due is None:
            text = f"integrations/{integration_id} has no heartbeat_interval; set one with UpdateIntegration"
            raise invalid("integration", text)
        if returned:
            self._nudge()
            _log.info("heartbeat_returned", org_id=org_id, integration=integration_id)
        return due, returned

    async def resolve(self, tx: Tx, routing: Routing, actor: str) -> None:
        """Resolves the alert of missing heartbeats. The integration must be locked for decisions."""
        alert = AlertInput(action=ALERT_ACTION_RESOLVE, dedup_key=HEARTBEAT, labels=_LABELS)
        await decide_and_write(tx, [route_alert(self._directory, tx.org_id, actor, routing, alert)])

    async def round(self) -> None:
        """Everything that is due now. Raises DATABASE_UNAVAILABLE."""
        failures = self._metrics.tenant_failures
        await whatever_is_due(
            self._database, heartbeats.due, self._miss, at_once=_AT_ONCE, name="heartbeats", failures=failures
        )

    async def _miss(self, org_id: str, due: Sequence[Heartbeat], since: datetime) -> None:
        messages = {each.integration_id: await self._message(each) for each in due}

        async def work(tx: Tx) -> set[str]:
            await lock_integrations(tx, messages)
            await heartbeats.put_off(tx, list(messages), since)
            # A heartbeat that came in the meantime is not due any more.
            missing = await heartbeats.miss(tx, list(messages))
            if missing:
                await decide_and_write(tx, [messages[each] for each in sorted(missing)])
            return missing

        missing = await self._database.run(org_id, work)
        for each in missing:
            _log.warning("heartbeat_missing", org_id=org_id, integration=each)
        if missing:
            self._metrics.heartbeats_missing.inc(len(missing))
            self._nudge()

    async def _message(self, heartbeat: Heartbeat) -> Message:
        routing = await self._directory.routing(heartbeat.org_id, heartbeat.integration_id)
        name = heartbeat.display_name
        alert = AlertInput(
            action=ALERT_ACTION_TRIGGER,
            dedup_key=HEARTBEAT,
            summary=f"no heartbeat from {name} for {words(heartbeat.heartbeat_interval)}"[:_SUMMARY],
            source=name,
            labels=_LABELS,
            client="Tocsin",
        )
        last = heartbeat.heartbeat_time
        alert.details["last heartbeat"] = "none has come" if last is None else last.isoformat(timespec="seconds")
        return route_alert(self._directory, heartbeat.org_id, INGEST, routing, alert)
