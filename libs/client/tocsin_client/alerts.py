"""Many alerts in one go: batches of what has arrived, in order, sent again until they are taken or refused for good."""

import contextlib
import queue
import random
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tocsin.ingest.v1.alert_service_pb2 import (
    SendAlertRequest,
    SendAlertResponse,
    SendAlertsRequest,
    SendAlertsResponse,
)

from tocsin_client.connection import with_request_ids
from tocsin_client.errors import TocsinError, from_status

if TYPE_CHECKING:
    from tocsin.ingest.v1.alert_service_pb2_grpc import AlertServiceStub

BATCH: Final = 500
"""Alerts of one call; the contract allows 1000."""
PATIENCE: Final = 60.0
"""Seconds for which alerts that are refused for now are sent again."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_LOOK_AGAIN: Final = 0.2


@dataclass(frozen=True, slots=True)
class AlertResult:
    """What became of one alert: exactly one of `response` and `error` is set."""

    request: SendAlertRequest
    """As it was sent, with its `request_id`."""
    response: SendAlertResponse | None = None
    error: TocsinError | None = None


class Batch:
    """Alerts that travel together until each has its result."""

    def __init__(self, requests: Sequence[SendAlertRequest], patience: float) -> None:
        # The keys are chosen here, once: a repeat of an alert must carry the key of its first attempt.
        self._requests = [with_request_ids(request) for request in requests]
        self._results: list[AlertResult | None] = [None] * len(requests)
        self._end = time.monotonic() + patience
        self._pause = _FIRST_PAUSE

    def open(self) -> list[int]:
        """The places of those without a result."""
        return [place for place, result in enumerate(self._results) if result is None]

    def request(self) -> SendAlertsRequest:
        """What to send now."""
        return SendAlertsRequest(alerts=[self._requests[place] for place in self.open()])

    def results(self) -> list[AlertResult]:
        """All of them, in order, once `open` is empty."""
        return [result for result in self._results if result is not None]

    def answered(self, response: SendAlertsResponse) -> float:
        """Take the answer to `request`. Returns how many seconds to wait before the rest is sent."""
        errors: dict[int, TocsinError] = {}
        for place, result in zip(self.open(), response.results, strict=True):
            request = self._requests[place]
            if result.HasField("error"):
                errors[place] = from_status(result.error, request_id=request.request_id)
            else:
                self._results[place] = AlertResult(request, response=result.response)
        return self._refused(errors)

    def failed(self, error: TocsinError) -> float:
        """The whole call failed. As `answered`; raises the error when a repeat would not help."""
        if not error.is_transient:
            raise error
        return self._refused(dict.fromkeys(self.open(), error))

    def _refused(self, errors: dict[int, TocsinError]) -> float:
        wait = max((error.retry_after or 0.0 for error in errors.values() if error.is_transient), default=0.0)
        # At least half of the pause, so that a server in trouble is not asked at once; random, so that clients part.
        wait += self._pause * random.uniform(0.5, 1.0)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        too_late = time.monotonic() + wait > self._end
        for place, error in errors.items():
            if too_late or not error.is_transient:
                self._results[place] = AlertResult(self._requests[place], error=error)
        return wait


def send_alerts(
    stub: "AlertServiceStub", requests: Iterable[SendAlertRequest], size: int, patience: float
) -> Iterator[AlertResult]:
    """See `Client.send_alerts`."""
    with contextlib.closing(_arriving(requests, size)) as arriving:
        for together in arriving:
            batch = Batch(together, patience)
            while True:
                try:
                    wait = batch.answered(stub.SendAlerts(batch.request()))
                except TocsinError as error:
                    wait = batch.failed(error)
                if not batch.open():
                    break
                time.sleep(wait)
            yield from batch.results()


def _arriving(requests: Iterable[SendAlertRequest], size: int) -> Generator[list[SendAlertRequest], None, None]:
    """Groups of what has arrived. A thread reads on meanwhile, at most `size` ahead."""
    waiting: queue.Queue[Any] = queue.Queue(size)
    closed = threading.Event()

    def put(item: Any) -> bool:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=_LOOK_AGAIN)
                return True
        return False

    def read() -> None:
        end: Any = _End()
        try:
            for request in requests:
                if not put(request):
                    return
        except BaseException as error:  # an error of the iterable is raised to the reader of the results
            end = _End(error)
        put(end)

    threading.Thread(target=read, name="tocsin-send-alerts", daemon=True).start()
    try:
        while True:
            together = [waiting.get()]
            with contextlib.suppress(queue.Empty):
                while len(together) < size and not isinstance(together[-1], _End):
                    together.append(waiting.get_nowait())
            end = together.pop() if isinstance(together[-1], _End) else None
            if together:
                yield together
            if end is not None:
                if end.error is not None:
                    raise end.error
                return
    finally:
        closed.set()


@dataclass(frozen=True, slots=True)
class _End:
    """The iterable has ended, perhaps with an error."""

    error: BaseException | None = None
