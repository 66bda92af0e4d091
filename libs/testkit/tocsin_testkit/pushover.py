"""A stand-in for Pushover, and for the app on the phone (pushover.net/api, pushover.net/api/receipts)."""

import itertools
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from tocsin_testkit.provider import Provider
from tocsin_testkit.received import Received

TOKEN = "azGDORePK8gMaC0QOYAMyEEuzJnyUi"
USER = "uQiRzpo4DXghDmr9QzzfQu27cmVRsG"
_CODE = re.compile(r"\b([0-9]{6}) is your Tocsin verification code")


@dataclass(slots=True)
class Push:
    """One that was taken. `receipt` is empty unless it has emergency priority; `cancelled`: how often its end was asked for."""

    receipt: str
    fields: dict[str, str]
    cancelled: int = 0


class PushoverServer(Provider):
    """Knows one application and the users in `users`. `refuse`, `hang` and `reset` go by user key, or by receipt."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.users = {USER}
        self.pushes: list[Push] = []
        self._ids = itertools.count(1)

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Version 1 of the API."""
        return web.post("/1/messages.json", self._send), web.post("/1/receipts/{receipt}/cancel.json", self._cancel)

    def settings(self) -> dict[str, Any]:
        """The variables that make a service use it."""
        return {"PUSHOVER_TOKEN": TOKEN, "PUSHOVER_BASE_URL": self.url}

    async def acknowledges(self, push: Push) -> tuple[int, str]:
        """The person presses in the app, and the callback is called."""
        data = {
            "receipt": push.receipt,
            "acknowledged": "1",
            "acknowledged_at": "1360019238",
            "acknowledged_by": push.fields["user"],
            "acknowledged_by_device": "phone",
        }
        return await self.calls_back("POST", push.fields["callback"], data=data)

    async def _send(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        fields = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        user = fields.get("user", "")
        refused = self.refusal(user)
        if refused is not None:
            return refused
        if fields.get("token") != TOKEN:
            return error(400, "application token is invalid", token="invalid")
        if user not in self.users:
            return error(400, "user identifier is not a valid user, group, or subscribed user key", user="invalid")
        if not fields.get("message") or len(fields["message"]) > 1024 or len(fields.get("title", "")) > 250:
            return error(400, "message cannot be blank", message="cannot be blank")
        emergency = fields.get("priority") == "2"
        if emergency and not (int(fields.get("retry", 0)) >= 30 and 0 < int(fields.get("expire", 0)) <= 10_800):
            return error(400, "expire must be supplied with priority=2", expire="must be supplied with priority=2")
        push = Push(f"r{next(self._ids):029d}" if emergency else "", fields)
        self.pushes.append(push)
        code = _CODE.search(fields.get("title", ""))
        await self.inbox.put(
            Received(
                address=user,
                channel="pushover",
                kind="verification" if code else "",
                subject=fields.get("title", ""),
                incident="",
                level=0,
                code=code[1] if code else "",
                key=push.receipt,
                at=time.monotonic(),
                body=fields["message"].encode(),
            )
        )
        await self.fail(request, user)
        answer = {"status": 1, "request": "5042853c-402d-4a18-abcb-168734a801de"}
        return web.json_response(answer | ({"receipt": push.receipt} if emergency else {}))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        receipt = request.match_info["receipt"]
        refused = self.refusal(receipt)
        if refused is not None:
            return refused
        fields = dict(parse_qsl((await request.read()).decode()))
        push = next((push for push in self.pushes if push.receipt == receipt), None)
        if push is None or fields.get("token") != TOKEN:
            return error(404, "receipt not found; may be invalid or expired", receipt="not found")
        push.cancelled += 1
        return web.json_response({"status": 1, "request": "1"})


def error(status: int, words: str, **wrong: str) -> web.Response:
    """A refusal as it describes them: each wrong input by its name."""
    return web.json_response({**wrong, "errors": [words], "status": 0, "request": "1"}, status=status)
