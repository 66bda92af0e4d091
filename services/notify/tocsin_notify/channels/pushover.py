"""Push by Pushover (pushover.net/api): a page that wakes a person rings again until it is answered.

Such a page has emergency priority and a receipt (pushover.net/api/receipts). A press in the app is reported by a
callback, and the ringing is cancelled once the incident was answered in any way. Pushover does not report that a phone
received a message.
"""

import re
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from tocsin_notify.channels.answers import beginning
from tocsin_notify.channels.base import BadAddress, Delivery, Permit, Sequel
from tocsin_notify.channels.brief import Loudness, brief, loudness
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.channel_type import TITLED, ChannelType
from tocsin_notify.channels.posting import DETAIL_LIMIT, Post, Poster, may_pass, printable, read_object, retry_after
from tocsin_notify.channels.pushover_account import PushoverAccount
from tocsin_notify.channels.text import subject
from tocsin_notify.domain.action import Action
from tocsin_notify.domain.attempt import AWAY, Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel

_FORM: Final = "application/x-www-form-urlencoded"
_ANSWER_BYTES: Final = 16_384
_PRIORITIES: Final = {Loudness.NEWS: -1, Loudness.ASKED_FOR: 0, Loudness.PAGE: 1, Loudness.WAKES: 2}
_EMERGENCY: Final = 2
_USER: Final = re.compile(r"[A-Za-z0-9]{30}")
_RECEIPT: Final = re.compile(r"[A-Za-z0-9]{30}")


class PushoverChannel:
    """One request for each attempt, and one that ends the ringing."""

    rings = True

    def __init__(self, account: PushoverAccount, callbacks: CallbackUrls, *, timeout: float, concurrency: int) -> None:
        """`timeout`: seconds for the whole attempt. `callbacks` gives the URL for a press, if there is one."""
        self.concurrency = concurrency
        self._account = account
        self._callbacks = callbacks
        # The operator chose the address, so it may lead anywhere.
        self._poster = Poster(timeout=timeout, allow_private=True)

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`."""
        account = self._account
        if not account.token:
            return Permanent("this installation sends nothing by Pushover (PUSHOVER_TOKEN)")
        priority = _PRIORITIES[loudness(delivery)]
        fields = {
            "token": account.token,
            "user": delivery.target.address,
            "title": subject(delivery),
            "message": brief(delivery),
            "priority": str(priority),
        }
        if delivery.link:
            fields |= {"url": delivery.link, "url_title": delivery.words.button_answer}
        if priority == _EMERGENCY:
            fields |= {"retry": str(account.retry_seconds), "expire": str(account.expire_seconds)}
            callback = self._callbacks.button(delivery, Action.ACKNOWLEDGE)
            if callback:
                fields["callback"] = callback

        async def judge(response: aiohttp.ClientResponse) -> Outcome:
            answer = read_object(await beginning(response, _ANSWER_BYTES))
            if 200 <= response.status < 300:
                receipt = str(answer.get("receipt", ""))
                return Sent(receipt if _RECEIPT.fullmatch(receipt) else "")
            return _refusal(response, answer, delivery)

        return await self._poster.send(self._post("messages.json", fields), permit, judge)

    async def follow(self, sequel: Sequel, permit: Permit) -> Outcome:
        """End the ringing (pushover.net/api/receipts#cancel). A receipt that has expired does not ring any more."""
        if not sequel.provider_id or not self._account.token:
            return Sent()
        path = f"receipts/{sequel.provider_id}/cancel.json"

        async def judge(response: aiohttp.ClientResponse) -> Outcome:
            answer = read_object(await beginning(response, _ANSWER_BYTES))
            return Sent() if 200 <= response.status < 300 else _refused(response, answer)

        return await self._poster.send(self._post(path, {"token": self._account.token}), permit, judge)

    async def close(self) -> None:
        """Drop idle connections."""
        await self._poster.close()

    def _post(self, path: str, fields: dict[str, str]) -> Post:
        url = URL(f"{self._account.base_url}/1/{path}", encoded=True)
        return Post(url, urlencode(fields).encode(), _FORM, {"Accept": "application/json"})


def _refusal(response: aiohttp.ClientResponse, answer: dict[str, Any], delivery: Delivery) -> Outcome:
    """Each wrong input is named by its field (pushover.net/api#response): `token` is the operator's, the others are
    not."""
    outcome = _refused(response, answer)
    if isinstance(outcome, Permanent) and answer.get("token"):
        return Retryable(f"{outcome.reason} (PUSHOVER_TOKEN is wrong)", AWAY)
    if isinstance(outcome, Retryable) and (after := retry_after(response, delivery.start_time)) is not None:
        return Retryable(outcome.reason, after)
    return outcome


def _refused(response: aiohttp.ClientResponse, answer: dict[str, Any]) -> Outcome:
    errors = answer.get("errors")
    words = "; ".join(map(str, errors)) if isinstance(errors, list) else ""
    said = f"{response.status} {printable(words)[:DETAIL_LIMIT]}".strip()
    if response.status == 429:
        # The limit per month gives no time to wait.
        return Retryable(f"{said} (the application has sent as many messages this month as it may)", AWAY)
    if may_pass(response.status):
        return Retryable(said)
    return Permanent(said)


def _check(address: str, allow_private: bool) -> str:
    if not _USER.fullmatch(address):
        raise BadAddress("must be a user key or group key of 30 letters and digits")
    return address


TYPE: Final = ChannelType(
    Channel.PUSHOVER,
    "Pushover",
    lambda settings, callbacks: PushoverChannel(
        settings.pushover_account, callbacks, timeout=settings.attempt_timeout_seconds, concurrency=settings.concurrency
    ),
    address_field="user_key",
    personal=True,
    parts=TITLED,
    check=_check,
    missing=lambda settings: (
        "" if settings.pushover_account.token else "is not possible here: the operator has set no PUSHOVER_TOKEN"
    ),
)
