"""A stand-in for Slack's Web API, interactivity and Events API (docs.slack.dev).

It signs by itself, from docs.slack.dev/authentication/verifying-requests-from-slack, so that it shares no code with what it tests.
"""

import hashlib
import hmac
import itertools
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from tocsin_testkit.provider import Provider
from tocsin_testkit.received import Received

TOKEN = "xoxb-a-token-of-the-stand-in"
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
_RETRIES = 3
_CODE = re.compile(r"\b([0-9]{6}) is your Tocsin verification code")


@dataclass(slots=True)
class Message:
    """One in a channel, as it looks now. `edits`: how often it was changed."""

    ts: str
    channel: str
    fields: dict[str, Any]
    edits: int = 0

    @property
    def text(self) -> str:
        """What it says, block after block."""
        parts = []
        for block in self.fields["blocks"]:
            if block["type"] == "section":
                parts.append(block["text"]["text"])
            elif block["type"] == "context":
                parts += [element["text"] for element in block["elements"]]
        return "\n".join(parts)

    @property
    def buttons(self) -> dict[str, dict[str, Any]]:
        """By their labels."""
        rows = (block["elements"] for block in self.fields["blocks"] if block["type"] == "actions")
        return {element["text"]["text"]: element for element in itertools.chain.from_iterable(rows)}


@dataclass(slots=True)
class UserGroup:
    """One of the workspace. `history`: its members after each change."""

    members: tuple[str, ...] = ()
    disabled: bool = False
    history: list[tuple[str, ...]] = field(default_factory=list)


