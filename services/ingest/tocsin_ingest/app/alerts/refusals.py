"""Refused alerts are counted, logged, and reported to the people of their integration.

A sender does not repeat alerts that are answered 4xx, and few people read the log of a monitoring system. So an integration whose
alerts are refused gets an incident, at most one an hour over all replicas. Further refusals within that hour are reported at its
end. Refusals by limits are another incident, a minute after the first one: not every sender repeats such an alert.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_TRIGGER, AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin.type.v1.severity_pb2 import SEVERITY_ERROR, SEVERITY_WARNING
from tocsin_kit.auth import Principal
from tocsin_kit.bounded import Bounded
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_ingest.app.alerts.alert_request import Sender
from tocsin_ingest.app.alerts.own_alerts import REFUSED, THROTTLED
from tocsin_ingest.app.alerts.send_alert import AlertIntake
from tocsin_ingest.domain.actors import INGEST
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.alerts import intakes, refusals

_log = get_logger(__name__)

_LOOK_EVERY: Final = 10.0
"""Seconds between two database queries for one integration; refusals in between are added up."""
_SIZE: Final = 10_000
_EXPIRED: Final = "expired_key"
_ELSEWHERE: Final = "key_used_elsewhere"
_SUMMARY: Final = 1000
_AT_ONCE: Final = 100
EVERY: Final = 5.0
"""Seconds between two checks for refusals since the last report."""


class Refusals:
    """`clock` is monotonic, in seconds."""

    def __init__(
        self, database: Database, intake: AlertIntake, metrics: IngestMetrics, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._intake = intake
        self._metrics = metrics
        self._clock = clock
        self._waiting: Bounded[tuple[str, str], tuple[float, int]] = Bounded(_SIZE)

    def count(self, form: str, error: TocsinError, number: int = 1) -> None:
        """`number` alerts of unknown senders were refused."""
        self._metrics.refused.labels(form, error.reason_name).inc(number)

    async def key_expired(self, principal: Principal, error: TocsinError) -> None:
        """An integration without a working key is reported as one whose alerts are refused. It counts look-ups of the key, which
        are fewer than its alerts.
        """
        await self.tell(Sender.of(principal), _EXPIRED, 1, error)

    async def used_elsewhere(self, principal: Principal, error: TocsinError) -> None:
        """An integration whose key is used from an address outside its source ranges is reported as well: its sender has moved,
        or its key is lost.
        """
        sender = Sender.of(principal)
        if sender.integration_id is not None:
            await self.tell(sender, _ELSEWHERE, 1, error)

    async def tell(self, sender: Sender, form: str, number: int, error: TocsinError) -> None:
        """`number` alerts of this sender were refused for good, the first of them with `error`.

        Never raises: the sender's answer does not depend on it.
        """
        self.count(form, error, number)
        integration_id = sender.integration_id or ""
        _log.warning(
            "alerts_refused",
            org_id=sender.org_id,
            integration=integration_id,
            format=form,
            alerts=number,
            reason=error.reason_name,
            error=error.message[:_SUMMARY],
        )
        key, now = (sender.org_id, integration_id), self._clock()
        looked, added = self._waiting.get(key, (float("-inf"), 0))
        if now - looked < _LOOK_EVERY:
            self._waiting[key] = (looked, added + number)
            return
        self._waiting[key] = (now, 0)
        try:
            await self._open(sender, integration_id, form, added + number, error.message)
        except Exception:
            # Delayed: otherwise each refusal of a flood would cost as much as this one.
            self._waiting[key] = (now, added + number)
            _log.exception("refused_alerts_not_told", org_id=sender.org_id, integration=integration_id)

    async def _open(self, sender: Sender, integration_id: str, form: str, number: int, why: str) -> None:
        async with self._database.transaction(sender.org_id) as tx:
            total = await refusals.add(tx, integration_id, number, why)
        if total is not None:
            await self._report(sender, integration_id, total, why, format=form)

    async def round(self) -> None:
        """Report refusals that came within an hour after the last report, now that the hour is over; and refusals by limits.

        Raises DATABASE_UNAVAILABLE.
        """
        async with self._database.claim() as tx:
            due = await refusals.due(tx, _AT_ONCE)
            throttled = await intakes.untold(tx, _AT_ONCE)
        for report, found in ((self._report, due), (self._report_throttled, throttled)):
            for each in found:
                named = each.integration_id
                sender = Sender(each.org_id, f"integrations/{named}" if named else INGEST, named or None)
                try:
                    await report(sender, named, each.refused, each.reason)
                except TocsinError as error:
                    # It is due again at the next round, unless its integration was deleted and has no people any more.
                    _log.warning(
                        "refused_alerts_not_told", org_id=each.org_id, integration=named, reason=error.reason_name
                    )

    async def _report(self, sender: Sender, integration_id: str, total: int, why: str, **labels: str) -> None:
        told = f"{total} alerts were refused" if total > 1 else "An alert was refused"
        alert = AlertInput(
            dedup_key=REFUSED,
            summary=f"{told}: {why}",
            severity=SEVERITY_ERROR,
            labels={"alertname": "AlertsRefused", **labels},
        )
        await self._send(sender, integration_id, alert, lambda tx: refusals.not_told(tx, integration_id, total))

    async def _report_throttled(self, sender: Sender, integration_id: str, total: int, why: str) -> None:
        """A warning: most senders repeat alerts that a limit refused, and nothing is lost then. Some do not."""
        told = f"{total} alerts were" if total > 1 else "An alert was"
        alert = AlertInput(
            dedup_key=THROTTLED,
            summary=f"{told} refused by a limit, and lost unless sent again: {why}",
            severity=SEVERITY_WARNING,
            labels={"alertname": "AlertsThrottled"},
        )
        await self._send(sender, integration_id, alert, lambda tx: intakes.not_told(tx, integration_id, total))

    async def _send(
        self, sender: Sender, integration_id: str, alert: AlertInput, not_told: Callable[[Tx], Awaitable[None]]
    ) -> None:
        alert.action, alert.source, alert.client = ALERT_ACTION_TRIGGER, "Tocsin", "Tocsin"
        alert.summary = alert.summary[:_SUMMARY]
        try:
            # A tenant that is above its limits must hear of it all the same.
            request = SendAlertRequest(alert=alert)
            await (await self._intake.submit(replace(sender, signed=True), request, own=True))
        except BaseException as error:
            if not (isinstance(error, TocsinError) and error.reason == ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND):
                async with self._database.transaction(sender.org_id) as tx:
                    await not_told(tx)
            raise
