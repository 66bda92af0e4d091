"""Converts rows into what a channel needs."""

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class PageContent:
    """The page that a notification is about."""

    org_id: str
    page_id: UUID
    kind: Kind
    job: NotificationJob


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which attempt of which notification."""

    notification: UUID
    number: int
    group: int
    """One more each time the notification's dead letter is redriven: see `delivery_key`."""
    start_time: datetime
    answered: int = 0
    """See `Delivery`."""


def make_delivery(
    cipher: Cipher, page: PageContent, attempt: Attempt, method: UUID, target: StoredTarget, language: str | None
) -> Delivery:
    """Everything one attempt needs. `language`: None, if none was chosen. Raises SecretLost."""
    secret = b"" if target.secret is None else cipher.open(page.org_id, method, target.secret)
    language = language or LANGUAGES[0]
    return Delivery(
        key=delivery_key(attempt.notification, attempt.group),
        notification=attempt.notification,
        org_id=page.org_id,
        kind=page.kind,
        job=in_language(
            page.job, language if TYPES[target.channel].parts else LANGUAGES[0]
        ),  # programs get the same text in every language
        target=Target(target.channel, target.address, secret, target.key_id),
        attempt=attempt.number,
        start_time=attempt.start_time,
        answered=attempt.answered,
        language=language,
        code=code_for(cipher.code_key, page.page_id) if page.kind is Kind.VERIFICATION else "",
    )
