"""The HTTP ways in. To add a sender: a file with its `decode`, and its row in `FORMATS`."""

import asyncio
import json
from collections.abc import Iterable
from typing import Final, NoReturn

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.http import HTTP_STATUS
from tocsin_kit.rpc.failures import masked

from tocsin_ingest.app.alert_size import shorten
from tocsin_ingest.app.directory import Directory
from tocsin_ingest.app.send_alert import AlertIntake, Sender
from tocsin_ingest.http import alertmanager, pagerduty
from tocsin_ingest.http.format import Answer, Format, Item, Json

FORMATS: Final = (
    pagerduty.FORMAT,
    alertmanager.FORMAT,
)


def routes(intake: AlertIntake, directory: Directory, *, body_limit: int) -> Iterable[web.AbstractRouteDef]:
    """A route for each path of each format. `body_limit` is the application's, in bytes, for the error's words."""
    for each in FORMATS:
        receiver = _Receiver(each, intake, directory, body_limit)
        for path in each.paths:
            yield web.post(path, receiver.receive)


class _Receiver:
    def __init__(self, form: Format, intake: AlertIntake, directory: Directory, body_limit: int) -> None:
        self._body_limit = body_limit
        self._format = form
        self._intake = intake
        self._directory = directory

    async def receive(self, request: web.Request) -> web.Response:
        """Who may not send learns nothing about the body but that it is JSON, which holds some formats' keys."""
        try:
            body = await _read(request, self._body_limit)
            sender = await self._sender(self._format.key(request, body))
            payload = self._format.decode(body)
        except _Refused as refused:
            return self._format.refuse(refused.status, refused.error)
        except Exception as failure:
            error = masked(failure)
            return self._format.refuse(HTTP_STATUS.get(error.code, 500), error)
        answers = await asyncio.gather(*(self._take(sender, item) for item in payload.items))
        return self._format.answer(payload, answers)

    async def _sender(self, key: str) -> Sender:
        if not key:
            raise TocsinError(
                ErrorReason.ERROR_REASON_CREDENTIAL_MISSING,
                "send an integration key: `Authorization: Bearer tik_…`, or where the format has its place for it",
            )
        principal = await self._directory.authenticate(key)
        if principal is None:
            raise TocsinError(ErrorReason.ERROR_REASON_CREDENTIAL_INVALID, "this is no integration key (`tik_…`)")
        return Sender.of(principal)

    async def _take(self, sender: Sender, item: Item) -> Answer:
        if isinstance(item.alert, TocsinError):
            return item.alert
        try:
            shorten(item.alert)
            return await (await self._intake.submit(sender, SendAlertRequest(alert=item.alert)))
        except Exception as error:
            return masked(error)


class _Refused(Exception):
    """An error with an HTTP status that no gRPC status stands for."""

    def __init__(self, status: int, error: TocsinError) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error


async def _read(request: web.Request, limit: int) -> Json:
    kind = request.content_type
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        given = f"is {kind}" if "Content-Type" in request.headers else "is missing"
        raise _Refused(415, invalid("Content-Type", f"must be application/json; it {given}"))
    try:
        data = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise _Refused(
            413,
            TocsinError(
                ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE,
                f"the body is larger than {limit} bytes; send fewer alerts at once",
                metadata={"limit_bytes": str(limit)},
            ),
        ) from error
    try:
        body = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _Refused(400, invalid("body", f"is not JSON: {error or 'nested too deeply'}")) from error
    if not isinstance(body, dict):
        raise _Refused(400, invalid("body", "must be a JSON object"))
    return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
