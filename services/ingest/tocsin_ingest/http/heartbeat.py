"""Heartbeats by HTTP: POST or GET `/v1/heartbeat`, as cron jobs and scripts can call.

The integration key is a bearer token or the end of the path. A body is not read.
"""

from collections.abc import Iterable
from typing import Final

from aiohttp import web
from tocsin_kit.budgets import RPCS
from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.http import http_status
from tocsin_kit.rpc.failures import masked
from tocsin_kit.rpc.server import RpcServer

from tocsin_ingest.app.alerts.alert_request import Sender
from tocsin_ingest.app.alerts.intake_times import IntakeTimes
from tocsin_ingest.app.alerts.transient import is_transient
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.app.integrations.heartbeats import Heartbeats
from tocsin_ingest.http.callers import clean_key, sender_of
from tocsin_ingest.http.format import header_or_path_key
from tocsin_ingest.http.results import refuse, retry_after

PATHS: Final = ("/v1/heartbeat", "/v1/heartbeat/{key}")


def routes(
    heartbeats: Heartbeats, times: IntakeTimes, directory: Directory, rpc: RpcServer
) -> Iterable[web.AbstractRouteDef]:
    """POST and GET of each path, with and without a slash at its end. A HEAD is none: it asks and says nothing."""

    async def receive(request: web.Request) -> web.Response:
        sender: Sender | None = None
        try:
            sender = await sender_of(rpc, directory, clean_key(header_or_path_key(request)), request)
            rpc.budgets.take(sender.org_id, RPCS, 1)
            if sender.integration_id is None:
                raise invalid("Authorization", "must be an integration key, which names its integration")
            due, returned = await heartbeats.beat(sender.org_id, sender.integration_id)
        except Exception as failure:
            error = masked(failure)
            if sender is not None:
                times.refused(sender.org_id, sender.integration_id, error, alerts=0)
            return _refuse(error)
        return web.json_response({"status": "success", "due_time": due.isoformat(), "returned": returned})

    for path in (*PATHS, *(f"{path}/" for path in PATHS)):
        yield web.post(path, receive)
        yield web.get(path, receive, allow_head=False)


def _refuse(error: TocsinError) -> web.Response:
    response = refuse(http_status(error), error)
    if is_transient(error):
        response.headers.update(retry_after(error.retry_after or 1.0))
    return response
