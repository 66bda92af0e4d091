"""All other services, by Apprise (appriseit.com): the channel of last resort.

Apprise tells yes or no and nothing more: no id, no receipt, no reason. So a message is at most "accepted", and its only
action is the link. Its URLs can make it call any host, read files or act on its machine. So it runs in its own
processes, restricted by `apprise_fence`, with only the schemes that the operator allows.
"""

import random
import re
from collections.abc import Sequence
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.channels.apprise_pool import Answer, Busy, Died, Pool
from tocsin_notify.channels.apprise_words import Done
from tocsin_notify.channels.base import Always, BadAddress, Delivery, Permit
from tocsin_notify.channels.brief import Loudness, brief, loudness
from tocsin_notify.channels.channel_type import TITLED, ChannelType
from tocsin_notify.channels.text import subject
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind

_log = get_logger(__name__)

_FORM: Final = re.compile(r"([A-Za-z0-9]{1,32})://[^\s\x00-\x1f\x7f-\x9f]+")
_SHAPE: Final = "must be a URL of Apprise without spaces, such as gotifys://gotify.example.com/token"
_NOT_TAKEN: Final = "the service did not take it, or could not be reached, or is at no address that may be called"
"""One text for all three cases: otherwise a tenant could find out, address by address, which hosts answer in the
operator's network."""
_WAITING_PER_WORKER: Final = 4
_TYPES: Final = {
    Loudness.NEWS: "info",
    Loudness.ASKED_FOR: "info",
    Loudness.PAGE: "warning",
    Loudness.WAKES: "failure",
}


class AppriseChannel:
    """One message for each attempt."""

    def __init__(self, schemes: Sequence[str], *, workers: int, timeout: float, allow_private: bool) -> None:
        """`timeout`: seconds for the whole attempt; a plugin that hangs is killed then."""
        self.concurrency = workers * _WAITING_PER_WORKER
        self._schemes = frozenset(schemes)
        self._timeout = timeout
        self._pool = Pool(schemes, size=workers, allow_private=allow_private)

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`."""
        url = delivery.target.secret.decode()
        try:
            scheme = self._scheme(url)
        except BadAddress as error:
            return Permanent(f"the URL {error}")
        body = "\n\n".join(filter(None, (brief(delivery), delivery.link)))
        type_ = "success" if delivery.kind is Kind.RESOLUTION else _TYPES[loudness(delivery)]
        wanted = {"do": "send", "url": url, "title": subject(delivery), "body": body, "type": type_}
        try:
            answer = await self._pool.work(delivery.org_id, wanted, permit, timeout=self._timeout)
        except Busy:
            after = 1.0 + 4.0 * random.random()
            return Retryable("every process that runs Apprise is busy", after, recipient=True)
        except TimeoutError:
            return Retryable(f"no answer within {self._timeout:g} s")
        except Died:
            return Retryable("the process that ran Apprise ended")
        self._note(delivery.org_id, scheme, answer)
        if answer.done is Done.YES:
            return Sent()
        if answer.done is Done.NO:
            return Retryable(_NOT_TAKEN, recipient=True)
        return Permanent(f"the URL {_UNREADABLE.format(scheme=scheme)}")

    async def vet(self, org_id: str, address: str) -> None:
        """See `Vetting`. The URL is checked by the code that sends."""
        scheme = self._scheme(address)
        try:
            wanted = {"do": "check", "url": address}
            answer = await self._pool.work(f"checks of {org_id}", wanted, Always(), timeout=self._timeout)
        except (Busy, Died, TimeoutError) as error:
            raise TocsinError(
                ErrorReason.ERROR_REASON_OVERLOADED, "Apprise cannot read the URL at the moment; try again"
            ) from error
        self._note(org_id, scheme, answer)
        if answer.done is Done.PRIVATE:
            raise BadAddress("leads to a private address, which this installation does not call")
        if answer.done is not Done.YES:
            raise BadAddress(_UNREADABLE.format(scheme=scheme))

    async def close(self) -> None:
        """End its processes."""
        await self._pool.close()

    def _scheme(self, url: str) -> str:
        form = _FORM.fullmatch(url)
        if form is None:
            raise BadAddress(_SHAPE)
        scheme = form[1].lower()
        if scheme not in self._schemes:
            allowed = ", ".join(sorted(self._schemes)) or "none"
            raise BadAddress(
                f"must have a scheme that the operator allows (NOTIFY_APPRISE_SCHEMES): {allowed}; it has {scheme}"
            )
        return scheme

    def _note(self, org_id: str, scheme: str, answer: Answer) -> None:
        if answer.fenced:
            _log.warning("apprise_fenced", org_id=org_id, scheme=scheme, events=list(answer.fenced))


_UNREADABLE: Final = "must be one that Apprise can read: see appriseit.com for the form of {scheme}://"


def _check(address: str, allow_private: bool) -> str:
    if not _FORM.fullmatch(address):
        raise BadAddress(_SHAPE)
    return address


def _mask(address: str) -> str:
    """The rest of the URL may be the secret."""
    return f"{address.partition('://')[0].lower()}://…"


TYPE: Final = ChannelType(
    Channel.APPRISE,
    "Apprise",
    lambda settings, _: AppriseChannel(
        settings.apprise_allowed,
        workers=settings.apprise_workers,
        timeout=settings.attempt_timeout_seconds,
        allow_private=settings.allow_private_webhooks,
    ),
    address_field="url",
    mask=_mask,
    parts=TITLED,
    check=_check,
    hosts=True,
    missing=lambda settings: (
        "" if settings.apprise_allowed else "is not possible here: the operator has set no NOTIFY_APPRISE_SCHEMES"
    ),
)
