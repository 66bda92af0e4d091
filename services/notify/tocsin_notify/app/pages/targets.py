"""Converts rows into what a channel needs."""

from datetime import datetime
from functools import lru_cache
from urllib.parse import urlsplit
from uuid import UUID

from tocsin.notify.v1.notification_pb2 import NotificationJob

from tocsin_notify.app.delivery.lanes import Destination
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.page import Channel, Kind
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.domain.verification import code_for
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.store.pages.people import StoredTarget
from tocsin_notify.texts.own_messages import in_language


def delivery_key(notification: UUID, attempt_group: int) -> str:
    """The key by which providers may deduplicate: the same for every attempt until the dead letter is redriven."""
    return f"{notification}-{attempt_group}"


def destination_of(method: UUID, channel: Channel, address: str) -> Destination | None:
    """None for channels that have one server for all users: their calls share the channel's slots only."""
    if not TYPES[channel].hosts:
        return None
    return Destination(method, _host(address))


@lru_cache(maxsize=4096)
def _host(url: str) -> str:
    """With its port. Empty for a URL that was stored before URLs were checked as they are now; the call reports its
    fault."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def make_delivery(
    cipher: Cipher,
    *,
    notification: UUID,
    org_id: str,
    page_id: UUID,
    kind: Kind,
    job: NotificationJob,
    method: UUID,
    target: StoredTarget,
    attempt: int,
    attempt_group: int,
    start_time: datetime,
    language: str | None,
) -> Delivery:
    """Everything one attempt needs. `language`: None, if none was chosen. Raises SecretLost."""
    secret = b"" if target.secret is None else cipher.open(org_id, method, target.secret)
    language = language or LANGUAGES[0]
    return Delivery(
        key=delivery_key(notification, attempt_group),
        notification=notification,
        org_id=org_id,
        kind=kind,
        job=in_language(
            job, language if TYPES[target.channel].parts else LANGUAGES[0]
        ),  # programs get the same text in every language
        target=Target(target.channel, target.address, secret, target.key_id),
        attempt=attempt,
        start_time=start_time,
        language=language,
        code=code_for(cipher.code_key, page_id) if kind is Kind.VERIFICATION else "",
    )
