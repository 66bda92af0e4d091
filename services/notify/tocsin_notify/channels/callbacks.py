"""The public addresses of this service that are handed to providers."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from multidict import MultiMapping

from tocsin_notify.channels.base import Delivery
from tocsin_notify.domain.action import Action
from tocsin_notify.domain.page import PAGES, Kind
from tocsin_notify.domain.proofs import is_any

TWILIO_STATUS: Final = "/v1/twilio/status"
TWILIO_CALL: Final = "/v1/twilio/call"
TWILIO_KEY: Final = "/v1/twilio/key"
TWILIO_REPLY: Final = "/v1/twilio/reply"
BUTTON: Final = "/v1/button"
RECEIPT: Final = "/v1/receipt"
ARRIVED: Final = "arrived"
_PURPOSE: Final = b"tocsin button\0"
_MAC: Final = "mac"
_MAC_BYTES: Final = 16
_SHORT_PURPOSE: Final = b"tocsin short button\0"
_SHORT: Final = (Action.ACKNOWLEDGE, Action.ESCALATE)
_DATA_BYTES: Final = 16 + 4 + 1
_REPLY_PURPOSE: Final = b"tocsin mail reply\0"
_REPLY_BYTES: Final = 16 + 4


def labels_of(delivery: Delivery) -> Mapping[str, Action]:
    """The labels of buttons that answer without opening a page; empty where the message needs no answer."""
    words = delivery.words
    if delivery.kind is Kind.BUNDLE:
        return {words.button_acknowledge_all: Action.ACKNOWLEDGE}
    if delivery.kind not in PAGES:
        return {}
    return {words.button_acknowledge: Action.ACKNOWLEDGE, words.button_escalate: Action.ESCALATE}


class CallbackUrls:
    """All under one public base URL, and in one mail domain; without these, providers are given no callback and mails
    no reply address."""

    def __init__(self, public_url: str, keys: Sequence[bytes] = (), mail_domain: str = "") -> None:
        """`public_url`: without a slash at its end; empty when this service cannot be reached from outside. The first
        of `keys` signs new addresses, and each of them verifies. `mail_domain`: the domain of reply addresses.
        """
        self.public_url: Final = public_url
        self._keys = keys
        self._mail_domain = mail_domain

    def twilio_status(self, delivery: Delivery) -> str:
        """Where Twilio reports the state of this attempt's message; empty without a public URL."""
        return self._url(TWILIO_STATUS, _names(delivery))

    def twilio_call(self, delivery: Delivery) -> str:
        """Where Twilio reports the state of this attempt's call."""
        return self._url(TWILIO_CALL, _names(delivery))

    def twilio_key(self, delivery: Delivery) -> str:
        """Where Twilio reports which key was pressed, and gets the next text to say."""
        return self._url(TWILIO_KEY, _names(delivery) | {"language": delivery.language})

    def named(self, delivery: Delivery, action: Action) -> Mapping[str, str]:
        """The signed names of such a button, for a provider that sends them back; empty when buttons cannot work."""
        if not self._keys or not self.public_url:
            return {}
        names = _names(delivery) | {"via": str(delivery.target.channel), "action": str(action)}
        return names | {_MAC: _mac(self._keys[0], names)}

    def data(self, delivery: Delivery, action: Action) -> str:
        """The same in at most 64 bytes; empty when buttons cannot work. The tenant is left out."""
        if not self._keys or not self.public_url:
            return ""
        content = (
            delivery.notification.bytes + delivery.attempt.to_bytes(4, "big") + _SHORT.index(action).to_bytes(1, "big")
        )
        return _text(_short_mac(self._keys[0], content) + content)

    def read_data(self, data: str) -> tuple[UUID, int, Action] | None:
        """Notification, attempt and action; None unless this service made it. Compares in constant time."""
        try:
            raw = base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)) if data.isascii() else b""
        except (binascii.Error, ValueError):
            return None
        given, content = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not is_any((_short_mac(key, content) for key in self._keys), given) or len(content) != _DATA_BYTES:
            return None
        return UUID(bytes=content[:16]), int.from_bytes(content[16:20], "big"), _SHORT[content[20]]

    def reply_address(self, delivery: Delivery) -> str:
        """Where the person answers this attempt by mail; empty when that cannot work, or the message needs no answer.

        At most 64 characters stand before the `@` (RFC 5321 §4.5.3.1), in lower case, as some servers make them.
        """
        if not self._keys or not self._mail_domain or not labels_of(delivery):
            return ""
        content = delivery.notification.bytes + delivery.attempt.to_bytes(4, "big")
        word = base64.b32encode(_reply_mac(self._keys[0], content) + content).decode().rstrip("=").lower()
        return f"{word}@{self._mail_domain}"

    def read_reply_address(self, word: str) -> tuple[UUID, int] | None:
        """Notification and attempt of a local part (before the `@`); None unless this service made it. Compares in
        constant time."""
        try:
            raw = base64.b32decode(word + "=" * (-len(word) % 8), casefold=True)
        except (binascii.Error, ValueError):
            return None
        given, content = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not is_any((_reply_mac(key, content) for key in self._keys), given) or len(content) != _REPLY_BYTES:
            return None
        return UUID(bytes=content[:16]), int.from_bytes(content[16:], "big")

    def button(self, delivery: Delivery, action: Action) -> str:
        """A URL that performs this action for the person when it is posted to. A caller who has it can perform this
        action, and no other."""
        names = self.named(delivery, action)
        return self._url(BUTTON, names) if names else ""

    def receipt(self, delivery: Delivery) -> str:
        """A URL that proves the delivery of the message when it is posted to; empty when that cannot work."""
        if not self._keys or not self.public_url:
            return ""
        names = _names(delivery) | {ARRIVED: str(delivery.target.channel)}
        return self._url(RECEIPT, names | {_MAC: _mac(self._keys[0], names)})

    def read_signed(self, query: MultiMapping[str]) -> Mapping[str, str] | None:
        """The names in the URL of a button or a receipt; None unless this service made it. Compares in constant time."""
        names = dict(query)
        given = names.pop(_MAC, "").encode("utf-8", "surrogateescape")
        right = is_any((_mac(key, names).encode() for key in self._keys), given)
        # With a repeated name, the signature would cover one value and the code would read the other one.
        return names if right and len(query) == len(names) + 1 else None

    def _url(self, path: str, names: Mapping[str, str]) -> str:
        return f"{self.public_url}{path}?{urlencode(names)}" if self.public_url else ""


def _names(delivery: Delivery) -> dict[str, str]:
    return {
        "org": delivery.org_id,
        "notification": str(delivery.notification),
        "attempt": str(delivery.attempt),
    }


def _mac(key: bytes, names: Mapping[str, str]) -> str:
    content = urlencode(sorted(names.items()), errors="surrogateescape").encode()
    return _text(hmac.digest(key, _PURPOSE + content, hashlib.sha256)[:_MAC_BYTES])


def _reply_mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, _REPLY_PURPOSE + content, hashlib.sha256)[:_MAC_BYTES]


def _short_mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, _SHORT_PURPOSE + content, hashlib.sha256)[:_MAC_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
