"""A stand-in for Twilio that behaves like its documents: the Messages and Calls resources, and signed callbacks.

It signs by itself, from the description at twilio.com/docs/usage/security, so that it shares no code with what it tests.
"""

import base64
import hashlib
import hmac
import itertools
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from aiohttp import web

from tocsin_testkit import twiml
from tocsin_testkit.provider import Provider
from tocsin_testkit.received import Received
from tocsin_testkit.twiml import Script

ACCOUNT = "AC" + "0123456789abcdef" * 2
TOKEN = "a-token-of-the-stand-in"
SENDER = "+15005550006"
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_CODE = re.compile(r"\b([0-9]{6}) is your Tocsin verification code")
_SPOKEN_CODE = re.compile(r"verification code is: ((?:[0-9]\. ){5}[0-9])")


@dataclass(slots=True)
class Message:
    """One that was taken."""

    sid: str
    to: str
    body: str
    callback: str
    fields: dict[str, str] = field(repr=False)


@dataclass(slots=True)
class Call:
    """One that was taken. `script` is what the person who picks up hears first, and then what the last key led to."""

    sid: str
    to: str
    script: Script
    fields: list[tuple[str, str]] = field(repr=False)
    status: str = "ringing"
    """As the API has it: `ringing`, `in-progress`, `completed` and so on."""

    def value(self, name: str) -> str:
        """The first one of a field of the request; empty without it."""
        return next((value for key, value in self.fields if key == name), "")


