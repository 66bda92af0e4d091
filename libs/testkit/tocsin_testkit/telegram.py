"""A stand-in for Telegram's Bot API, and for the person who presses (core.telegram.org/bots/api)."""

import itertools
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tocsin_testkit.provider import Provider
from tocsin_testkit.received import Received

TOKEN = "123456:AAH-a-token-of-the-stand-in"
SECRET = "a-secret-of-the-webhook"
_CODE = re.compile(r"\b([0-9]{6}) is your Tocsin verification code")


@dataclass(slots=True)
class Message:
    """One in a chat, as it looks now. `edits`: how often it was changed."""

    id: int
    chat: int
    text: str
    buttons: dict[str, str]
    """Labels, and what they send back or open."""
    fields: dict[str, Any] = field(repr=False)
    edits: int = 0


class TelegramServer(Provider):
    """Knows one bot and the chats in `chats`. `refuse`, `hang` and `reset` go by chat."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.chats: set[int] = set()
        self.messages: list[Message] = []
        self._ids = itertools.count(1)

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The methods that are used."""
        return (web.post("/bot{token}/{method}", self._call),)

    def settings(self) -> dict[str, Any]:
        """The variables that make a service use it."""
        return {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_WEBHOOK_SECRET": SECRET, "TELEGRAM_BASE_URL": self.url}

    async def presses(
        self, message: Message, label: str, user: int, *, data: str = "", id: str = "4382bfdwdsb323b2d9"
    ) -> dict[str, Any]:
        """A person presses a button; the call that the bot answers with. `data`: what a client sends that does not play by it.
        `id`: of this press."""
        query = {
            "id": id,
            "from": {"id": user, "is_bot": False, "first_name": "Ana"},
            "message": {"message_id": message.id, "chat": {"id": message.chat}},
            "data": data or message.buttons[label],
        }
        status, answer = await self.updates({"update_id": 1, "callback_query": query})
        assert status == 200, answer
        return answer

    async def updates(self, update: object, *, secret: str | None = SECRET) -> tuple[int, dict[str, Any]]:
        """Tell the bot's webhook; its status and the call in its answer."""
        headers = {} if secret is None else {"X-Telegram-Bot-Api-Secret-Token": secret}
        url = "https://tocsin.example.com/notify/v1/telegram"
        body = json.dumps(update).encode()
        status, text = await self.calls_back(
            "POST", url, data=body, headers=headers | {"Content-Type": "application/json"}
        )
        return status, json.loads(text) if text.startswith("{") else {}

    async def _call(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if request.match_info["token"] != TOKEN:
            return error(401, "Unauthorized")
        fields = await request.json()
        chat = fields.get("chat_id")
        refused = self.refusal(str(chat))
        if refused is not None:
            return refused
        if chat not in self.chats:
            return error(400, "Bad Request: chat not found")
        text = fields.get("text", "")
        if not text or len(text) > 4096:
            return error(400, "Bad Request: message is too long" if text else "Bad Request: message text is empty")
        rows = fields.get("reply_markup", {}).get("inline_keyboard", [])
        buttons: dict[str, str] = {}
        for button in itertools.chain.from_iterable(rows):
            data = button.get("callback_data", "")
            if len(data.encode()) > 64 or not (data or button.get("url")):
                return error(400, "Bad Request: BUTTON_DATA_INVALID")
            buttons[button["text"]] = data or button["url"]
        if request.match_info["method"] == "editMessageText":
            message = next((each for each in self.messages if each.id == fields.get("message_id")), None)
            if message is None:
                return error(400, "Bad Request: message to edit not found")
            if (message.text, message.buttons) == (text, buttons):
                return error(400, "Bad Request: message is not modified: specified new message content")
            message.text, message.buttons, message.edits = text, buttons, message.edits + 1
            return web.json_response({"ok": True, "result": {"message_id": message.id}})
        message = Message(next(self._ids), chat, text, buttons, fields)
        self.messages.append(message)
        code = _CODE.search(text)
        await self.inbox.put(
            Received(
                address=str(chat),
                channel="telegram",
                kind="verification" if code else "",
                subject=text.partition("\n")[0],
                incident="",
                level=0,
                code=code[1] if code else "",
                key=str(message.id),
                at=time.monotonic(),
                body=text.encode(),
            )
        )
        await self.fail(request, str(chat))
        return web.json_response({"ok": True, "result": {"message_id": message.id, "chat": {"id": chat}}})


def error(status: int, description: str, **parameters: int) -> web.Response:
    """A refusal as core.telegram.org/bots/api#making-requests has it."""
    answer: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    return web.json_response(answer | ({"parameters": parameters} if parameters else {}), status=status)
