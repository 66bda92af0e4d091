"""One StreamAlerts call."""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse, StreamAlertsRequest, StreamAlertsResponse
from tocsin_kit.errors import TocsinError
from tocsin_kit.time_slices import TimeSlice

from tocsin_ingest.app.alerts.alert_request import Sender
from tocsin_ingest.app.alerts.send_alert import AlertIntake
from tocsin_ingest.rpc.mapping import status_of


class AlertStream:
    """Takes alerts until the sender is done or the process stops, and answers each as soon as it is committed.

    At most `window` alerts are unanswered; the stream is not read any further meanwhile, so that gRPC's flow control
    slows the sender.
    """

    def __init__(self, intake: AlertIntake, sender: Sender, window: int, stop: asyncio.Event) -> None:
        self._intake = intake
        self._sender = sender
        self._stop = stop
        self._room = asyncio.Semaphore(window)
        self._unanswered: set[asyncio.Future[bytes]] = set()
        self._answers: asyncio.Queue[StreamAlertsResponse | None] = asyncio.Queue()

    async def answers(self, requests: AsyncIterator[StreamAlertsRequest]) -> AsyncGenerator[StreamAlertsResponse, None]:
        """In the order of their commits. Raises SERVICE_UNAVAILABLE at the end when the process stops."""
        taking = asyncio.create_task(self._take_until_stopped(requests))
        taking.add_done_callback(lambda _: self._answers.put_nowait(None))
        try:
            while (answer := await self._answers.get()) is not None:
                self._room.release()
                yield answer
            await taking
        finally:
            taking.cancel()
            await asyncio.wait((taking,))

    async def _take_until_stopped(self, requests: AsyncIterator[StreamAlertsRequest]) -> None:
        reading = asyncio.create_task(self._take(requests))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopped = not reading.done()
        finally:
            stopping.cancel()
            reading.cancel()
            await asyncio.wait((reading, stopping))
        while self._unanswered:
            await asyncio.wait(self._unanswered)
        if stopped:
            raise TocsinError(
                ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
                "the server is going away; open the stream again and send what was not answered",
                metadata={"service": "ingest"},
            )
        reading.result()

    async def _take(self, requests: AsyncIterator[StreamAlertsRequest]) -> None:
        time_slice = TimeSlice()
        async for message in requests:
            await time_slice.yield_if_over()
            await self._room.acquire()
            waiting = await self._intake.submit(self._sender, message.request)
            self._unanswered.add(waiting)
            waiting.add_done_callback(functools.partial(self._answer, message.sequence))

    def _answer(self, sequence: int, done: "asyncio.Future[bytes]") -> None:
        self._unanswered.discard(done)
        error = done.exception()
        if error is None:
            self._answers.put_nowait(
                StreamAlertsResponse(sequence=sequence, response=SendAlertResponse.FromString(done.result()))
            )
        else:
            self._answers.put_nowait(StreamAlertsResponse(sequence=sequence, error=status_of(error)))
