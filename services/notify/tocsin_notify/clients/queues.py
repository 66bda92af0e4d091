"""QueueService of the services, for an operator at the board: each call carries that operator's own token."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import grpc
from tocsin.queue.v1 import queue_service_pb2 as pb
from tocsin.queue.v1.queue_service_pb2_grpc import QueueServiceStub
from tocsin_kit.errors import from_rpc_error

_SECONDS: Final = 5.0
_METHODS: Final[Mapping[str, tuple[str, Any]]] = {
    "promote": ("PromoteTask", pb.PromoteTaskRequest),
    "retry": ("RetryTask", pb.RetryTaskRequest),
    "remove": ("RemoveTask", pb.RemoveTaskRequest),
    "pause": ("PauseQueue", pb.PauseQueueRequest),
    "resume": ("ResumeQueue", pb.ResumeQueueRequest),
}
ACTS: Final = tuple(_METHODS)


class Queues:
    """Every failure is a TocsinError. The services decide what the token allows, and write who did what into their audit logs."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        """`channels`: by the name of the service; they carry no credential of their own."""
        self.services: Final = tuple(channels)
        self._queues: dict[str, Any] = {name: QueueServiceStub(channel) for name, channel in channels.items()}

    async def figures(self, service: str, token: str) -> pb.Queue:
        """Of the service's queue."""
        answer = await call(service, self._queues[service].ListQueues, pb.ListQueuesRequest(), token)
        queue: pb.Queue = answer.queues[0]
        return queue

    async def activity(self, service: str, token: str) -> pb.GetQueueActivityResponse:
        """Of the last quarter of an hour."""
        request = pb.GetQueueActivityRequest(name=f"queues/{service}")
        answer: pb.GetQueueActivityResponse = await call(
            service, self._queues[service].GetQueueActivity, request, token
        )
        return answer

    async def tasks(self, service: str, token: str, state: int, page_token: str) -> pb.ListTasksResponse:
        """A page of the tasks in one state."""
        request = pb.ListTasksRequest(
            queue=f"queues/{service}",
            state=state,  # type: ignore[arg-type]  # the number is the enum's own
            page_token=page_token,
        )
        answer: pb.ListTasksResponse = await call(service, self._queues[service].ListTasks, request, token)
        return answer

    async def task(self, service: str, token: str, key: str) -> pb.GetTaskResponse:
        """One task, with its history."""
        request = pb.GetTaskRequest(name=f"queues/{service}/tasks/{key}")
        answer: pb.GetTaskResponse = await call(service, self._queues[service].GetTask, request, token)
        return answer

    async def act(self, service: str, token: str, act: str, name: str, request_id: str, *, force: bool) -> Any:
        """Do one of ACTS."""
        method, request_type = _METHODS[act]
        known = request_type.DESCRIPTOR.fields_by_name
        given = {"name": name, "request_id": request_id, "force": force}
        request = request_type(**{field: value for field, value in given.items() if field in known})
        return await call(service, getattr(self._queues[service], method), request, token)

    async def drain(
        self, service: str, token: str, chosen: Mapping[str, str], request_id: str = "", *, dry_run: bool
    ) -> pb.DrainQueueResponse:
        """Remove waiting tasks, or only report what would be removed. `chosen`: `org_id`, and `delayed` and `force` if
        they are there."""
        request = pb.DrainQueueRequest(
            name=f"queues/{service}",
            request_id=request_id,
            org_id=chosen.get("org_id", ""),
            delayed="delayed" in chosen,
            force="force" in chosen,
            dry_run=dry_run,
        )
        answer: pb.DrainQueueResponse = await call(service, self._queues[service].DrainQueue, request, token)
        return answer

    async def watch(self, service: str, token: str, cursor: str) -> AsyncIterator[pb.WatchQueueResponse]:
        """The events from the cursor on; empty: from now on."""
        request = pb.WatchQueueRequest(name=f"queues/{service}", cursor=cursor)
        stream = self._queues[service].WatchQueue(request, metadata=_bearer(token))
        try:
            async for answer in stream:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=service) from error
        finally:
            stream.cancel()


async def call(service: str, method: Any, request: Any, token: str) -> Any:
    """The answer of the service to the bearer of the token. Raises TocsinError."""
    try:
        return await method(request, metadata=_bearer(token), timeout=_SECONDS)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, service=service) from error


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)
