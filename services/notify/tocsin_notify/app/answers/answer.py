"""A person answers a page by its link."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID, uuid5

import grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1.incident_pb2 import INCIDENT_STATE_MERGED, Incident
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.db.pool import ONE_PLAN, Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.app.pages.stored_jobs import job_of_page
from tocsin_notify.domain.action import Action, Asked, Person
from tocsin_notify.domain.answer_link import AnswerLink
from tocsin_notify.domain.page import Kind
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.store.answers import link_uses
from tocsin_notify.store.answers.link_uses import LinkedPage, Use
from tocsin_notify.store.pages.bundles import BundledPage
from tocsin_notify.texts.catalogue import words_of
from tocsin_notify.texts.words import Words

_log = get_logger(__name__)


class Escalation(Protocol):
    """The service that knows the incident. Each call may raise TocsinError."""

    async def incident(self, person: Person) -> Incident:
        """As it is now."""
        ...

    async def act(self, person: Person, asked: Asked, request_id: UUID, via: str) -> None:
        """Idempotent by `request_id`: a repeat gets the first answer."""
        ...

    async def acknowledge_all(self, person: Person, names: Sequence[str], request_id: UUID, via: str) -> None:
        """At most 250 incidents, by name; each succeeds or fails by itself. Idempotent by `request_id`."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows. `incident` is None while escalation does not answer. `spent`: this link was used before.

    `into`: the incident into which this one is merged, and which gets its answers; None for one that is not merged.
    `bundled`: several pages were sent as one message. `members`: these pages, the oldest first; None for a page that was sent
    alone.
    """

    link: AnswerLink
    person: Person
    job: NotificationJob
    now: datetime
    uses: Sequence[Use]
    incident: Incident | None = None
    into: Incident | None = None
    bundled: bool = False
    members: Sequence[BundledPage] | None = None
    words: Words = field(default_factory=lambda: words_of(LANGUAGES[0]))
    """In the user's language."""

    @property
    def acted_on(self) -> Incident | None:
        """The incident that an answer changes; None while it is not known."""
        merged = self.incident is not None and self.incident.state == INCIDENT_STATE_MERGED
        return self.into if merged else self.incident

    @property
    def expired(self) -> bool:
        """Whether the link is too old to act."""
        return self.now.timestamp() >= self.link.expire

    @property
    def spent(self) -> bool:
        """Whether it was used."""
        return any(use.turn >= self.link.turn and use.done for use in self.uses)

    @property
    def beyond_notes(self) -> AnswerLink:
        """The link to use after this one, if this one and those after it were used for notes; else this link.

        A person who adds a note by the link in a message must still be able to acknowledge by it.
        """
        noted = {use.turn for use in self.uses if use.done and use.action == Action.NOTE}
        link = self.link
        while link.turn in noted and link.next() != link:
            link = link.next()
        return link


class Whole(Protocol):
    """The pages that came as one message (`app.answers.whole_bundles`)."""

    async def pages(self, org_id: str, bundle: UUID) -> Sequence[BundledPage]:
        """The latest of each incident."""
        ...

    async def acknowledge(self, org_id: str, user: str, bundle: UUID, via: str) -> None:
        """Acknowledge every incident of the bundle that is still open."""
        ...


@dataclass(frozen=True, slots=True)
class Reserved:
    """`held`: the link is reserved for the action."""

    view: View
    held: bool


_REFUSALS: Final = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OUT_OF_RANGE}
)


def is_refused(error: TocsinError) -> bool:
    """Whether escalation would give the same answer again: nothing was done, and a repeat is of no use."""
    return error.code in _REFUSALS


class LinkUsed(Exception):
    """The link was used, or is being used at this moment."""


