"""A person asks by a command of Slack what they are paged for, and acknowledges it.

The app is the operator's and names no tenant: a member is every user who has proved that the account is theirs.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID, uuid5

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1.incident_pb2 import INCIDENT_STATE_EXHAUSTED, INCIDENT_STATE_TRIGGERED, Incident
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.logging import get_logger

from tocsin_notify.app.answer import Escalation, Person
from tocsin_notify.channels.text import one_line, severity_word
from tocsin_notify.domain.action import Action, Asked
from tocsin_notify.domain.sms_reply import Reply, code_of, read_reply
from tocsin_notify.store import contacts

_log = get_logger(__name__)

MOST_INCIDENTS: Final = 250
"""Of one user: as many as one call acknowledges."""
_MOST_USERS: Final = 10
"""Tenants in which one account may be somebody's."""
_LISTED: Final = 20
_TITLE: Final = 100
_LIST: Final = frozenset({"", "list", "pages"})
_ALL: Final = frozenset({"ack all", "acknowledge all", "a all", "all"})
_HOW: Final = 'Say "list" for what you are paged for, "ack 12" to acknowledge the one with the code 12, or "ack all".'
_STRANGER: Final = (
    "Add this Slack account (your member ID) to your contact methods in Tocsin and verify it: nobody knows it yet."
)
_LATER: Final = (
    "It is not certain that it was done: the service that knows the incidents does not answer. Send it again."
)
_OVER: Final = frozenset({ErrorReason.ERROR_REASON_INCIDENT_RESOLVED, ErrorReason.ERROR_REASON_INCIDENT_NOT_FOUND})


class Assigned(Escalation, Protocol):
    """Escalation, which knows who is paged for what."""

    async def assigned(self, person: Person, limit: int) -> Sequence[Incident]:
        """What the person is paged for, or holds, newest first. Raises TocsinError."""
        ...


@dataclass(frozen=True, slots=True)
class _Mine:
    """An incident, and the user whose it is. `code`: what it is called by this account."""

    person: Person
    incident: Incident
    code: int

    @property
    def waits(self) -> bool:
        return self.incident.state in (INCIDENT_STATE_TRIGGERED, INCIDENT_STATE_EXHAUSTED)


class SlackCommands:
    """Each command is answered in words."""

    def __init__(self, db: Database, escalation: Assigned) -> None:
        self._db = db
        self._escalation = escalation

    async def take(self, member: str, text: str, occurrence: str) -> str:
        """What to tell the member. `occurrence`: Slack's name for this one command. Raises DATABASE_UNAVAILABLE."""
        words = " ".join(text.lower().split())
        reply = read_reply(words)
        known = words in _LIST or words in _ALL or (isinstance(reply, Reply) and reply.action is Action.ACKNOWLEDGE)
        if not known:
            return _HOW
        async with self._db.system() as tx:
            owners = await contacts.owners_of_slack(tx, member, _MOST_USERS)
        if not owners:
            return _STRANGER
        try:
            mine = await self._mine(owners, member)
            if words in _LIST:
                return _listed(mine)
            if words in _ALL:
                return await self._acknowledge_all(mine, occurrence)
            assert isinstance(reply, Reply)
            return await self._acknowledge(mine, reply.code, occurrence)
        except TocsinError as error:
            _log.warning("slack_command_failed", error=error.message)
            return _LATER

    async def _mine(self, owners: Sequence[tuple[str, str]], member: str) -> list[_Mine]:
        people = [Person(org_id, user, "") for org_id, user in owners]
        found = await asyncio.gather(*(self._escalation.assigned(person, MOST_INCIDENTS) for person in people))
        return [
            _Mine(Person(person.org_id, person.user, each.name), each, code_of(_id(each), member))
            for person, incidents in zip(people, found, strict=True)
            for each in incidents
        ]

    async def _acknowledge(self, mine: Sequence[_Mine], code: int | None, occurrence: str) -> str:
        meant = [each for each in mine if (each.waits if code is None else each.code == code)]
        if not meant:
            return f"Nothing was done: you are paged for nothing {'now' if code is None else f'with the code {code}'}."
        if len(meant) > 1:
            return f"Nothing was done: say which.\n{_listed(meant)}"
        [one] = meant
        request_id = uuid5(_id(one.incident), f"slack command {occurrence}")
        try:
            await self._escalation.act(one.person, Asked(Action.ACKNOWLEDGE), request_id, "slack")
        except TocsinError as error:
            if error.reason not in _OVER:
                raise
            return "Nothing was done: the incident is over."
        return f"Acknowledged: {one_line(one.incident.title, _TITLE)}"

    async def _acknowledge_all(self, mine: Sequence[_Mine], occurrence: str) -> str:
        waiting: dict[tuple[str, str], list[str]] = {}
        for each in mine:
            if each.waits:
                waiting.setdefault((each.person.org_id, each.person.user), []).append(each.incident.name)
        for (org_id, user), names in waiting.items():
            names.sort()
            request_id = uuid5(UUID(int=0), f"slack command {occurrence} {org_id} {user} {' '.join(names)}")
            await self._escalation.acknowledge_all(Person(org_id, user, ""), names, request_id, "slack")
        count = sum(map(len, waiting.values()))
        return f"Acknowledged: {count} incidents." if count else "Nothing was done: you are paged for nothing now."


def _listed(mine: Sequence[_Mine]) -> str:
    if not mine:
        return "You are paged for nothing now."
    lines = [_line(each) for each in sorted(mine, key=lambda each: (not each.waits, each.incident.severity))]
    more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "\n".join([*lines[:_LISTED], *more, '"ack" with a code acknowledges one, "ack all" all.'])


def _line(mine: _Mine) -> str:
    incident = mine.incident
    since = datetime.fromtimestamp(incident.create_time.seconds, UTC)
    state = "waits for an answer" if mine.waits else "acknowledged"
    title = one_line(incident.title, _TITLE)
    return f"{mine.code}: {severity_word(incident.severity)}: {title} ({state}, since {since:%Y-%m-%d %H:%M} UTC)"


def _id(incident: Incident) -> UUID:
    return parse_uuid_name(incident.name, "incidents")