class TwilioServer(Provider):
    """Knows one account. `refuse`, `hang` and `reset` go by number; `error` makes the answers for `refuse`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._numbers = itertools.count(1)
        self.messages: list[Message] = []
        self.calls: list[Call] = []

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The resources of the API that make a text message and a call."""
        account = "/2010-04-01/Accounts/{account}"
        return (
            web.post(f"{account}/Messages.json", self._create),
            web.post(f"{account}/Calls.json", self._call),
            web.post(f"{account}/Calls/{{sid}}.json", self._update_call),
        )

    def settings(self) -> dict[str, Any]:
        """The variables that make a service use it."""
        return {
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "TWILIO_FROM": SENDER,
            "TWILIO_BASE_URL": self.url,
        }

    def to(self, number: str) -> list[Message]:
        """What was taken for this number, oldest first."""
        return [message for message in self.messages if message.to == number]

    def calls_to(self, number: str) -> list[Call]:
        """The calls to this number, oldest first."""
        return [call for call in self.calls if call.to == number]

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
        status_code, _ = await self.posts(message.callback, fields, signature=sign(token, message.callback, fields))
        return status_code

    async def receives(self, number: str, text: str, url: str, *, sid: str = "", token: str = TOKEN) -> tuple[int, str]:
        """A person sends a message to the sender's number; the HTTP status of the webhook, and what it answers the person."""
        fields = {
            "AccountSid": ACCOUNT,
            "Body": text,
            "From": number,
            "MessageSid": sid or f"SM{next(self._numbers):032x}",
            "NumMedia": "0",
            "To": SENDER,
        }
        status, answer = await self.posts(url, fields, signature=sign(token, url, fields))
        said = ElementTree.fromstring(answer).findtext("Message") if status == 200 else None
        return status, said or ""

    async def rings(self, call: Call, status: str, *, token: str = TOKEN, **more: str) -> int:
        """Call the status callback of a call; `more` are further fields, such as SipResponseCode."""
        call.status = status
        url = call.value("StatusCallback")
        fields = {**_about(call), "CallStatus": status, "Direction": "outbound-api", **more}
        answer, _ = await self.posts(url, fields, signature=sign(token, url, fields))
        return answer

    async def hears(self, call: Call, who: str) -> int:
        """Tell who picked up, as detection of answering machines found out."""
        url = call.value("AsyncAmdStatusCallback")
        fields = {"CallSid": call.sid, "AccountSid": ACCOUNT, "AnsweredBy": who, "MachineDetectionDuration": "2400"}
        answer, _ = await self.posts(url, fields, signature=sign(TOKEN, url, fields))
        return answer

    async def presses(self, call: Call, key: str) -> Script:
        """Press a key, and hear what is said next. Raises ValueError when that is no TwiML: a caller hears an error then."""
        url = call.script.action
        fields = {**_about(call), "CallStatus": "in-progress", "Digits": key, "msg": "Gather End"}
        status, text = await self.posts(url, fields, signature=sign(TOKEN, url, fields))
        if status != 200:
            raise ValueError(f"11200 HTTP {status}: {text}")
        call.script = twiml.read(text, url)
        return call.script

    async def posts(self, url: str, fields: dict[str, str], *, signature: str) -> tuple[int, str]:
        """POST a form to a public URL of the product; the HTTP status and the text of the answer."""
        headers = {"X-Twilio-Signature": signature, "I-Twilio-Idempotency-Token": f"{next(self._numbers)}"}
        return await self.calls_back("POST", url, data=fields, headers=headers)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        given = await self._read(request)
        if isinstance(given, web.Response):
            return given
        fields = dict(given)
        to, body = fields.get("To", ""), fields.get("Body", "")
        if not body or len(body) > 1600:
            return error(400, 21617 if body else 21602, "The message body is empty or exceeds the limit")
        message = Message(f"SM{next(self._numbers):032x}", to, body, fields.get("StatusCallback", ""), fields)
        self.messages.append(message)
        code_in = _CODE.search(body)
        await self.inbox.put(
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
        await self.fail(request, to)
        answer = {"sid": message.sid, "status": "queued", "to": to, "body": body, "error_code": None}
        return web.json_response(answer, status=201)

    async def _call(self, request: web.Request) -> web.StreamResponse:
        given = await self._read(request)
        if isinstance(given, web.Response):
            return given
        fields = dict(given)
        to, text = fields.get("To", ""), fields.get("Twiml", "")
        if not fields.get("From"):
            return error(400, 21213, "A 'From' phone number is required")
        try:
            if len(text) > twiml.LONGEST:
                raise ValueError("20001 Twiml exceeds 4000 characters")
            script = twiml.read(text)
        except ValueError as unreadable:
            return error(400, 20001, str(unreadable))
        call = Call(f"CA{next(self._numbers):032x}", to, script, given)
        self.calls.append(call)
        spoken = " ".join(script.says)
        code = _SPOKEN_CODE.search(spoken)
        await self.inbox.put(
            Received(
                address=to,
                channel="voice",
                kind="verification" if code else "",
                subject=spoken,
                incident="",
                level=0,
                code=code[1].replace(". ", "") if code else "",
                key=call.sid,
                at=time.monotonic(),
                body=text.encode(),
            )
        )
        await self.fail(request, to)
        return web.json_response({"sid": call.sid, "status": "queued", "to": to}, status=201)

    async def _update_call(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if not self._is_ours(request):
            return error(401, 20003, "Authenticate")
        call = next((each for each in self.calls if each.sid == request.match_info["sid"]), None)
        if call is None:
            return error(404, 20404, "The requested resource was not found")
        refused = self.refusal(call.sid)
        if refused is not None:
            return refused
        wanted = dict(parse_qsl((await request.read()).decode())).get("Status")
        if call.status not in ("queued", "ringing", "in-progress"):
            return error(400, 21220, "Invalid call state: call is not in-progress")
        # `canceled` does not end a call that a person has picked up.
        if wanted == "completed" or (wanted == "canceled" and call.status != "in-progress"):
            call.status = wanted
        return web.json_response({"sid": call.sid, "status": call.status, "to": call.to})

    def _is_ours(self, request: web.Request) -> bool:
        login = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
        return request.headers.get("Authorization") == f"Basic {login}" and request.match_info["account"] == ACCOUNT

    async def _read(self, request: web.Request) -> list[tuple[str, str]] | web.Response:
        """The fields of a request that may be served, or the refusal."""
        self.requests += 1
        if not self._is_ours(request):
            return error(401, 20003, "Authenticate")
        given = parse_qsl((await request.read()).decode(), keep_blank_values=True)
        to = dict(given).get("To", "")
        refused = self.refusal(to)
        if refused is not None:
            return refused
        if not _NUMBER.fullmatch(to):
            return error(400, 21211, f"The 'To' number {to} is not a valid phone number.")
        return given


def _about(call: Call) -> dict[str, str]:
    return {
        "AccountSid": ACCOUNT,
        "ApiVersion": "2010-04-01",
        "CallSid": call.sid,
        "From": call.value("From"),
        "To": call.to,
    }


def sign(token: str, url: str, fields: dict[str, str]) -> str:
    """The value of X-Twilio-Signature."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def error(
    status: int, code: int, message: str = "refused by the stand-in", headers: dict[str, str] | None = None
) -> web.Response:
    """A refusal as it describes them."""
    answer = {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return web.json_response(answer, status=status, headers=headers)
