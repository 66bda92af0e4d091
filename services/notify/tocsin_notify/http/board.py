"""The board: the queues and outboxes of all services as a page for operators.

It is on the same listener as /metrics, and has no rights of its own. Each call to a service carries the token of the
logged-in operator, so the services decide what is allowed, and their audit logs name the operator. A GET never changes
anything.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.auth import ALL_ORGS, Principal
from tocsin_kit.errors import TocsinError
from tocsin_kit.http import http_status
from tocsin_kit.loops import wait_or_stop

from tocsin_notify.clients import outboxes as outbox_calls
from tocsin_notify.clients import queues as queue_calls
from tocsin_notify.clients.outboxes import Outboxes
from tocsin_notify.clients.queues import Queues
from tocsin_notify.http.board_drain import choice, counted, drain_page
from tocsin_notify.http.board_oidc import COOKIE, DONE, START, OidcLogin
from tocsin_notify.http.board_outbox import LISTS, message_page, outbox_card, outbox_page
from tocsin_notify.http.board_page import (
    HEADERS,
    PATH,
    STATES,
    document,
    logged_in_page,
    login_page,
    note,
    overview,
    task_list,
    task_page,
)
from tocsin_notify.http.board_sessions import Session, Sessions, is_ours
from tocsin_notify.http.forms import read_form

_MOST_LIVE: Final = 50
_LONGEST_TOKEN: Final = 8192
_BEAT_SECONDS: Final = 10.0
_LONGEST_EVENT_ID: Final = 4096
_READ: Final = "queues:read"
_WRITE: Final = "queues:write"
_REDRIVE: Final = "outbox:write"

Shown = Callable[[web.Request, Session], Awaitable[web.Response]]
Judge = Callable[[str, Callable[[], str]], Awaitable[Principal]]
"""The principal of a token, and a function for the caller's address. Raises TocsinError."""


