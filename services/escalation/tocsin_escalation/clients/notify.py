"""Notify, as escalation sees it."""

from collections.abc import Sequence

import grpc
from tocsin.notify.v1 import internal_service_pb2 as pb
from tocsin.notify.v1 import internal_service_pb2_grpc as pb_grpc
from tocsin.notify.v1 import notification_pb2
from tocsin_kit.errors import from_rpc_error
from tocsin_kit.rpc.hedge import hedged

_SUBMIT_SECONDS = 5.0
_SILENCE = 0.7
"""Seconds after which another replica is asked as well: a page must not wait for one that stands still."""


class Notify:
    """Every call has a deadline; every failure is a TocsinError."""

    def __init__(self, channel: grpc.aio.Channel, cancel_timeout: float) -> None:
        self._stub: pb_grpc.NotifyInternalServiceAsyncStub = pb_grpc.NotifyInternalServiceStub(channel)
        self._cancel_timeout = cancel_timeout

    async def submit(self, jobs: Sequence[notification_pb2.NotificationJob]) -> None:
        """Hand pages over; returns once notify has committed them."""
        request = pb.SubmitNotificationsRequest(jobs=jobs)

        async def call(seconds: float) -> pb.SubmitNotificationsResponse:
            return await self._stub.SubmitNotifications(request, timeout=seconds)

        try:
            await hedged(call, seconds=_SUBMIT_SECONDS, after=_SILENCE)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="notify") from error

    async def cancel(self, cancellations: Sequence[pb.Cancellation]) -> None:
        """Stop pages; returns once no provider call starts for them."""
        request = pb.CancelNotificationsRequest(cancellations=cancellations)

        async def call(seconds: float) -> pb.CancelNotificationsResponse:
            return await self._stub.CancelNotifications(request, timeout=seconds)

        try:
            await hedged(call, seconds=self._cancel_timeout, after=self._cancel_timeout / 4)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="notify") from error
