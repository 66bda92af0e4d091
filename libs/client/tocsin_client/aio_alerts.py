"""`send_alerts` for asyncio."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TYPE_CHECKING

from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest

from tocsin_client.alerts import AlertResult, Batch
from tocsin_client.errors import TocsinError

if TYPE_CHECKING:
    from tocsin.ingest.v1.alert_service_pb2_grpc import AlertServiceAsyncStub


async def send_alerts(
    stub: "AlertServiceAsyncStub",
    requests: AsyncIterable[SendAlertRequest] | Iterable[SendAlertRequest],
    size: int,
    patience: float,
) -> AsyncIterator[AlertResult]:
    """See `AioClient.send_alerts`."""
    waiting: asyncio.Queue[SendAlertRequest | None] = asyncio.Queue(size)
    reader = asyncio.create_task(_read(requests, waiting))
    try:
        ended = False
        while not ended:
            together = [await waiting.get()]
            while len(together) < size and together[-1] is not None and not waiting.empty():
                together.append(waiting.get_nowait())
            ended = together[-1] is None
            arrived = [request for request in together if request is not None]
            if not arrived:
                continue
            batch = Batch(arrived, patience)
            while True:
                try:
                    wait = batch.answered(await stub.SendAlerts(batch.request()))
                except TocsinError as error:
                    wait = batch.failed(error)
                if not batch.open():
                    break
                await asyncio.sleep(wait)
            for result in batch.results():
                yield result
        await reader  # raises what the iterable raised
    finally:
        reader.cancel()


async def _read(
    requests: AsyncIterable[SendAlertRequest] | Iterable[SendAlertRequest],
    waiting: "asyncio.Queue[SendAlertRequest | None]",
) -> None:
    try:
        if isinstance(requests, AsyncIterable):
            async for request in requests:
                await waiting.put(request)
        else:
            for request in requests:
                await waiting.put(request)
    finally:
        await waiting.put(None)
