"""One integration that posts in every format, for tests of the HTTP door."""

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_FIRING
from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest

from tests.store.ingest.support import Ingest, bearer, new_org

PATHS = (
    "/v1/alertmanager",
    "/v1/grafana",
    "/api/v2/alerts",
    "/v1/json",
    "/v1/cloudevents",
    "/v1/uptime-kuma",
    "/v1/datadog",
    "/v1/zabbix",
    "/v1/sentry",
    "/v1/sns",
    "/v2/enqueue",
    "/generic/2010-04-15/create_event.json",
    "/v2/change/enqueue",
    "/v2/alerts",
    "/v2/alerts/k/notes",
    "/v2/alerts/k/close",
)


class Sender:
    """One integration of one tenant, and what it posts."""

    def __init__(self, ingest: Ingest, http: aiohttp.ClientSession, org: str, key: str) -> None:
        self.ingest, self.http, self.org, self.key = ingest, http, org, key

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """With the key wherever a format looks for it."""
        if isinstance(body, dict):
            body = json.dumps({"routing_key": self.key, "service_key": self.key, **body}).encode()
        headers = {"Authorization": f"Bearer {self.key}", "X-Routing-Key": self.key, **headers}
        async with self.http.post(f"{self.ingest.http}{path}", data=io.BytesIO(body), headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def group(self, *alerts: Any, **fields: Any) -> tuple[int, Any]:
        return await self.post("/v1/alertmanager", {"version": "4", "alerts": alerts, **fields})

    async def alerts(self) -> list[Any]:
        found: list[Any] = []
        token = ""
        while True:
            request = ListAlertsRequest(page_size=1000, page_token=token)
            listed = await self.ingest.alerts.ListAlerts(request, metadata=bearer(self.org))
            found += listed.alerts
            token = listed.next_page_token
            if not token:
                return found

    async def keys(self) -> set[str]:
        return {alert.dedup_key for alert in await self.alerts() if alert.state == ALERT_STATE_FIRING}


@pytest.fixture
async def sender(ingest: Ingest) -> AsyncIterator[Sender]:
    org = new_org()
    _, key = await ingest.integration(org)
    async with aiohttp.ClientSession() as http:
        yield Sender(ingest, http, org, key)


def alert(key: str, **fields: Any) -> dict[str, Any]:
    return {"status": "firing", "fingerprint": key, "labels": {"alertname": key}, **fields}
