"""Amazon SNS: `POST /v1/sns/{key}`, an HTTPS subscription without raw message delivery.

The subscription is confirmed by itself. Each message must bear the signature of SNS, made with a certificate of the provider's
hosts. CloudWatch alarms fire and are over by their states; any other message is an alert by its subject, or as the
integration's mapping reads it.
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

import base64
import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.x509 import load_pem_x509_certificate
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, ALERT_ACTION_TRIGGER, AlertAction, AlertInput
from tocsin.type.v1.severity_pb2 import SEVERITY_UNSPECIFIED, SEVERITY_WARNING
from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.logging import get_logger

from tocsin_ingest.app.integrations.directory import Routing
from tocsin_ingest.http import documents, fit, generic, mapped
from tocsin_ingest.http.documents import Document
from tocsin_ingest.http.fetcher import Fetcher
from tocsin_ingest.http.format import Format, Item, Json, Reading
from tocsin_ingest.http.results import answer_each_or_503, refuse_or_503

_log = get_logger(__name__)
_CLIENT: Final = "Amazon SNS"
_NOTIFICATION: Final = "Notification"
_CONFIRM: Final = "SubscriptionConfirmation"
_SIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    _NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    _CONFIRM: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
"""By type of message, what is signed, in this order."""
_HASHES: Final[Mapping[str, HashAlgorithm]] = {"1": SHA1(), "2": SHA256()}  # noqa: S303 - as SNS signs by default
_STATES: Final[Mapping[str, AlertAction.ValueType]] = {
    "ALARM": ALERT_ACTION_TRIGGER,
    "INSUFFICIENT_DATA": ALERT_ACTION_TRIGGER,
    "OK": ALERT_ACTION_RESOLVE,
}
_MESSAGES: Final = uuid.UUID("9b8b2a6e-41f6-4c59-8a34-4a2b2f2e6c77")
"""Namespace of the request ids that are made of messages."""
_CERTIFICATE: Final = re.compile(r"https://[^/?#]+/SimpleNotificationService-[0-9A-Za-z]{1,64}\.pem\Z")


async def verify(fetcher: Fetcher, org_id: str, body: Json) -> None:
    """Checks that SNS has sent it; and answers the confirmation of a new subscription.

    Raises INVALID_FIELD for what SNS has not signed, and SERVICE_UNAVAILABLE when it cannot be asked.
    """
    names = _SIGNED.get(fit.whole(body.get("Type")))
    if names is None:
        raise invalid("Type", f"must be one of {', '.join(_SIGNED)}; raw message delivery must be off")
    algorithm = _HASHES.get(fit.whole(body.get("SignatureVersion")))
    if algorithm is None:
        raise invalid("SignatureVersion", f"must be one of {', '.join(_HASHES)}")
    try:
        signature = base64.b64decode(fit.whole(body.get("Signature")), validate=True)
    except ValueError:
        raise invalid("Signature", "is not base64") from None
    text = "".join(f"{name}\n{fit.whole(body[name])}\n" for name in names if body.get(name) is not None)
    key = await _public_key(fetcher, org_id, fit.whole(body.get("SigningCertURL")))
    try:
        key.verify(signature, text.encode(), PKCS1v15(), algorithm)
    except InvalidSignature:
        raise invalid("Signature", "is not that of this message") from None
    if body["Type"] == _CONFIRM:
        await fetcher.get(fit.whole(body.get("SubscribeURL")), "SubscribeURL", org_id)
        _log.info("sns_subscribed", topic=fit.text(body.get("TopicArn"), fit.NAME))


async def _public_key(fetcher: Fetcher, org_id: str, url: str) -> RSAPublicKey:
    if _CERTIFICATE.search(url) is None:
        # No other path on these hosts: a caller can influence a part of their answers.
        raise invalid("SigningCertURL", "must be the URL of a certificate of SNS")
    content = await fetcher.get(url, "SigningCertURL", org_id, keep=True)
    try:
        key = load_pem_x509_certificate(content).public_key()
    except ValueError:
        key = None
    if not isinstance(key, RSAPublicKey):
        raise TocsinError(ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE, "SNS has answered with no certificate")
    return key


def read(document: Document, routing: Routing) -> Reading:
    """One alert, or none."""
    if document.fields.get("Type") != _NOTIFICATION:
        return Reading(generic.never, iter(()))
    return Reading(partial(_item, routing))


FORMAT: Final = Format(
    ("/v1/sns", "/v1/sns/{key}"),
    "sns",
    generic.never,
    read=read,
    verify=verify,
    answer=answer_each_or_503,
    refuse=refuse_or_503,
)


def _item(routing: Routing, _given: Any, body: Json, place: str) -> Item:
    message = _message(body)
    if routing.mapping is not None:
        item = mapped.item(routing.mapping, _CLIENT, {**body, "message": message}, place)
    elif isinstance(message, dict) and message.get("AlarmName") and message.get("NewStateValue"):
        item = _alarm(message, place)
    else:
        item = _any(body, message)
    if not item.alert.HasField("client_time") and (time := fit.time(body.get("Timestamp"))) is not None:
        item.alert.client_time.CopyFrom(time)
    # SNS repeats a message until it is answered, and sometimes after that.
    return replace(item, request_id=str(uuid.uuid5(_MESSAGES, f"{routing.integration_id} {body.get('MessageId')}")))


def _message(body: Json) -> Any:
    """The message, as JSON if it is that."""
    text = fit.whole(body.get("Message"))
    if not text.lstrip().startswith("{"):
        return text
    try:
        return documents.value(text.encode(), "Message")
    except TocsinError:
        return text


def _alarm(message: Json, place: str) -> Item:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-sns-schema.html"""
    state = fit.whole(message["NewStateValue"])
    action = _STATES.get(state)
    if action is None:
        shown = fit.text(state, fit.NAME)
        raise invalid(f"{place}.Message.NewStateValue", f"must be one of {', '.join(_STATES)}; is {shown!r}")
    name = fit.whole(message["AlarmName"])
    names = [fit.whole(message.get(each)) for each in ("AWSAccountId", "Region", "AlarmName")]
    key = fit.whole(message.get("AlarmArn")) or "/".join(names)
    summary = f"{name}: {fit.whole(message.get('AlarmDescription') or message.get('NewStateReason'))}".removesuffix(
        ": "
    )
    alert = AlertInput(
        action=action,
        dedup_key=fit.key(key, fit.NAME),
        summary=fit.text(summary, fit.SUMMARY),
        source=fit.text(name, fit.NAME),
        # It is unknown whether anything is wrong.
        severity=SEVERITY_WARNING if state == "INSUFFICIENT_DATA" else SEVERITY_UNSPECIFIED,
        client="CloudWatch",
    )
    found = message.get("Trigger")
    metric = found if isinstance(found, dict) else {}
    labels = {
        "alarm": name,
        "account": fit.whole(message.get("AWSAccountId")),
        "region": fit.whole(message.get("Region")),
        "namespace": fit.whole(metric.get("Namespace")),
        "metric": fit.whole(metric.get("MetricName")),
        **_dimensions(metric.get("Dimensions")),
    }
    labels = {each: value for each, value in labels.items() if value}
    fit.set_labels(alert, labels)
    fit.set_details(alert, message)
    if (time := fit.time(message.get("StateChangeTime"))) is not None:
        alert.client_time.CopyFrom(time)
    return Item(alert, labels)


def _dimensions(given: Any) -> dict[str, str]:
    each = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    return {fit.whole(one.get("name")): fit.whole(one.get("value")) for one in each if one.get("name")}


def _any(body: Json, message: Any) -> Item:
    """A message of any kind: those of one topic and one subject are the same alert."""
    topic = fit.whole(body.get("TopicArn"))
    kind = message.get("detail-type") if isinstance(message, dict) else None
    text = message if isinstance(message, str) else ""
    subject = fit.whole(body.get("Subject") or kind) or text.strip().partition("\n")[0] or f"a message of {topic}"
    alert = AlertInput(
        action=ALERT_ACTION_TRIGGER,
        dedup_key=fit.key(f"{topic}/{subject}", fit.NAME),
        summary=fit.text(subject, fit.SUMMARY),
        source=fit.text(topic, fit.NAME),
        client=_CLIENT,
    )
    fit.set_labels(alert, {"topic": topic})
    fit.set_details(alert, message if isinstance(message, dict) else {"message": message})
    return Item(alert, {"topic": topic})
