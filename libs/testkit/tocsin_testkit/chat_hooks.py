"""Stand-ins for the incoming webhooks of chats: they take what the documents of each take, and refuse the rest."""

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tocsin_testkit.provider import Provider
from tocsin_testkit.received import Received

_CARD = "application/vnd.microsoft.card.adaptive"


@dataclass(slots=True)
class Posted:
    """One that was taken. `path`: the whole of its URL behind the host."""

    chat: str
    path: str
    body: dict[str, Any]


class ChatHooks(Provider):
    """`/hooks/…` is Mattermost's, `/api/webhooks/…` Discord's, `/workflows/…` that of Teams. `refuse` and `hang` go by path."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.posted: list[Posted] = []
        self._ids = itertools.count(1)

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Of each chat."""
        return (
            web.post("/hooks/{key}", self._mattermost),
            web.post("/api/webhooks/{id}/{token}", self._discord),
            web.post("/workflows/{id}", self._teams),
        )

    async def _mattermost(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not body.get("text") and not body.get("attachments"):
            return web.json_response({"id": "x", "message": "No text specified", "status_code": 400}, status=400)
        text = "\n".join(f"{each['title']}\n{each['text']}" for each in body["attachments"])
        return await self._take(request, "mattermost", body, text, web.Response(text="ok"))

    async def _discord(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if any(len(each.get("title", "")) > 256 for each in body.get("embeds", [])):
            return web.json_response({"code": 50035, "message": "Invalid Form Body"}, status=400)
        text = "\n".join(f"{each['title']}\n{each['description']}" for each in body["embeds"])
        waits = request.query.get("wait") == "true"
        answer = web.json_response({"id": f"{next(self._ids)}"}) if waits else web.Response(status=204)
        return await self._take(request, "discord", body, text, answer)

    async def _teams(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not request.query.get("sig"):
            return web.json_response({"error": {"code": "DirectApiAuthorizationRequired"}}, status=401)
        [attachment] = body["attachments"]
        if body["type"] != "message" or attachment["contentType"] != _CARD:
            return web.Response(status=400)
        text = "\n".join(block["text"] for block in attachment["content"]["body"])
        return await self._take(request, "teams", body, text, web.Response(status=202))

    async def _take(
        self, request: web.Request, chat: str, body: dict[str, Any], text: str, answer: web.StreamResponse
    ) -> web.StreamResponse:
        self.requests += 1
        refused = self.refusal(request.path)
        if refused is not None:
            return refused
        self.posted.append(Posted(chat, request.path_qs, body))
        digits = "".join(each for each in text.partition(" is your")[0] if each.isdigit())
        await self.inbox.put(
            Received(
                address=request.path,
                channel=chat,
                kind="verification" if len(digits) == 6 else "",
                subject=text.partition("\n")[0],
                incident="",
                level=0,
                code=digits if len(digits) == 6 else "",
                key="",
                at=time.monotonic(),
                body=text.encode(),
            )
        )
        await self.fail(request, request.path)
        return answer
