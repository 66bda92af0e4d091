"""Uptime Kuma's notification "Webhook" with the preset body in JSON: `POST /v1/uptime-kuma`.

The integration key is in an additional header (`{"Authorization": "Bearer tik_…"}`) or the end of the path. A monitor is an alert.
What comes without a monitor (a test, a certificate that ends soon) is an alert by its text.
https://github.com/louislam/uptime-kuma/blob/master/server/notification-providers/webhook.js
"""

from typing import Final

from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, ALERT_ACTION_TRIGGER
from tocsin.ingest.v1.integration_service_pb2 import AlertMapping

from tocsin_ingest.http.format import Format
from tocsin_ingest.http.generic import preset

_DOWN: Final = "0"
_UP: Final = "1"
_PENDING: Final = "2"
_MAINTENANCE: Final = "3"

_NAMES: Final = "monitor.{monitor: name, type: type, url: url}"
_TAGS: Final = "join(',', map(&((value && join('=', [name, value])) || name), monitor.tags))"
_LABELS: Final = f"(monitor.tags[0] && merge({_NAMES}, {{tags: {_TAGS}}})) || {_NAMES}"
"""Tags have a name and, most of them, a value. In one label, as an expression cannot name fields by what it reads."""

FORMAT: Final[Format] = preset(
    "/v1/uptime-kuma",
    "uptime_kuma",
    "Uptime Kuma",
    AlertMapping(
        dedup_key="monitor.id",
        summary="msg",
        # A certificate that ends in weeks must wake no one.
        severity="(heartbeat && 'critical') || 'warning'",
        action="heartbeat.status",
        actions={
            _DOWN: ALERT_ACTION_TRIGGER,
            _UP: ALERT_ACTION_RESOLVE,
            _PENDING: ALERT_ACTION_TRIGGER,
            _MAINTENANCE: ALERT_ACTION_RESOLVE,
        },
        labels=_LABELS,
        source="monitor.name",
        # Not the whole monitor, which holds the credentials that it is checked with.
        details="{msg: msg, heartbeat: heartbeat, monitor: monitor.{id: id, name: name, type: type, url: url}}",
        links="monitor.url",
    ),
    action="heartbeat.status",
)
