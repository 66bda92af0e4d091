"""Zabbix's media type "Webhook" with the script that `docs/reference/senders.md` shows: `POST /v1/zabbix`.

The script posts the values of Zabbix's macros under names of ours, as the texts that Zabbix makes of them. The integration key is a
bearer token. A problem is known by its event id, which its recovery and its updates name as well. A user who acknowledges
the problem in Zabbix acknowledges the alert.
https://www.zabbix.com/documentation/current/en/manual/config/notifications/media/webhook
https://www.zabbix.com/documentation/current/en/manual/appendix/macros/supported_by_location
"""

from typing import Final

from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_ACKNOWLEDGE, ALERT_ACTION_RESOLVE, ALERT_ACTION_TRIGGER
from tocsin.ingest.v1.integration_service_pb2 import AlertMapping
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_ERROR, SEVERITY_INFO, SEVERITY_WARNING

from tocsin_ingest.http.format import Format
from tocsin_ingest.http.generic import preset

FORMAT: Final[Format] = preset(
    "/v1/zabbix",
    "zabbix",
    "Zabbix",
    AlertMapping(
        dedup_key="event_id",
        summary="name",
        severity="to_string(severity)",
        # By number, as the words can be renamed in Zabbix. 0 is "not classified": for the routing rule to say.
        severities={
            "1": SEVERITY_INFO,
            "2": SEVERITY_WARNING,
            "3": SEVERITY_ERROR,
            "4": SEVERITY_ERROR,
            "5": SEVERITY_CRITICAL,
        },
        # An update of a problem that is acknowledged by then. A recovery stays one.
        action="(to_string(update) == '1' && to_string(value) == '1' && acknowledged == 'Yes' && 'Yes') || value",
        actions={"1": ALERT_ACTION_TRIGGER, "0": ALERT_ACTION_RESOLVE, "Yes": ALERT_ACTION_ACKNOWLEDGE},
        labels="merge(tags || `{}`, {host: host, host_group: host_group, trigger: trigger_id})",
        source="host",
        details="{operational_data: operational_data, message: message, event_id: event_id, ip: ip}",
        links="link",
    ),
    action="value",
)
