"""The link in every message about an incident, and the one in a mail with a digest, which ends it."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.answer_link import AnswerLink, seal, unseal
from tocsin_notify.domain.page import Channel, Kind

PATH: Final = "/p/"
DIGEST_PATH: Final = "/g/"
_DIGEST_SECONDS: Final = 60 * 86_400
"""From the attempt. The mail of a week ago must still end its digest."""


class Links:
    """Makes and reads them. The first key signs, each opens: rotate by putting a new one first."""

    def __init__(self, public_url: str, keys: Sequence[bytes], *, lifetime: float) -> None:
        """`lifetime`: seconds from the attempt. An empty `public_url`: messages have no link."""
        self._public_url = public_url
        self._keys = keys
        self._lifetime = lifetime

    def of(self, delivery: Delivery) -> str:
        """The URL for this delivery; empty when there is nothing to answer or this service cannot be reached from outside."""
        if self._public_url and delivery.kind is Kind.DIGEST and delivery.target.channel is Channel.EMAIL:
            expire = int(delivery.start_time.timestamp() + _DIGEST_SECONDS)
            link = AnswerLink(delivery.org_id, UUID(delivery.job.page.rpartition("/")[2]), expire)
            return f"{self._public_url}{DIGEST_PATH}{self.token(link)}"
        if not self._public_url or not delivery.job.incident:
            return ""
        page = delivery.job.page.rpartition("/")[2]
        expire = int(delivery.start_time.timestamp() + self._lifetime)
        personal = TYPES[delivery.target.channel].personal
        return self.url(AnswerLink(delivery.org_id, UUID(page), expire, personal=personal))

    def url(self, link: AnswerLink) -> str:
        """Where it leads from outside."""
        return f"{self._public_url}{PATH}{self.token(link)}"

    def token(self, link: AnswerLink) -> str:
        """The last part of its URL."""
        return seal(self._keys[0], link)

    def read(self, token: str) -> AnswerLink | None:
        """The link, expired or not; None unless it was made here."""
        return unseal(self._keys, token)
