"""Grafana's unified alerting, contact point "Webhook": `POST /v1/grafana`.

The integration key is in the contact point's authorization header, the password of its basic authentication, or the end of the
path. The form is that of Alertmanager's webhook, with the values of the rule's queries and links to Grafana.
https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
"""

from typing import Any, Final

from tocsin_ingest.http import alertmanager
from tocsin_ingest.http.format import Format, Item, Json


def item(given: Any, body: Json, place: str) -> Item:
    """One alert of the group, by its own fingerprint."""
    made = alertmanager.item(given, body, place)
    made.alert.client = "Grafana"
    return made


FORMAT: Final = Format(
    *(("/v1/grafana", "/v1/grafana/{key}"), "grafana", item),
    list_field="alerts",
    check=alertmanager.check,
    read_with=alertmanager.READ_WITH,
)
