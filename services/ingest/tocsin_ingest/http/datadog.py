"""Datadog's webhooks with the payload that `docs/reference/senders.md` shows: `POST /v1/datadog`.

Datadog posts what its user writes, so the names are ours and the values Datadog's. The integration key is in a custom header
(`{"Authorization": "Bearer tik_…"}`) or the end of the path. An alert is known by the key of its cycle, which lasts until it
recovers.
https://docs.datadoghq.com/integrations/webhooks/
"""

from dataclasses import replace
from typing import Final

from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, ALERT_ACTION_TRIGGER
from tocsin.ingest.v1.integration_service_pb2 import AlertMapping
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_ERROR, SEVERITY_INFO, SEVERITY_WARNING

from tocsin_ingest.http.format import Format
from tocsin_ingest.http.generic import preset
from tocsin_ingest.http.results import answer_each_or_503, refuse_or_503

_FIRES: Final = ("Triggered", "Re-Triggered", "Warn", "Re-Warn", "No Data", "Re-No Data", "Renotify")

_PRESET: Final = preset(
    "/v1/datadog",
    "datadog",
    "Datadog",
    AlertMapping(
        dedup_key="key",
        summary="title",
        # A monitor without a priority has an empty one.
        severity="priority || type",
        severities={
            "P1": SEVERITY_CRITICAL,
            "P2": SEVERITY_ERROR,
            "P3": SEVERITY_WARNING,
            "P4": SEVERITY_INFO,
            "P5": SEVERITY_INFO,
            "success": SEVERITY_INFO,
        },
        action="transition",
        actions={**dict.fromkeys(_FIRES, ALERT_ACTION_TRIGGER), "Recovered": ALERT_ACTION_RESOLVE},
        labels="{host: host, monitor: monitor, scope: scope}",
        source="host",
        links="link",
    ),
    action="transition",
)
FORMAT: Final[Format] = replace(_PRESET, answer=answer_each_or_503, refuse=refuse_or_503)
