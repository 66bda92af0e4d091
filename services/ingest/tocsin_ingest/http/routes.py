"""The HTTP routes for senders. To add a sender: a file with its `FORMAT`, and its row in `FORMATS`."""

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from tocsin_ingest.http import (
    alertmanager,
    alertmanager_v2,
    cloudevents,
    datadog,
    generic,
    grafana,
    opsgenie,
    pagerduty,
    pagerduty_change,
    pagerduty_v1,
    sentry,
    sns,
    uptime_kuma,
    zabbix,
)
from tocsin_ingest.http.receiver import Receiver, Shared

FORMATS: Final = (
    pagerduty.FORMAT,
    pagerduty_v1.FORMAT,
    pagerduty_change.FORMAT,
    alertmanager.FORMAT,
    alertmanager_v2.FORMAT,
    grafana.FORMAT,
    generic.FORMAT,
    cloudevents.FORMAT,
    uptime_kuma.FORMAT,
    datadog.FORMAT,
    zabbix.FORMAT,
    sentry.FORMAT,
    sns.FORMAT,
    *opsgenie.FORMATS,
)


def routes(shared: Shared) -> Iterable[web.AbstractRouteDef]:
    """A route for each path of each format, with and without a slash at its end."""
    for each in FORMATS:
        receiver = Receiver(each, shared)
        for path in each.paths:
            yield web.route(each.method, path, receiver.receive)
            yield web.route(each.method, f"{path}/", receiver.receive)
            if each.options is not None:
                yield web.options(path, each.options)
    yield from opsgenie.OTHERS