class SlackServer(Provider):
    """Knows one app, and the channels and members in `known`. `refuse`, `hang` and `reset` go by those, and by user groups.

    `may_change_groups`: what the workspace's settings allow everybody.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.known: set[str] = set()
        self.messages: list[Message] = []
        self.whispers: list[tuple[str, str, str]] = []
        """Channel, member and text of what only one person was told."""
        self.threads: list[str] = []
        """The thread in which each of `whispers` was said; empty for one that was said in the channel itself."""
        self.groups: dict[str, UserGroup] = {}
        self.may_change_groups = True
        self._ids = itertools.count(1)

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The methods that are used."""
        return (web.post("/api/{method}", self._call),)

    def settings(self) -> dict[str, Any]:
        """The variables that make a service use it."""
        return {"SLACK_BOT_TOKEN": TOKEN, "SLACK_SIGNING_SECRET": SECRET, "SLACK_BASE_URL": self.url}

    async def presses(self, message: Message, label: str, member: str, **how: Any) -> int:
        """A member presses a button; returns the HTTP status of the answer. `how`: see `interacts`."""
        button = message.buttons[label]
        value = how.pop("value", button.get("value", ""))
        action = {"type": "button", "action_id": button["action_id"], "block_id": "x", "value": value}
        action["action_ts"] = how.pop("at", "1548426417.840180")
        payload = {
            "type": "block_actions",
            "user": {"id": member, "username": "ana"},
            "container": {"type": "message", "message_ts": message.ts, "channel_id": message.channel},
            "actions": [action],
        }
        return await self.interacts(payload, **how)

    async def interacts(
        self, payload: object, *, age: float = 0.0, secret: str = SECRET, body: bytes | None = None
    ) -> int:
        """Send an interaction that was signed `age` seconds ago. `body`: other bytes than those that were signed."""
        content = urlencode({"payload": json.dumps(payload)}).encode()
        status, _ = await self._signed("/v1/slack", content, age, secret, body)
        return status

    async def commands(
        self, text: str, member: str, *, age: float = 0.0, secret: str = SECRET, trigger: str = "13345224609.738474920"
    ) -> tuple[int, str]:
        """A member types `/tocsin` with this text; returns the HTTP status, and the text shown to the member."""
        fields = {"command": "/tocsin", "text": text, "user_id": member, "trigger_id": trigger, "team_id": "T0001"}
        content = urlencode(fields).encode()
        status, answer = await self._signed("/v1/slack/command", content, age, secret, None)
        if status != 200:
            return status, ""
        said = json.loads(answer)
        assert said["response_type"] == "ephemeral"
        return status, str(said["blocks"][0]["text"]["text"])

    async def replies(self, message: Message, text: str, member: str, **how: Any) -> list[int]:
        """A member writes in the thread of a message; returns the HTTP statuses of the answers.

        `how`: see `tells`; the rest are fields of the event.
        """
        named = {name: how.pop(name) for name in ("id", "age", "secret", "body", "retries", "at") if name in how}
        stamp = f"{1_700_500_000 + next(self._ids)}.000200"
        event = {
            "type": "message",
            "user": member,
            "text": text,
            "ts": stamp,
            "thread_ts": message.ts,
            "parent_user_id": "U0BOT00001",
            "channel": message.channel,
            "event_ts": stamp,
            "channel_type": "im" if message.channel[:1] == "D" else "channel",
            **how,
        }
        return await self.tells(event, **named)

    async def tells(
        self, event: object, *, id: str = "", at: float | None = None, retries: int = _RETRIES, **how: Any
    ) -> list[int]:
        """Send an event until it is taken, without the pauses of one and five minutes: the HTTP statuses of the answers.

        `id`: its `event_id`; each has one of its own. `at`: when it happened (unix seconds). `how`: see `posts_event`.
        """
        wrapped = {
            "token": "z26uFbvR1xHJEdHE1OQiO6t8",
            "team_id": "T0001",
            "api_app_id": "A0001",
            "event": event,
            "type": "event_callback",
            "event_id": id or f"Ev{next(self._ids):08}",
            "event_time": int(time.time() if at is None else at),
        }
        statuses: list[int] = []
        for number in range(retries + 1):
            again = {"X-Slack-Retry-Num": str(number), "X-Slack-Retry-Reason": "http_error"} if number else {}
            status, _ = await self.posts_event(wrapped, again, **how)
            statuses.append(status)
            if 200 <= status < 300:
                break
        return statuses

    async def posts_event(
        self,
        payload: object,
        headers: dict[str, str] | None = None,
        *,
        age: float = 0.0,
        secret: str = SECRET,
        body: bytes | None = None,
    ) -> tuple[int, str]:
        """One request to the app's event URL, as `interacts`: the HTTP status and the text of the answer."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        return await self._signed("/v1/slack/events", json.dumps(payload).encode(), age, secret, body, sent)

    async def _signed(
        self,
        path: str,
        content: bytes,
        age: float,
        secret: str,
        body: bytes | None,
        more: dict[str, str] | None = None,
    ) -> tuple[int, str]:
        stamp = str(int(time.time() - age))
        digest = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + content, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Slack-Request-Timestamp": stamp,
            "X-Slack-Signature": f"v0={digest}",
            **(more or {}),
        }
        url = f"https://tocsin.example.com/notify{path}"
        return await self.calls_back("POST", url, data=content if body is None else body, headers=headers)

    async def _call(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return error("invalid_auth")
        fields = await request.json()
        channel, method = fields.get("channel", ""), request.match_info["method"]
        if method.startswith("usergroups."):
            return await self._of_groups(request, method, fields)
        refused = self.refusal(channel)
        if refused is not None:
            return refused
        home = channel if channel[:1] != "U" else f"D{channel[1:]}"
        if channel not in self.known and not any(message.channel == home for message in self.messages):
            return error("channel_not_found")
        if method == "chat.postEphemeral":
            self.whispers.append((channel, fields["user"], fields["text"]))
            self.threads.append(fields.get("thread_ts", ""))
            return web.json_response({"ok": True, "message_ts": "1.2"})
        if not fields.get("text"):
            return error("no_text")
        if method == "chat.update":
            message = next((each for each in self.messages if each.ts == fields["ts"]), None)
            if message is None:
                return error("message_not_found")
            message.fields, message.edits = fields, message.edits + 1
            return web.json_response({"ok": True, "channel": message.channel, "ts": message.ts})
        message = Message(f"{1_700_000_000 + next(self._ids)}.000100", home, fields)
        self.messages.append(message)
        code = _CODE.search(fields["text"])
        await self.inbox.put(
            Received(
                address=channel,
                channel="slack",
                kind="verification" if code else "",
                subject=fields["text"],
                incident="",
                level=0,
                code=code[1] if code else "",
                key=message.ts,
                at=time.monotonic(),
                body=message.text.encode(),
            )
        )
        await self.fail(request, channel)
        return web.json_response({"ok": True, "channel": home, "ts": message.ts})

    async def _of_groups(self, request: web.Request, method: str, fields: dict[str, Any]) -> web.StreamResponse:
        """usergroups.users.update, usergroups.disable and usergroups.enable."""
        id = fields.get("usergroup", "")
        refused = self.refusal(id)
        if refused is not None:
            return refused
        group = self.groups.get(id)
        if group is None:
            return error("no_such_subteam")
        if not self.may_change_groups:
            return error("permission_denied")
        if method == "usergroups.users.update":
            members = tuple(filter(None, fields.get("users", "").split(",")))
            if not members:
                return error("no_users_provided")
            if any(each not in self.known or each[:1] not in "UW" for each in members):
                return error("invalid_users")
            group.members = members
            group.history.append(members)
        elif group.disabled is (method == "usergroups.disable"):
            return error("already_disabled" if group.disabled else "already_enabled")
        else:
            group.disabled = not group.disabled
        await self.fail(request, id)
        return web.json_response({"ok": True, "usergroup": {"id": id, "users": list(group.members)}})


def error(word: str, status: int = 200, **headers: str) -> web.Response:
    """A refusal: most come with HTTP 200."""
    return web.json_response({"ok": False, "error": word}, status=status, headers=headers)
