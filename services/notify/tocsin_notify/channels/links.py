"""The link in every message about an incident."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.answer_link import AnswerLink, seal, unseal

PATH: Final = "/p/"


class Links:
    """Makes and reads them. The first key signs, each opens: rotate by putting a new one first."""

    def __init__(self, public_url: str, keys: Sequence[bytes], *, lifetime: float) -> None:
        """`lifetime`: seconds from the attempt. An empty `public_url`: messages have no link."""
        self._public_url = public_url
        self._keys = keys
        self._lifetime = lifetime

    def of(self, delivery: Delivery) -> str:
        """The URL for this delivery; empty when it is about no incident or this service cannot be reached from outside."""
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
