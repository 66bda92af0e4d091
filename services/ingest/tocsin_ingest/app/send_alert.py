"""Take one alert in: normalise it, route it, and wait until it is committed."""

import asyncio
from dataclasses import dataclass
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest, SendAlertResponse
from tocsin_kit.auth import Principal, invalid_credential
from tocsin_kit.batches import Batches
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.requests import body_hash
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import parse_name
from tocsin_kit.rpc.validation import validate

from tocsin_ingest.app.alert_size import check_size
from tocsin_ingest.app.commit_batch import Entry
from tocsin_ingest.app.details import check_details
from tocsin_ingest.app.directory import Directory, Routing
from tocsin_ingest.app.intake_times import IntakeTimes
from tocsin_ingest.app.known_rules import teach_rules
from tocsin_ingest.app.rate_limit import RateLimit
from tocsin_ingest.app.route_alert import NOTHING_STATED, Stated, route_alert
from tocsin_ingest.domain.message import Message

ALERTS: Final = "alerts_per_second"
_INTEGRATIONS: Final = "integrations"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends. `integration_id` is set for holders of an integration key, which speak for that one only."""

    org_id: str
    subject: str
    integration_id: str | None

    @classmethod
    def of(cls, principal: Principal) -> "Sender":
        """The sender a credential stands for."""
        collection, _, integration_id = principal.subject.partition("/")
        return cls(principal.org_id, principal.subject, integration_id if collection == _INTEGRATIONS else None)


class AlertIntake:
    """The one way in, for every RPC and every HTTP format."""

    def __init__(
        self,
        directory: Directory,
        budgets: Budgets,
        limit: RateLimit,
        batches: Batches[Entry, SendAlertResponse],
        times: IntakeTimes,
    ) -> None:
        self._directory = directory
        self._budgets = budgets
        self._limit = limit
        self._batches = batches
        self._times = times
        teach_rules()

    async def send(self, sender: Sender, request: SendAlertRequest) -> SendAlertResponse:
        """Returns once the alert is committed. `request` must have passed `validate`.

        Raises INVALID_FIELD, ALERT_TOO_LARGE, INTEGRATION_NOT_FOUND, CREDENTIAL_INVALID, RATE_LIMITED, OVERLOADED,
        REQUEST_ID_REUSED, DATABASE_UNAVAILABLE, CONFLICT.
        """
        return await (await self._submit(sender, request))

    async def submit(
        self, sender: Sender, request: SendAlertRequest, stated: Stated = NOTHING_STATED
    ) -> "asyncio.Future[SendAlertResponse]":
        """Like `send`, for one of many: checks its shape as well, and returns as soon as it waits for its batch.

        Nothing raises but the future, so that one bad alert does not get in the way of the next.
        """
        try:
            validate(request)
            return await self._submit(sender, request, stated)
        except Exception as error:
            failed: asyncio.Future[SendAlertResponse] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    async def _submit(
        self, sender: Sender, request: SendAlertRequest, stated: Stated = NOTHING_STATED
    ) -> "asyncio.Future[SendAlertResponse]":
        check_size(request.alert)
        routing = await self._routing(sender, request.integration)
        check_details(request.alert.details)
        message = route_alert(self._directory, sender.org_id, sender.subject, routing, request.alert, stated)
        request_id = request.request_id
        try:
            self._admit(sender.org_id, message)
            entry = Entry(sender.org_id, message, request_id, body_hash(request) if request_id else b"")
            return self._batches.enqueue(entry)
        except TocsinError as error:
            self._times.refused(sender.org_id, routing.integration_id, error)
            raise

    def _admit(self, org_id: str, message: Message) -> None:
        """Raises RATE_LIMITED."""
        self._budgets.require_rows(org_id)
        self._budgets.take(org_id, ALERTS, self._limit.cost(message.key))
        now = asyncio.get_running_loop().time()
        wait = self._limit.take(org_id, message.integration_id, message.key, now)
        if wait:
            raise TocsinError(
                ErrorReason.ERROR_REASON_RATE_LIMITED,
                "the integration sends faster than it may; send this alert again a little later",
                retry_after=wait,
            )

    async def _routing(self, sender: Sender, named: str) -> Routing:
        if sender.integration_id is None:
            integration_id = parse_name(named, _INTEGRATIONS, field="integration") if named else ""
            return await self._directory.routing(sender.org_id, integration_id)
        try:
            return await self._directory.routing(sender.org_id, sender.integration_id)
        except TocsinError as error:
            if error.reason != ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND:
                raise
            # The key itself is still remembered for a moment.
            raise invalid_credential("its integration is deleted") from error
