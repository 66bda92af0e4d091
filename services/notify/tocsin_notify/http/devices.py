"""Where a person adds a browser as a contact method: GET shows, POST adds and proves."""

import re
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.http import http_status

from tocsin_notify.app.contacts.devices import Devices, Owner
from tocsin_notify.channels.links import Links
from tocsin_notify.channels.web_push_sealing import Vapid
from tocsin_notify.http.answer_page import HEADERS, message_page
from tocsin_notify.http.device_page import DEVICE_HEADERS, PATH, WORKER, WORKER_SCRIPT, device_page
from tocsin_notify.http.forms import read_json

_LONGEST_NAME: Final = 100
_LONGEST_SUBSCRIPTION: Final = 4096
_CODE: Final = re.compile(r"[0-9]{6}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")


class DevicePages:
    """The routes that the person's browser calls."""

    def __init__(self, links: Links, devices: Devices, vapid: Vapid) -> None:
        self._links = links
        self._devices = devices
        self._vapid = vapid

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server."""
        page = PATH + "{token}"
        return web.get(page, self.show), web.post(page, self.act), web.get(WORKER, self.worker)

    async def worker(self, request: web.Request) -> web.Response:
        """The script that shows pages while no page of ours is open. Browsers ask for it again, so that it is never old."""
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return web.Response(text=WORKER_SCRIPT, content_type="text/javascript", charset="utf-8", headers=headers)

    async def show(self, request: web.Request) -> web.Response:
        """404 for a link by which no browser is added."""
        owner = await self._owner(request)
        if owner is None:
            text = "This link adds no browser: it is too old, or it stood where others read it too."
            return _html(message_page("Unknown link", text), HEADERS, 404)
        return _html(device_page(owner, self._vapid.public_key), DEVICE_HEADERS)

    async def act(self, request: web.Request) -> web.Response:
        """A subscription is answered with its contact method; a contact method with its code, with nothing more."""
        owner = await self._owner(request)
        if owner is None:
            return _json({"error": "this link adds no browser"}, 404)
        try:
            return _json(await self._act(owner, await read_json(request)))
        except TocsinError as error:
            return _json({"error": error.message}, http_status(error))

    async def _act(self, owner: Owner, given: dict[str, Any]) -> dict[str, str]:
        if "subscription" in given:
            name = _CONTROL.sub(" ", _text(given, "name"))[:_LONGEST_NAME].strip()
            subscription = _text(given, "subscription")
            if len(subscription) > _LONGEST_SUBSCRIPTION:
                raise invalid("subscription", f"must have at most {_LONGEST_SUBSCRIPTION} characters")
            method = await self._devices.add(owner, subscription, name)
            return {"method": str(method)}
        code = _text(given, "code")
        if not _CODE.fullmatch(code):
            raise invalid("code", "must be six digits")
        try:
            method = UUID(_text(given, "method"))
        except ValueError as error:
            raise invalid("method", "must be the id that the subscription was answered with") from error
        await self._devices.prove(owner, method, code)
        return {}

    async def _owner(self, request: web.Request) -> Owner | None:
        link = self._links.read(request.match_info["token"])
        return None if link is None else await self._devices.owner(link)


def _text(given: dict[str, Any], field: str) -> str:
    value = given.get(field, "")
    if not isinstance(value, str):
        raise invalid(field, "must be text")
    return value


def _html(text: str, headers: dict[str, str], status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=headers)


def _json(content: dict[str, str], status: int = 200) -> web.Response:
    return web.json_response(content, status=status, headers={"Cache-Control": "no-store"})
