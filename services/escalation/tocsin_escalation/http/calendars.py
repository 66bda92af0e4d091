"""Calendar feeds over HTTP. A feed's URL is the reader's only credential, so answers must not show which other feeds exist.

An unknown secret, a deleted one and a text that cannot be a secret get the same answer. The secret is in the path. Logs and
metrics contain no paths, only the pattern of the route.
"""

import hashlib
import time
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.buckets import Buckets
from tocsin_kit.budgets import RPCS
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.server import RpcServer

from tocsin_escalation.app.schedules.calendar_feeds import CalendarFeeds

PATH: Final = "/calendars/"
_SUFFIX: Final = ".ics"
_PER_SECOND: Final = 1 / 20
_AT_ONCE: Final = 20
_KEPT: Final = 0.25
"""The part of a tenant's rate that is reserved for calls that change something, as for other reads."""
_HEADERS: Final = {
    "Cache-Control": "private, no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


def path_of(secret: str) -> str:
    """The URL of a feed at this listener."""
    return f"{PATH}{secret}{_SUFFIX}"


class Calendars:
    """The route that calendar programs read."""

    def __init__(self, feeds: CalendarFeeds, rpc: RpcServer) -> None:
        self._feeds = feeds
        self._credentials = rpc.credentials
        self._budgets = rpc.budgets
        self._reads = Buckets(_PER_SECOND, _AT_ONCE)

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server. HEAD is answered like GET."""
        return (web.get(f"{PATH}{{secret}}{_SUFFIX}", self.show),)

    async def show(self, request: web.Request) -> web.Response:
        """200 with the calendar, 304 when the reader has it already, 404 for any secret that does not work, 429 and 503 with
        Retry-After.
        """
        peer = request.remote or ""
        try:
            feed = await self._credentials.judge(
                (self._feeds,), request.match_info["secret"], lambda: peer, way="calendar"
            )
        except TocsinError as error:
            if error.reason != ErrorReason.ERROR_REASON_CREDENTIAL_INVALID:
                raise
            raise _unknown() from None
        if wait := self._reads.take(feed.subject, time.monotonic()):
            raise TocsinError(
                ErrorReason.ERROR_REASON_RATE_LIMITED,
                "the calendar is read too often; every 15 minutes is enough",
                metadata={"limit": "calendar_feed"},
                retry_after=wait,
            )
        self._budgets.take(feed.org_id, RPCS, kept=_KEPT)
        try:
            body = (await self._feeds.read(feed.org_id, UUID(feed.subject.rpartition("/")[2]))).encode()
        except TocsinError as error:
            # The feed was deleted at this very moment: the answer must be the same as at any other time.
            raise (_unknown() if error.reason == _NOT_FOUND else error) from None
        tag = hashlib.sha256(body).hexdigest()[:32]
        response = web.Response(headers=_HEADERS)
        response.etag = tag
        asked = request.if_none_match or ()
        # Weak comparison (RFC 9110 §13.1.2): proxies that compress make a tag weak.
        if any(each.value in (tag, "*") for each in asked):
            response.set_status(304)
            return response
        response.content_type = "text/calendar"
        response.charset = "utf-8"
        response.body = body
        return response


_NOT_FOUND: Final = ErrorReason.ERROR_REASON_CALENDAR_FEED_NOT_FOUND


def _unknown() -> TocsinError:
    return TocsinError(_NOT_FOUND, "there is no such calendar feed; it may have been deleted")