class Board:
    """The routes. `stop`: ends live connections.

    A token is checked here before any service gets it, so failed attempts count against the caller's address, and not
    against this process.
    """

    def __init__(
        self, queues: Queues, outboxes: Outboxes, judge: Judge, stop: asyncio.Event, oidc: OidcLogin | None = None
    ) -> None:
        """`oidc`: logs in beside the token."""
        self._queues = queues
        self._outboxes = outboxes
        self._judge = judge
        self._stop = stop
        self._oidc = oidc
        self._sessions = Sessions()
        self._live = 0

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to operators' listener."""
        service = f"{PATH}/{{service:{'|'.join(self._queues.services)}}}"
        outbox = f"{PATH}/{{service:{'|'.join(self._outboxes.services)}}}/outbox"
        return (
            web.get(PATH, self._for_operators(self.overview)),
            web.get(f"{PATH}/login", self.show_login),
            web.post(f"{PATH}/login", self.log_in),
            web.get(START, self.begin_oidc, allow_head=False),
            web.get(DONE, self.finish_oidc, allow_head=False),
            web.post(f"{PATH}/logout", self.log_out),
            web.post(f"{PATH}/act", self.act),
            web.get(f"{PATH}/events", self.events, allow_head=False),
            web.get(f"{outbox}/{{list:{'|'.join(LISTS)}}}", self._for_operators(self.outbox)),
            web.get(f"{outbox}/{{number:[1-9][0-9]{{0,17}}}}", self._for_operators(self.message)),
            web.get(f"{service}/drain", self._for_operators(self.drain)),
            web.get(f"{service}/task/{{key}}", self._for_operators(self.task)),
            web.get(f"{service}/{{state:{'|'.join(STATES)}}}", self._for_operators(self.tasks)),
        )

    async def show_login(self, request: web.Request) -> web.Response:
        """The form."""
        return _html(self._form())

    async def log_in(self, request: web.Request) -> web.Response:
        """303 to the board, or the form with the reason. The token comes in the body, never in the URL."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return _html(self._form("The form came from another site."), 403)
        token = dict(await read_form(request)).get("token", "").strip()
        if not token or len(token) > _LONGEST_TOKEN or not token.isascii() or not token.isprintable():
            return _html(self._form("That is no token."), 400)
        try:
            principal = await self._judge(token, lambda: request.remote or "")
        except TocsinError as error:
            return _html(self._form(error.message), http_status(error))
        if principal.org_id != ALL_ORGS or _READ not in principal.scopes:
            return _html(self._form(f"The board needs an operator's token: org {ALL_ORGS}, scope {_READ}."), 403)
        response = _leads_to(PATH)
        self._sessions.begin(request, response, token, secure=self._secure)
        return response

    async def begin_oidc(self, request: web.Request) -> web.Response:
        """303 to the login provider."""
        if self._oidc is None:
            return _html(self._form("No login provider is set."), 404)
        response = _leads_to(PATH)
        try:
            response.headers["Location"] = await self._oidc.begin(response)
        except TocsinError as error:
            return _html(self._form(error.message), http_status(error))
        return response

    async def finish_oidc(self, request: web.Request) -> web.Response:
        """The login provider sent the browser back. A page with a link follows: after a redirect from another site, the
        browser would not send the cookie."""
        if self._oidc is None:
            return _html(self._form("No login provider is set."), 404)
        try:
            token = await self._oidc.finish(request)
        except TocsinError as error:
            response = _html(self._form(error.message), http_status(error))
        else:
            response = _html(logged_in_page())
            self._sessions.begin(request, response, token, secure=self._secure)
        response.del_cookie(COOKIE, path=f"{PATH}/login")
        return response

    def _form(self, problem: str = "") -> str:
        return login_page(problem, oidc=START if self._oidc is not None else "")

    @property
    def _secure(self) -> bool:
        return self._oidc is not None and self._oidc.secure

    async def log_out(self, request: web.Request) -> web.Response:
        """303 to the form."""
        session = self._sessions.find(request)
        response = web.Response(status=303, headers={**HEADERS, "Location": f"{PATH}/login"})
        if session is not None and is_ours(session, dict(await read_form(request)).get("csrf", "")):
            self._sessions.end(request, response)
        return response

    async def overview(self, request: web.Request, session: Session) -> web.Response:
        """All queues and outboxes. A service that does not answer is shown as such, and delays nothing else."""
        parts = await asyncio.gather(
            *(self._queue_card(service, session) for service in self._queues.services),
            *(self._outbox_card(service, session) for service in self._outboxes.services),
        )
        return _page("", parts, request, session)

    async def _queue_card(self, service: str, session: Session) -> str:
        try:
            queue, activity = await asyncio.gather(
                self._queues.figures(service, session.token), self._queues.activity(service, session.token)
            )
        except TocsinError as error:
            return note(f"Queue of {service}: {error.message}", wrong=True)
        return overview(queue, activity, session.csrf, writes=session.writes)

    async def _outbox_card(self, service: str, session: Session) -> str:
        try:
            figures = await self._outboxes.figures(service, session.token)
        except TocsinError as error:
            return note(f"Outbox of {service}, of which nothing is known now: {error.message}", wrong=True)
        return outbox_card(service, figures)

    async def tasks(self, request: web.Request, session: Session) -> web.Response:
        """Those of one queue in one state."""
        service, state = request.match_info["service"], request.match_info["state"]
        answer = await self._queues.tasks(service, session.token, STATES[state], request.query.get("page", "")[:1024])
        parts = task_list(service, state, answer, session.csrf, writes=session.writes)
        return _page(f"{service}: {state}", parts, request, session)

    async def task(self, request: web.Request, session: Session) -> web.Response:
        """One."""
        service = request.match_info["service"]
        answer = await self._queues.task(service, session.token, request.match_info["key"])
        parts = task_page(service, answer, session.csrf, writes=session.writes)
        return _page(f"{service}: task", parts, request, session)

    async def outbox(self, request: web.Request, session: Session) -> web.Response:
        """Messages that wait, are blocked or dead."""
        service, shown = request.match_info["service"], request.match_info["list"]
        page = request.query.get("page", "")[:1024]
        answer = await self._outboxes.listed(service, session.token, shown, page)
        parts = outbox_page(service, shown, answer, session.csrf, writes=session.redrives)
        return _page(f"{service}: outbox", parts, request, session)

    async def message(self, request: web.Request, session: Session) -> web.Response:
        """One of an outbox."""
        service = request.match_info["service"]
        answer = await self._outboxes.message(service, session.token, request.match_info["number"])
        parts = message_page(service, answer, session.csrf, writes=session.redrives)
        return _page(f"{service}: message", parts, request, session)

    async def drain(self, request: web.Request, session: Session) -> web.Response:
        """What may be removed; with `look` in the URL, what would be removed now."""
        service, chosen, would = request.match_info["service"], choice(request.query), None
        if "look" in request.query:
            would = await self._queues.drain(service, session.token, chosen, dry_run=True)
        parts = drain_page(service, chosen, would, session.csrf)
        return _html(document(f"{service}: drain", parts, csrf=session.csrf, live=False))

    async def act(self, request: web.Request) -> web.Response:
        """303 to the task or queue, which shows the result once."""
        session = await self._session(request)
        if session is None:
            return _leads_to(f"{PATH}/login")
        fields = dict(await read_form(request))
        if not is_ours(session, fields.get("csrf", "")):
            return _html(document("Refused", [note("The form is too old. Go back, and reload.", wrong=True)]), 403)
        service, act, name = (fields.get(field, "") for field in ("service", "act", "name"))
        queue = service in self._queues.services and act in (*queue_calls.ACTS, "drain")
        if not queue and not (service in self._outboxes.services and act in outbox_calls.ACTS):
            return _html(document("Refused", [note("There is no such button.", wrong=True)]), 400)
        try:
            came = await (self._do if queue else self._do_with_message)(service, session.token, act, name, fields)
        except TocsinError as error:
            session.said, session.wrong = f"Nothing was done: {error.message}", True
        else:
            session.said, session.wrong = f"Done: {act} {name}. {came}".strip(), False
        return _leads_to(PATH)

    async def _do(self, service: str, token: str, act: str, name: str, fields: dict[str, str]) -> str:
        """The result, in words."""
        id = str(uuid.uuid4())
        if act == "drain":
            return counted(await self._queues.drain(service, token, choice(fields), id, dry_run=False))
        answer = await self._queues.act(service, token, act, name, id, force=fields.get("force") == "1")
        return "; ".join(loss.text for loss in getattr(answer, "losses", ()))

    async def _do_with_message(self, service: str, token: str, act: str, name: str, fields: dict[str, str]) -> str:
        id, reason = str(uuid.uuid4()), fields.get("reason", "").strip()[:500]
        found = await self._outboxes.act(service, token, act, name, id, reason)
        return "" if found else "It was not dead any more."

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: one whenever something happened in a queue, at most two in a second, and one every ten
        seconds for ages and outboxes. A browser that reconnects sends the last one (Last-Event-ID), and is told if it
        has missed any."""
        session = await self._session(request)
        if session is None or self._live >= _MOST_LIVE:
            return web.Response(status=401 if session is None else 503, headers=HEADERS)
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        news = asyncio.Event()
        cursors = _cursors(request.headers.get("Last-Event-ID", ""), self._queues.services)
        watching = [asyncio.create_task(self._watch(name, session, news, cursors)) for name in self._queues.services]
        self._live += 1
        try:
            await response.write(b"retry: 2000\n\n")
            while not self._stop.is_set() and not all(task.done() for task in watching):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_BEAT_SECONDS):
                        await news.wait()
                news.clear()
                await response.write(f"id: {_event_id(cursors)}\ndata: news\n\n".encode())
                await wait_or_stop(self._stop, 0.5)
        except ConnectionError:
            pass  # the browser is gone
        finally:
            self._live -= 1
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        return response

    async def _watch(self, service: str, session: Session, news: asyncio.Event, cursors: dict[str, str]) -> None:
        try:
            async for answer in self._queues.watch(service, session.token, cursors.get(service, "")):
                cursors[service] = answer.cursor
                if answer.changes or answer.missed:
                    news.set()
        except TocsinError as error:
            # The browser connects again. With an invalid cursor it would fail again each time.
            if error.reason == ErrorReason.ERROR_REASON_CURSOR_INVALID:
                cursors.pop(service, None)
                news.set()

    async def _session(self, request: web.Request) -> Session | None:
        """The session of a request, unless its token has expired or was revoked since."""
        session = self._sessions.find(request)
        if session is None:
            return None
        try:
            principal = await self._judge(session.token, lambda: request.remote or "")
        except TocsinError:
            self._sessions.forget(request)
            return None
        session.writes, session.redrives = _WRITE in principal.scopes, _REDRIVE in principal.scopes
        return session

    def _for_operators(self, shown: Shown) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def show(request: web.Request) -> web.Response:
            session = await self._session(request)
            if session is None:
                return _leads_to(f"{PATH}/login")
            try:
                return await shown(request, session)
            except TocsinError as error:
                page = document("", [note(error.message, wrong=True)], csrf=session.csrf)
                return _html(page, http_status(error))

        return show


def _page(title: str, parts: Sequence[str], request: web.Request, session: Session) -> web.Response:
    said = note(session.said, wrong=session.wrong)
    if "X-Live" not in request.headers:  # an update in the background must not use it up
        session.said = ""
    return _html(document(title, [said, *parts], csrf=session.csrf))


def _event_id(cursors: Mapping[str, str]) -> str:
    return ",".join(f"{service}:{cursor}" for service, cursor in cursors.items() if cursor)


def _cursors(event_id: str, services: Iterable[str]) -> dict[str, str]:
    """What `_event_id` wrote; the services judge it."""
    given = dict(part.partition(":")[::2] for part in event_id[:_LONGEST_EVENT_ID].split(","))
    return {service: given[service][:1024] for service in services if service in given}


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=HEADERS)


def _leads_to(path: str) -> web.Response:
    return web.Response(status=303, headers={**HEADERS, "Location": path})
