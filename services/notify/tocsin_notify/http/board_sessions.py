"""The sessions of operators at the board: in the memory of this process, so a restart logs everyone out."""

import hmac
import secrets
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from aiohttp import web

from tocsin_notify.http.board_page import PATH

COOKIE: Final = "tocsin_board"
IDLE_SECONDS: Final = 1800.0
LONGEST_SECONDS: Final = 12 * 3600.0
_MOST: Final = 200


@dataclass(slots=True)
class Session:
    """One login. `token` is the operator's own, and is sent to Tocsin's services only."""

    token: str = field(repr=False)
    csrf: str = field(repr=False)
    began: float
    used: float
    said: str = ""
    """The result of the last action, shown once."""
    wrong: bool = False
    writes: bool = False
    """Whether its token may change queues, by the last check. The services decide."""
    redrives: bool = False
    """The same for outboxes."""


class Sessions:
    """At most 200; another login ends the one that was idle for the longest."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def begin(self, request: web.Request, response: web.StreamResponse, token: str, *, secure: bool) -> None:
        """Log in: the cookie holds only the session's id. `secure`: browsers come by HTTPS, perhaps to a proxy."""
        now = monotonic()
        self._forget(now)
        while len(self._sessions) >= _MOST:
            del self._sessions[min(self._sessions, key=lambda id: self._sessions[id].used)]
        id = secrets.token_urlsafe(32)
        self._sessions[id] = Session(token, secrets.token_urlsafe(32), now, now)
        response.set_cookie(COOKIE, id, path=PATH, httponly=True, samesite="Strict", secure=secure or request.secure)

    def find(self, request: web.Request) -> Session | None:
        """The session of a request."""
        now = monotonic()
        self._forget(now)
        session = self._sessions.get(request.cookies.get(COOKIE, ""))
        if session is not None:
            session.used = now
        return session

    def end(self, request: web.Request, response: web.StreamResponse) -> None:
        """Log out."""
        self.forget(request)
        response.del_cookie(COOKIE, path=PATH)

    def forget(self, request: web.Request) -> None:
        """Its cookie is no longer valid."""
        self._sessions.pop(request.cookies.get(COOKIE, ""), None)

    def _forget(self, now: float) -> None:
        for id, session in list(self._sessions.items()):
            if now - session.used > IDLE_SECONDS or now - session.began > LONGEST_SECONDS:
                del self._sessions[id]


def is_ours(session: Session, given: str) -> bool:
    """Whether a form was made for this session (CSRF)."""
    return hmac.compare_digest(session.csrf.encode(), given.encode())
