"""The page by which a user ends a digest: GET shows, POST ends. Mail scanners open links, so a GET never changes anything.

A mail program that offers to unsubscribe posts as well (RFC 8058).
"""

from collections.abc import Iterable
from html import escape

from aiohttp import web

from tocsin_notify.app.messages.digest_stops import DigestStops, Told
from tocsin_notify.channels.links import DIGEST_PATH, Links
from tocsin_notify.domain.answer_link import AnswerLink
from tocsin_notify.domain.digest import Frequency
from tocsin_notify.http.answer_page import HEADERS, document, message_page, short
from tocsin_notify.texts.catalogue import words_of
from tocsin_notify.texts.digest_words import digest_words_of


class DigestPages:
    """The routes that people open, and mail programs post to."""

    def __init__(self, links: Links, stops: DigestStops) -> None:
        self._links = links
        self._stops = stops

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server."""
        page = DIGEST_PATH + "{token}"
        return web.get(page, self.show), web.post(page, self.end)

    async def show(self, request: web.Request) -> web.Response:
        """404 for a link that was not made here, 410 for one that is too old."""
        link = self._link(request)
        told = None if link is None else await self._stops.look(link)
        return _unknown() if told is None else _page(told, ends=told.chosen and not told.expired)

    async def end(self, request: web.Request) -> web.Response:
        """As `show`; what the body says is not read."""
        link = self._link(request)
        told = None if link is None else await self._stops.end(link)
        return _unknown() if told is None else _page(told, ends=False)

    def _link(self, request: web.Request) -> AnswerLink | None:
        return self._links.read(request.match_info["token"])


def _page(told: Told, *, ends: bool) -> web.Response:
    """`ends`: with the button."""
    words = digest_words_of(told.language)
    title = words.heading_daily if told.frequency is Frequency.DAILY else words.heading_weekly
    said = words.end_ask if ends else words.end_too_old if told.expired else words.ended
    parts = [f'<p class="who">{escape(short(told.user))}</p>', f"<h1>{escape(title)}</h1>", f"<p>{escape(said)}</p>"]
    if ends:
        parts.append(f'<form method="post"><button>{escape(words.end_button)}</button></form>')
    return _html(document(title, parts, words_of(told.language)), 410 if told.expired else 200)


def _html(text: str, status: int) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=HEADERS)


def _unknown() -> web.Response:
    return _html(
        message_page("Unknown link", "This link ends no digest. It may be cut off, or older than the record."), 404
    )
