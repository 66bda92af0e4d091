"""An alert as its sender made it, and who the sender is."""

from typing import Final

from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin_kit.auth import Principal
from tocsin_kit.rpc.raw_fields import length_delimited

from tocsin_ingest.app.alerts.alert_cache import CacheKey, cache_key
from tocsin_ingest.app.alerts.route_alert import Stated
from tocsin_ingest.domain.values import value

_ALERT: Final = SendAlertRequest.DESCRIPTOR.fields_by_name["alert"].number
INTEGRATIONS: Final = "integrations"
"""The collection of integrations."""


@value
class Sender:
    """The sender of an alert. `integration_id` is set for holders of an integration key, which speak for that one only. `signed`:
    the body has the signature that its integration asks for, or is our own.
    """

    org_id: str
    subject: str
    integration_id: str | None
    signed: bool = False

    @classmethod
    def of(cls, principal: Principal) -> "Sender":
        """The sender a credential stands for."""
        collection, _, integration_id = principal.subject.partition("/")
        return cls(principal.org_id, principal.subject, integration_id if collection == INTEGRATIONS else None)


@value
class AlertRequest:
    """An alert as its sender made it. `data`: a SendAlertRequest, serialized; `key`: what it is recognised by."""

    data: bytes
    stated: Stated
    key: CacheKey

    @classmethod
    def of(cls, request: SendAlertRequest, stated: Stated) -> "AlertRequest":
        """The request, and what was stated beside it."""
        return cls.made_of(request.SerializeToString(), stated)

    @classmethod
    def made_of(cls, data: bytes, stated: Stated) -> "AlertRequest":
        """The same of a request that is serialized."""
        return cls(data, stated, cache_key(data, stated))


def request_of(alert: AlertInput, request_id: str = "") -> bytes:
    """A SendAlertRequest with the alert, serialized. Making the request object costs three times as much: the alert would be
    copied into it."""
    data = length_delimited(_ALERT, alert.SerializeToString())
    return SendAlertRequest(request_id=request_id).SerializeToString() + data if request_id else data
