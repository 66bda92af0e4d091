"""A stand-in for an ntfy server, and for the app that shows its notifications (docs.ntfy.sh/publish)."""

import itertools
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tocsin_testkit.provider import Provider
from tocsin_testkit.received import Received

_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CODE = re.compile(r"\b([0-9]{6}) is your Tocsin verification code")
_MOST_ACTIONS = 3


@dataclass(slots=True)
class Push:
    """One that was published."""

    id: str
    topic: str
    fields: dict[str, Any]

    @property
    def labels(self) -> list[str]:
        """Its buttons."""
        return [action["label"] for action in self.fields.get("actions", [])]


class NtfyServer(Provider):
    """`protected` maps topics to the access token that they need. `refuse`, `hang` and `reset` go by topic."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.protected: dict[str, str] = {}
        self.pushes: list[Push] = []
        self._ids = itertools.count(1)

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Publishing as JSON goes to the root."""
        return (web.post("/", self._publish),)

    def to(self, topic: str) -> list[Push]:
        """What was published there, oldest first."""
        return [push for push in self.pushes if push.topic == topic]

    async def presses(self, push: Push, label: str) -> tuple[int, str]:
        """Press a button, as the app does it: an HTTP request from the phone."""
        action = next(each for each in push.fields["actions"] if each["label"] == label)
        assert action["action"] == "http", f"{label} opens {action['url']}"
        return await self.calls_back(action.get("method", "POST"), action["url"], headers=action.get("headers"))

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        try:
            fields = await request.json()
        except ValueError:
            return _error(400, 40017, "invalid request: request body must be message JSON")
        topic = fields.get("topic", "")
        refused = self.refusal(topic)
        if refused is not None:
            return refused
        if not _TOPIC.fullmatch(topic):
            return _error(400, 40009, "invalid request: topic invalid")
        needed = self.protected.get(topic)
        if needed and request.headers.get("Authorization") != f"Bearer {needed}":
            return _error(403, 40301, "forbidden")
        if fields.get("priority", 3) not in range(1, 6):
            return _error(400, 40007, "invalid priority parameter")
        actions = fields.get("actions", [])
        if len(actions) > _MOST_ACTIONS or not all(
            each.get("label") and each.get("action") in ("view", "http") and each.get("url", "").startswith("http")
            for each in actions
        ):
            return _error(400, 40018, "invalid request: actions invalid")
        push = Push(f"n{next(self._ids):011d}", topic, fields)
        self.pushes.append(push)
        code = _CODE.search(fields.get("title", ""))
        await self.inbox.put(
            Received(
                address=topic,
                channel="ntfy",
                kind="verification" if code else "",
                subject=fields.get("title", ""),
                incident="",
                level=0,
                code=code[1] if code else "",
                key=push.id,
                at=time.monotonic(),
                body=fields.get("message", "").encode(),
            )
        )
        await self.fail(request, topic)
        return web.json_response({"id": push.id, "time": 1, "event": "message", **fields})


def _error(status: int, code: int, words: str) -> web.Response:
    answer = {"code": code, "http": status, "error": words, "link": "https://ntfy.sh/docs/publish/"}
    return web.json_response(answer, status=status)
