"""The answer page: GET shows, POST acts. Mail scanners and previews open links, so a GET never changes anything."""

from collections.abc import Iterable, Mapping
from typing import Final

import grpc
from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.app.answers.answer import Answers, LinkUsed, View, is_refused
from tocsin_notify.channels.links import PATH, Links
from tocsin_notify.domain.action import SNOOZES, Action, Asked, minutes_of
from tocsin_notify.domain.answer_link import AnswerLink
from tocsin_notify.http.answer_page import HEADERS, answer_page, message_page
from tocsin_notify.http.bundle_page import bundle_page
from tocsin_notify.http.device_page import PATH as DEVICE_PATH
from tocsin_notify.http.forms import read_form

_log = get_logger(__name__)

_SNOOZES: Final = {str(minutes_of(snooze)): snooze for snooze in SNOOZES}
_PROBLEMS: Final = {
    ErrorReason.ERROR_REASON_INCIDENT_RESOLVED: "problem_over",
    ErrorReason.ERROR_REASON_INCIDENT_STATE: "problem_merged",
    ErrorReason.ERROR_REASON_INCIDENT_NOT_FOUND: "problem_unknown",
    ErrorReason.ERROR_REASON_NO_NEXT_LEVEL: "problem_last_level",
    ErrorReason.ERROR_REASON_CANCEL_UNCONFIRMED: "problem_unconfirmed",
}
"""The texts that say why the action was not done."""
_UNEXPECTED: Final = ("problem_refused", "problem_passing")


class AnswerPages:
    """The routes that people open."""

    def __init__(self, links: Links, answers: Answers, *, devices: bool) -> None:
        """`devices`: whether browsers can be added from here."""
        self._links = links
        self._answers = answers
        self._devices = devices

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server. HEAD is answered like GET."""
        return web.get(PATH + "{token}", self.show), web.post(PATH + "{token}", self.act)

    async def show(self, request: web.Request) -> web.Response:
        """404 for a link that was not made here, 410 for one that is too old, 200 for any other.

        303 to the next link for a link that was used for a note.
        """
        link = self._links.read(request.match_info["token"])
        view = None if link is None else await self._answers.look(link)
        if view is None:
            return _unknown()
        if view.beyond_notes != view.link:
            return self._leads_to(view.beyond_notes)
        return _html(self._shown(view), 410 if view.expired else 200)

    async def act(self, request: web.Request) -> web.Response:
        """303 to the next link, or the page with the reason why the action was not done."""
        link = self._links.read(request.match_info["token"])
        if link is None:
            return _unknown()
        asked = _asked(dict(await read_form(request)))
        if asked is None:
            read = await self._answers.read(link)
            return _unknown() if read is None else await self._again(read, read.words.problem_buttons, 400)
        reserved = await self._answers.reserve(link, asked)
        if reserved is None:
            return _unknown()
        view = reserved.view
        if view.bundled and asked.action is not Action.ACKNOWLEDGE:
            return await self._again(view, view.words.problem_open_first, 400)
        if asked.action is Action.NOTE and not asked.text:
            return await self._again(view, view.words.problem_empty_note, 400)
        try:
            following = await self._answers.act(reserved, asked)
        except LinkUsed:
            problem = "" if view.spent or view.expired else view.words.problem_at_once
            return await self._again(view, problem, 410 if view.expired else 409)
        except TocsinError as error:
            known = _PROBLEMS.get(error.reason)
            if known is None:
                known = "problem_refused" if is_refused(error) else "problem_passing"
            problem = str(getattr(view.words, known))
            if known in _UNEXPECTED:
                _log.warning("answer_not_taken", org_id=view.link.org_id, action=str(asked.action), error=error.message)
            passing = known == "problem_passing" or error.code is grpc.StatusCode.UNAVAILABLE
            return await self._again(view, problem, 503 if passing else 409)
        return self._leads_to(following)

    def _leads_to(self, link: AnswerLink) -> web.Response:
        # Relative, so that it works behind every proxy.
        return web.Response(status=303, headers={**HEADERS, "Location": self._links.token(link)})

    async def _again(self, view: View, problem: str, status: int) -> web.Response:
        """The page with the state after the attempt."""
        return _html(self._shown(await self._answers.look(view.link) or view, problem), status)

    def _shown(self, view: View, problem: str = "") -> str:
        if view.members is None:
            adds = self._devices and view.link.personal and not view.expired
            device = f"..{DEVICE_PATH}{self._links.token(view.link)}" if adds else ""
            return answer_page(view, problem=problem, device=device)
        links = {page.id: self._links.token(view.link.of_page(page.id)) for page in view.members}
        return bundle_page(view, view.members, links, problem=problem)


def _asked(fields: Mapping[str, str]) -> Asked | None:
    """None for a form that is not ours."""
    try:
        action = Action(fields.get("action", ""))
    except ValueError:
        return None
    if action is Action.NOTE:
        return Asked.note(fields.get("text", ""))
    if action is Action.SNOOZE:
        snooze = _SNOOZES.get(fields.get("minutes", ""))
        return None if snooze is None else Asked(action, snooze=snooze)
    return Asked(action)


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=HEADERS)


def _unknown() -> web.Response:
    return _html(
        message_page("Unknown link", "This link leads to no page. It may be cut off, or older than the record."), 404
    )