class Answers:
    """Shows a page by its link, and acts once for each link."""

    def __init__(self, db: Database, escalation: Escalation, whole: "Whole") -> None:
        self._db = db
        self._escalation = escalation
        self._whole = whole

    async def look(self, link: AnswerLink) -> View | None:
        """The page of the link, as it is now; changes nothing. None: notify has deleted the page."""
        view = await self.read(link)
        if view is None or view.members is not None:
            return view
        try:
            view = replace(view, incident=await self._escalation.incident(view.person))
            if view.incident is not None and view.incident.state == INCIDENT_STATE_MERGED:
                pages = replace(view.person, incident=view.incident.merged_into)
                view = replace(view, into=await self._escalation.incident(pages))
        except TocsinError as error:
            _log.warning("answer_page_without_incident", org_id=link.org_id, error=error.message)
        return view

    async def act(self, reserved: Reserved, asked: Asked) -> AnswerLink:
        """Do the action that the link was reserved for, as this person, and return the link to use next.

        Raises LinkUsed, and the errors of escalation: then nothing was done, and the link is as good as before. A repeat
        of an action whose answer was lost gets the first answer.
        """
        view, link = reserved.view, reserved.view.link
        if not reserved.held:
            raise LinkUsed
        try:
            if view.members is not None:
                await self._whole.acknowledge(link.org_id, view.person.user, link.page, "link")
            else:
                request_id = uuid5(link.page, f"{link.turn} {asked}")
                await self._escalation.act(view.person, asked, request_id, "link")
        except TocsinError as error:
            if error.reason != ErrorReason.ERROR_REASON_CANCEL_UNCONFIRMED:
                async with self._db.transaction(link.org_id) as tx:
                    await link_uses.undo(tx, link.page, link.turn)
            raise
        await link_uses.finish(self._db, link.org_id, link.page, link.turn)
        _log.info(
            "answered",
            org_id=link.org_id,
            user=view.person.user,
            incident=view.person.incident,
            action=str(asked.action),
        )
        return link.next()

    async def read(self, link: AnswerLink) -> View | None:
        """What notify itself knows of the page: enough to say why it is not acted on, not enough to show it. None: notify has
        deleted the page."""
        async with self._db.reading(link.org_id) as tx:
            view = await _read(tx, link)
        return view and await self._with_members(view)

    async def reserve(self, link: AnswerLink, asked: Asked) -> Reserved | None:
        """`read`, and reserve the link for the action if it may be done, in one statement."""

        async def work(tx: Tx) -> Reserved | None:
            found = await link_uses.begin(
                tx, link.page, link.turn, asked.action, types=_types_with(asked), expire=link.expire
            )
            if found is None:
                return None
            row, uses, held = found
            view = _view(link, row, uses)
            return None if view is None else Reserved(view, held)

        found = await self._db.run(link.org_id, work, first=ONE_PLAN)
        return found and replace(found, view=await self._with_members(found.view))

    async def _with_members(self, view: View) -> View:
        if not view.bundled:
            return view
        return replace(view, members=await self._whole.pages(view.link.org_id, view.link.page))


async def _read(tx: Tx, link: AnswerLink) -> View | None:
    """Without the members of a bundle."""
    found = await link_uses.page_with_uses(tx, link.page)
    return found and _view(link, *found)


def _view(link: AnswerLink, row: LinkedPage, uses: Sequence[Use]) -> View | None:
    if row.incident is None:
        return None
    person = Person(link.org_id, row.user_id, f"incidents/{row.incident}")
    kind = Kind(row.type)
    job = job_of_page(link.org_id, link.page, kind, row.user_id, row.incident, row.job)
    return View(
        link, person, job, row.now, uses, bundled=kind is Kind.BUNDLE, words=words_of(row.language or LANGUAGES[0])
    )


def _types_with(asked: Asked) -> Sequence[Kind]:
    """The types of the pages that have the action."""
    if asked.action is Action.NOTE and not asked.text:
        return []
    return [kind for kind in Kind if kind is not Kind.BUNDLE or asked.action is Action.ACKNOWLEDGE]
