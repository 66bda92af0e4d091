"""A person uses a Slack command to list the incidents that page them, and to acknowledge one.

The app is the operator's and names no tenant: a Slack member stands for every user who has verified that account.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID, uuid5

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1.incident_pb2 import (
    INCIDENT_STATE_ACKNOWLEDGED,
    INCIDENT_STATE_EXHAUSTED,
    INCIDENT_STATE_TRIGGERED,
    Incident,
    IncidentState,
)
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.logging import get_logger

from tocsin_notify.app.answers.answer import Escalation
from tocsin_notify.app.contacts.notification_settings import language_for
from tocsin_notify.channels.text import one_line, severity_in
from tocsin_notify.domain.action import Action, Asked, Person
from tocsin_notify.domain.sms_reply import Reply, code_of, read_reply
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.store.contacts import contacts
from tocsin_notify.texts.catalogue import words_of
from tocsin_notify.texts.replies import reply_words_of

_log = get_logger(__name__)

MOST_PER_CALL: Final = 250
"""The limit of one call to `acknowledge_all`."""
_MOST_WAITING: Final = 2000
"""Incidents of one user. If a storm leaves more, the next command lists the rest: acknowledged incidents are no longer
listed."""
_MOST_HELD: Final = 250
_WAITING: Final = (INCIDENT_STATE_TRIGGERED, INCIDENT_STATE_EXHAUSTED)
_HELD: Final = (INCIDENT_STATE_ACKNOWLEDGED,)
_MOST_USERS: Final = 10
"""Tenants in which one account may belong to a user."""
_LISTED: Final = 20
_TITLE: Final = 100
_LIST: Final = frozenset({"", "list", "pages"})
_ALL: Final = frozenset({"ack all", "acknowledge all", "a all", "all"})
_OVER: Final = frozenset({ErrorReason.ERROR_REASON_INCIDENT_RESOLVED, ErrorReason.ERROR_REASON_INCIDENT_NOT_FOUND})


class Assigned(Escalation, Protocol):
    """Escalation, which knows whom each incident pages."""

    async def assigned(
        self, person: Person, states: Sequence[IncidentState.ValueType], limit: int
    ) -> Sequence[Incident]:
        """The newest `limit` incidents, in one of these states, that page this person or that this person holds. Raises
        TocsinError."""
        ...


@dataclass(frozen=True, slots=True)
class _Mine:
    """An incident, and the user it is assigned to. `code`: the short name of the incident for this account."""

    person: Person
    incident: Incident
    code: int

    @property
    def waits(self) -> bool:
        return self.incident.state in _WAITING


class SlackCommands:
    """Each command is answered in words."""

    def __init__(self, db: Database, escalation: Assigned) -> None:
        self._db = db
        self._escalation = escalation

    async def take(self, member: str, text: str, occurrence: str) -> str:
        """The answer for the member. `occurrence`: Slack's name for this one command. Raises DATABASE_UNAVAILABLE."""
        words = " ".join(text.lower().split())
        reply = read_reply(words)
        known = words in _LIST or words in _ALL or (isinstance(reply, Reply) and reply.action is Action.ACKNOWLEDGE)
        async with self._db.system() as tx:
            owners = await contacts.owners_of_slack(tx, member, _MOST_USERS)
        if not owners:
            return reply_words_of(LANGUAGES[0]).chat_stranger
        org_id, user = owners[0]
        async with self._db.transaction(org_id) as tx:
            language = await language_for(tx, user)
        if not known:
            return reply_words_of(language).chat_how
        try:
            # A query of its own: the acknowledged incidents may be more, and newer, than the waiting ones.
            mine = await self._mine(owners, member, _WAITING, _MOST_WAITING)
            if words in _ALL:
                return await self._acknowledge_all(mine, occurrence, language)
            mine += await self._mine(owners, member, _HELD, _MOST_HELD)
            if words in _LIST:
                return _listed(mine, language)
            assert isinstance(reply, Reply)
            return await self._acknowledge(mine, reply.code, occurrence, language)
        except TocsinError as error:
            _log.warning("slack_command_failed", error=error.message)
            return reply_words_of(language).chat_later

    async def _mine(
        self, owners: Sequence[tuple[str, str]], member: str, states: Sequence[IncidentState.ValueType], most: int
    ) -> list[_Mine]:
        people = [Person(org_id, user, "") for org_id, user in owners]
        found = await asyncio.gather(*(self._escalation.assigned(person, states, most) for person in people))
        return [
            _Mine(Person(person.org_id, person.user, each.name), each, code_of(_id(each), member))
            for person, incidents in zip(people, found, strict=True)
            for each in incidents
        ]

    async def _acknowledge(self, mine: Sequence[_Mine], code: int | None, occurrence: str, language: str) -> str:
        words = reply_words_of(language)
        meant = [each for each in mine if (each.waits if code is None else each.code == code)]
        if not meant:
            return words.chat_nothing_now if code is None else words.chat_nothing_with_code.format(code=code)
        if len(meant) > 1:
            return f"{words.chat_say_which}\n{_listed(meant, language)}"
        [one] = meant
        request_id = uuid5(_id(one.incident), f"slack command {occurrence}")
        try:
            await self._escalation.act(one.person, Asked(Action.ACKNOWLEDGE), request_id, "slack")
        except TocsinError as error:
            if error.reason not in _OVER:
                raise
            return words.answer_over
        return words.chat_acknowledged.format(title=one_line(one.incident.title, _TITLE))

    async def _acknowledge_all(self, mine: Sequence[_Mine], occurrence: str, language: str) -> str:
        waiting: dict[tuple[str, str], list[str]] = {}
        for each in mine:
            waiting.setdefault((each.person.org_id, each.person.user), []).append(each.incident.name)
        for (org_id, user), names in waiting.items():
            names.sort()
            for start in range(0, len(names), MOST_PER_CALL):
                part = names[start : start + MOST_PER_CALL]
                request_id = uuid5(UUID(int=0), f"slack command {occurrence} {org_id} {user} {' '.join(part)}")
                await self._escalation.acknowledge_all(Person(org_id, user, ""), part, request_id, "slack")
        words = reply_words_of(language)
        return words.chat_acknowledged_many.format(count=len(mine)) if mine else words.chat_nothing_now


def _listed(mine: Sequence[_Mine], language: str) -> str:
    words = reply_words_of(language)
    if not mine:
        return words.chat_paged_for_nothing
    lines = [_line(each, language) for each in sorted(mine, key=lambda each: (not each.waits, each.incident.severity))]
    more = [words.chat_more.format(count=len(lines) - _LISTED)] if len(lines) > _LISTED else []
    return "\n".join([*lines[:_LISTED], *more, words.chat_hint])


def _line(mine: _Mine, language: str) -> str:
    incident, words = mine.incident, reply_words_of(language)
    since = datetime.fromtimestamp(incident.create_time.seconds, UTC)
    return words.chat_line.format(
        code=mine.code,
        severity=severity_in(words_of(language), incident.severity),
        title=one_line(incident.title, _TITLE),
        state=words.chat_waits if mine.waits else words.chat_in_hand,
        since=f"{since:%Y-%m-%d %H:%M}",
    )


def _id(incident: Incident) -> UUID:
    return parse_uuid_name(incident.name, "incidents")
