"""Updates that Telegram sends to the bot (core.telegram.org/bots/api#setwebhook): buttons that were pressed, and people
who ask for their number.

Telegram signs nothing; it sends a secret that the operator told it with the webhook. The data of a button is signed by
this service, since a client may send any data (core.telegram.org/bots/api#callbackquery). The answer to the request
contains the call that answers the person.
"""

from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.app.answers.presses import Presser, Presses
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.telegram_account import TelegramAccount
from tocsin_notify.domain.page import Channel
from tocsin_notify.domain.proofs import is_any
from tocsin_notify.http.forms import read_json
from tocsin_notify.texts.replies import ReplyWords, reply_words_of

_log = get_logger(__name__)

PATH: Final = "/v1/telegram"
_HEADER: Final = "X-Telegram-Bot-Api-Secret-Token"
_ASKING: Final = ("/start", "/id")


class TelegramUpdates:
    """The route of the bot's webhook."""

    def __init__(self, account: TelegramAccount, callbacks: CallbackUrls, presses: Presses) -> None:
        self._account = account
        self._callbacks = callbacks
        self._presses = presses

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server."""
        return (web.post(PATH, self.update),)

    async def update(self, request: web.Request) -> web.Response:
        """One update. Updates that concern no page are accepted and dropped: Telegram would repeat them for a day."""
        given = request.headers.get(_HEADER, "").encode("utf-8", "surrogateescape")
        if not is_any((secret.encode() for secret in self._account.secrets), given):
            _log.warning(
                "telegram_secret_wrong",
                meaning="it is not from Telegram, or the webhook was set without TELEGRAM_WEBHOOK_SECRET",
            )
            raise TocsinError(ErrorReason.ERROR_REASON_CREDENTIAL_INVALID, "the secret token is wrong")
        update = await read_json(request)
        pressed, message = update.get("callback_query"), update.get("message")
        if isinstance(pressed, dict):
            return await self._pressed(pressed)
        if isinstance(message, dict):
            return _tell_number(message)
        return web.Response()

    async def _pressed(self, query: dict[str, Any]) -> web.Response:
        data, sender = query.get("data"), query.get("from")
        read = self._callbacks.read_data(data) if isinstance(data, str) else None
        if read is None or not isinstance(sender, dict):
            return _answer(query, _words(sender).telegram_no_button)
        notification, attempt, action = read
        by, occurrence = Presser(Channel.TELEGRAM, str(sender.get("id", ""))), str(query.get("id", ""))
        taken = await self._presses.find_and_take(
            notification, attempt, lambda name: by.press(name, action, occurrence)
        )
        return _answer(query, taken.said(action))


def _answer(query: dict[str, Any], text: str) -> web.Response:
    """core.telegram.org/bots/api#answercallbackquery."""
    body = {"method": "answerCallbackQuery", "callback_query_id": str(query.get("id", "")), "text": text}
    return web.json_response(body)


def _tell_number(message: dict[str, Any]) -> web.Response:
    """A person who writes to the bot is told the number of the chat, which a contact method needs."""
    chat, text = message.get("chat"), message.get("text")
    if not isinstance(chat, dict) or not isinstance(text, str) or not text.startswith(_ASKING):
        return web.Response()
    number = chat.get("id")
    told = _words(message.get("from")).telegram_number.format(number=number)
    return web.json_response({"method": "sendMessage", "chat_id": number, "text": told})


def _words(sender: object) -> ReplyWords:
    """In the language of the app, for a sender whose user is not known (core.telegram.org/bots/api#user)."""
    code = sender.get("language_code") if isinstance(sender, dict) else None
    return reply_words_of(code[:2].lower() if isinstance(code, str) else "")
