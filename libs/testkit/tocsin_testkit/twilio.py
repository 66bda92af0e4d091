"""A stand-in for Twilio that behaves like its documents: the Messages resource, and signed status callbacks.

It signs by itself, from the description at twilio.com/docs/usage/security, so that it shares no code with what it tests.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web

from tocsin_testkit.inbox import Inbox
from tocsin_testkit.received import Received

ACCOUNT = "AC" + "0123456789abcdef" * 2
TOKEN = "a-token-of-the-stand-in"
SENDER = "+15005550006"
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_CODE = re.compile(r"\b([0-9]{6}) is your Tocsin verification code")


@dataclass(slots=True)
class Message:
    """One that was taken."""

    sid: str
    to: str
    body: str
    callback: str
    fields: dict[str, str] = field(repr=False)


class TwilioServer:
    """Listens on a free loopback port.

    `refuse` maps numbers to the (HTTP status, error code) that requests for them get, one after the other, before they are
    taken. `hang` holds numbers whose requests are taken and answered after `answers`, `reset` those whose connection is cut
    instead of an answer.
    `reach` maps the beginnings of public URLs to where they really lead.
    """

    def __init__(self, inbox: Inbox | None = None) -> None:
        self._inbox = inbox or Inbox()
        self._runner: web.AppRunner | None = None
        self._numbers = itertools.count(1)
        self._release = asyncio.Event()
        self.refuse: dict[str, list[tuple[int, int]]] = {}
        self.headers: dict[str, str] = {}
        self.hang: set[str] = set()
        self.reset: set[str] = set()
        self.reach: dict[str, str] = {}
        self.messages: list[Message] = []
        self.requests = 0
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_post("/2010-04-01/Accounts/{account}/Messages.json", self._create)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self._session = aiohttp.ClientSession()

    async def stop(self) -> None:
        """Stop listening."""
        self._release.set()
        await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return f"http://127.0.0.1:{self.port}"

    def settings(self) -> dict[str, Any]:
        """The variables that make a service use it."""
        return {
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "TWILIO_FROM": SENDER,
            "TWILIO_BASE_URL": self.url,
        }

    def answers(self) -> None:
        """Answer what hangs."""
        self._release.set()

    def to(self, number: str) -> list[Message]:
        """What was taken for this number, oldest first."""
        return [message for message in self.messages if message.to == number]

    async def tells(self, message: Message, status: str, code: int = 0, *, token: str = TOKEN) -> int:
        """Call the status callback of a message; the HTTP status of the answer."""
        fields = {
            "AccountSid": ACCOUNT,
            "ApiVersion": "2010-04-01",
            "From": SENDER,
            "MessageSid": message.sid,
            "MessageStatus": status,
            "SmsSid": message.sid,
            "SmsStatus": status,
            "To": message.to,
        }
        if code:
            fields["ErrorCode"] = str(code)
        return await self.calls(message.callback, fields, signature=sign(token, message.callback, fields))

    async def calls(self, url: str, fields: dict[str, str], *, signature: str) -> int:
        """POST a form to a public URL of the product; the HTTP status of the answer."""
        real = next(
            (real + url.removeprefix(public) for public, real in self.reach.items() if url.startswith(public)), url
        )
        headers = {"X-Twilio-Signature": signature, "I-Twilio-Idempotency-Token": f"{next(self._numbers)}"}
        async with self._session.post(real, data=fields, headers=headers) as response:
            return response.status

    async def _create(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        login = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {login}" or request.match_info["account"] != ACCOUNT:
            return _refusal(401, 20003, "Authenticate")
        fields = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        to, body = fields.get("To", ""), fields.get("Body", "")
        if self.refuse.get(to):
            status, code = self.refuse[to].pop(0)
            return _refusal(status, code, "refused by the stand-in", self.headers)
        if not _NUMBER.fullmatch(to):
            return _refusal(400, 21211, f"The 'To' number {to} is not a valid phone number.")
        if not body or len(body) > 1600:
            return _refusal(400, 21617 if body else 21602, "The message body is empty or exceeds the limit")
        message = Message(f"SM{next(self._numbers):032x}", to, body, fields.get("StatusCallback", ""), fields)
        self.messages.append(message)
        code_in = _CODE.search(body)
        await self._inbox.put(
            Received(
                address=to,
                channel="sms",
                kind="verification" if code_in else "",
                subject=body,
                incident="",
                level=0,
                code=code_in[1] if code_in else "",
                key=message.sid,
                at=time.monotonic(),
                body=body.encode(),
            )
        )
        if to in self.hang:
            await self._release.wait()
        if to in self.reset and request.transport is not None:
            request.transport.abort()
        answer = {"sid": message.sid, "status": "queued", "to": to, "body": body, "error_code": None}
        return web.json_response(answer, status=201)


def sign(token: str, url: str, fields: dict[str, str]) -> str:
    """The value of X-Twilio-Signature."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def _refusal(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    answer = {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return web.json_response(answer, status=status, headers=headers)
