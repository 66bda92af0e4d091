"""The real Prometheus (Debian: `apt-get install prometheus`) with nothing but ingest under `alertmanagers:`."""

import asyncio
import contextlib
import json
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_FIRING, ALERT_STATE_RESOLVED, Alert
from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest
from tocsin_testkit.busy import within

from tests.store.ingest.support import Ingest, bearer, new_org, until

PROGRAM = shutil.which("prometheus")
RULES = """
groups:
  - name: hosts
    interval: 1s
    rules:
      - {alert: Holds, expr: vector(1), labels: {severity: warning}, annotations: {summary: "it holds"}}
      - {alert: Ends, expr: "vector(time() % 6) < 3", annotations: {summary: "it ends"}}
"""


@contextlib.asynccontextmanager
async def prometheus(directory: Path, config: object) -> AsyncIterator[None]:
    """Runs until the block ends. JSON is YAML."""
    assert PROGRAM is not None
    (directory / "prometheus.yml").write_text(json.dumps(config))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--rules.alert.resend-delay=1s",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), within(30))


@pytest.mark.long
@pytest.mark.skipif(PROGRAM is None, reason="Prometheus is not installed")
@pytest.mark.parametrize("way", ["bearer", "basic", "path"])
async def test_its_alerts_fire_and_end(ingest: Ingest, tmp_path: Path, way: str) -> None:
    org = new_org()
    _, key = await ingest.integration(org)
    (tmp_path / "rules.yml").write_text(RULES)
    to: dict[str, object] = {"static_configs": [{"targets": [ingest.http.removeprefix("http://")]}]}
    keys: dict[str, dict[str, object]] = {
        "bearer": {"authorization": {"credentials": key}},
        "basic": {"basic_auth": {"username": "tocsin", "password": key}},
        "path": {"path_prefix": f"/v1/alertmanager/{key}"},
    }
    to |= keys[way]
    config = {"rule_files": [str(tmp_path / "rules.yml")], "alerting": {"alertmanagers": [to]}}

    async def alerts(summary: str) -> list[Alert]:
        listed = await ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(org))
        return [each for each in listed.alerts if each.summary == summary]

    async def holds() -> bool:
        return any(each.count > 2 for each in await alerts("it holds"))

    async def ends() -> bool:
        return any(each.state == ALERT_STATE_RESOLVED for each in await alerts("it ends"))

    async with prometheus(tmp_path, config):
        await until(holds, 60.0)
        await until(ends, 60.0)
        assert [each.state for each in await alerts("it holds")] == [ALERT_STATE_FIRING]
