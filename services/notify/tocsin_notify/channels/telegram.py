"""Messages with buttons by a Telegram bot (core.telegram.org/bots/api).

Once the incident is answered the message loses its buttons and shows what happened. Only buttons report back: Telegram
does not report that a phone received a message.
"""

import json
import re
from datetime import datetime
from typing import Any, Final

import aiohttp
from yarl import URL

from tocsin_notify.channels.answers import beginning
from tocsin_notify.channels.base import BadAddress, Delivery, Permit, Sequel
from tocsin_notify.channels.brief import Loudness, brief, loudness
from tocsin_notify.channels.callbacks import CallbackUrls, labels_of
from tocsin_notify.channels.channel_type import TITLED, ChannelType
from tocsin_notify.channels.posting import DETAIL_LIMIT, Post, Poster, may_pass, printable, read_object, retry_after
from tocsin_notify.channels.telegram_account import TelegramAccount
from tocsin_notify.channels.text import one_line, subject
from tocsin_notify.domain.attempt import AWAY, Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel

_ANSWER_BYTES: Final = 16_384
_CHAT: Final = re.compile(r"-?[0-9]{1,15}")
_NOT_MODIFIED: Final = "message is not modified"


class TelegramChannel:
    """One request for each attempt, and one for what follows it."""

    rings = False

    def __init__(self, account: TelegramAccount, callbacks: CallbackUrls, *, timeout: float, concurrency: int) -> None:
        """`timeout`: seconds for the whole attempt. `callbacks` signs the values of buttons."""
        self.concurrency = concurrency
        self._account = account
        self._callbacks = callbacks
        # The operator chose the address, so it may lead anywhere.
        self._poster = Poster(timeout=timeout, allow_private=True)

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`."""
        if not self._account.token:
            return Permanent("this installation sends nothing by Telegram (TELEGRAM_BOT_TOKEN)")
        message: dict[str, Any] = {
            "chat_id": int(delivery.target.address),
            "text": f"{subject(delivery)}\n\n{brief(delivery)}",
            "link_preview_options": {"is_disabled": True},
            "disable_notification": loudness(delivery) is Loudness.NEWS,
        }
        rows = self._buttons(delivery)
        if rows:
            message["reply_markup"] = {"inline_keyboard": rows}
        return await self._call("sendMessage", message, permit, delivery.start_time)

    async def follow(self, sequel: Sequel, permit: Permit) -> Outcome:
        """Replace the buttons by what happened (core.telegram.org/bots/api#editmessagetext)."""
        if not self._account.token:
            return Sent()
        message = {
            "chat_id": int(sequel.target.address),
            "message_id": int(sequel.provider_id),
            "text": f"{one_line(sequel.job.title)}\n\n{sequel.words}",
        }
        outcome = await self._call("editMessageText", message, permit)
        done = isinstance(outcome, Permanent) and _NOT_MODIFIED in outcome.reason
        return Sent() if done else outcome

    async def close(self) -> None:
        """Drop idle connections."""
        await self._poster.close()

    def _buttons(self, delivery: Delivery) -> list[list[dict[str, str]]]:
        rows = []
        if self._account.secrets:
            named = labels_of(delivery).items()
            data = ((label, self._callbacks.data(delivery, action)) for label, action in named)
            rows.append([{"text": label, "callback_data": each} for label, each in data if each])
        if delivery.link.startswith("https://"):
            rows.append([{"text": delivery.words.button_open, "url": delivery.link}])
        return [row for row in rows if row]

    async def _call(
        self, method: str, message: dict[str, Any], permit: Permit, sent_at: datetime | None = None
    ) -> Outcome:
        async def judge(response: aiohttp.ClientResponse) -> Outcome:
            answer = read_object(await beginning(response, _ANSWER_BYTES))
            if 200 <= response.status < 300:
                result = answer.get("result")
                return Sent(str(result.get("message_id", ""))[:20] if isinstance(result, dict) else "")
            return _refusal(response.status, answer, retry_after(response, sent_at))

        url = URL(f"{self._account.base_url}/bot{self._account.token}/{method}", encoded=True)
        content = json.dumps(message, separators=(",", ":")).encode()
        return await self._poster.send(Post(url, content, "application/json", {}), permit, judge)


def _refusal(status: int, answer: dict[str, Any], after: float | None) -> Outcome:
    """core.telegram.org/bots/api#making-requests and #responseparameters: 401 and 404 are a wrong token, 403 a chat
    that does not let the bot in, 400 one that does not exist. A proxy in front of the bot API gives the time to wait in
    a header (`after`)."""
    said = f"{status} {printable(str(answer.get('description', '')))[:DETAIL_LIMIT]}".strip()
    if status in (401, 404):
        return Retryable(f"{said} (TELEGRAM_BOT_TOKEN is wrong)", AWAY)
    if may_pass(status):
        parameters = answer.get("parameters")
        told = parameters.get("retry_after") if isinstance(parameters, dict) else None
        return Retryable(said, float(told) if isinstance(told, int) else after)
    return Permanent(said)


def _check(address: str, allow_private: bool) -> str:
    if not _CHAT.fullmatch(address) or int(address) == 0:
        raise BadAddress("must be the number of a chat; write /start to the bot, and it answers with the number")
    return str(int(address))


TYPE: Final = ChannelType(
    Channel.TELEGRAM,
    "Telegram",
    lambda settings, callbacks: TelegramChannel(
        settings.telegram_account, callbacks, timeout=settings.attempt_timeout_seconds, concurrency=settings.concurrency
    ),
    address_field="chat_id",
    parts=TITLED,
    check=_check,
    missing=lambda settings: (
        "" if settings.telegram_account.token else "is not possible here: the operator has set no TELEGRAM_BOT_TOKEN"
    ),
)
