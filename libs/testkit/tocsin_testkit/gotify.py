"""A stand-in for a Gotify server (gotify.net/api-docs), which Tocsin reaches by Apprise alone."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tocsin_testkit.provider import Provider
from tocsin_testkit.received import Received

TOKEN = "A-token-of-gotify"
_CODE = re.compile(r"\b([0-9]{6}) is your Tocsin verification code")


@dataclass(slots=True)
class Note:
    """One that was taken."""

    title: str
    message: str
    priority: int


class GotifyServer(Provider):
    """Knows one application. `refuse`, `hang` and `reset` go by its token."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.notes: list[Note] = []

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Messages come in at one path."""
        return (web.post("/message", self._take),)

    def contact(self, host: str = "127.0.0.1", token: str = TOKEN, query: str = "") -> str:
        """The URL by which Apprise reaches it."""
        return f"gotify://{host}:{self.port}/{token}{query}"

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        token = request.headers.get("X-Gotify-Key", "")
        refused = self.refusal(token)
        if refused is not None:
            return refused
        if token != TOKEN:
            answer = {
                "error": "Unauthorized",
                "errorCode": 401,
                "errorDescription": "you need to provide a valid token",
            }
            return web.json_response(answer, status=401)
        fields = await request.json()
        if not fields.get("message"):
            answer = {"error": "Bad Request", "errorCode": 400, "errorDescription": "Field 'message' is required"}
            return web.json_response(answer, status=400)
        await self.fail(request, token)
        note = Note(fields.get("title", ""), fields["message"], fields.get("priority", 0))
        self.notes.append(note)
        code = _CODE.search(note.title)
        await self.inbox.put(
            Received(
                address=token,
                channel="apprise",
                kind="verification" if code else "",
                subject=note.title,
                incident="",
                level=0,
                code=code[1] if code else "",
                key="",
                at=time.monotonic(),
                body=note.message.encode(),
            )
        )
        return web.json_response({"id": len(self.notes), "appid": 1, "message": note.message, "title": note.title})
