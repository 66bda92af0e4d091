"""The interface of every channel: one `send`, three possible outcomes, and no exception for any behaviour of the
provider."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar, runtime_checkable
from uuid import UUID

from tocsin.notify.v1.notification_pb2 import NotificationJob

from tocsin_notify.domain.attempt import Outcome
from tocsin_notify.domain.digest_words import DigestWords
from tocsin_notify.domain.page import Channel, Kind
from tocsin_notify.domain.template import LANGUAGES, Part, Wording
from tocsin_notify.texts.catalogue import words_of
from tocsin_notify.texts.digest_words import digest_words_of
from tocsin_notify.texts.happened import happened
from tocsin_notify.texts.words import Words

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a contact method."""

    channel: Channel
    address: str
    """E-mail address or URL; empty for the console."""
    secret: bytes = b""
    """The key that signs a webhook."""
    key_id: str = ""

    def __repr__(self) -> str:
        return f"Target({self.channel}, {self.address!r})"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt, with everything a channel may need to render and send it."""

    key: str
    """The same for every attempt of one notification until it is redriven: providers may deduplicate by it."""
    notification: UUID
    org_id: str
    kind: Kind
    job: NotificationJob
    target: Target
    attempt: int
    start_time: datetime
    """The database's clock when the attempt was recorded."""
    code: str = ""
    """The six digits, in a verification."""
    link: str = ""
    """The URL by which the person answers; empty when the message needs no answer, or this service cannot be reached
    from outside."""
    reply_to: str = ""
    """The address to which the person replies by mail; empty if this message takes no replies."""
    language: str = LANGUAGES[0]
    """Of the default texts, and of the template that is used."""
    wording: Wording = field(default_factory=dict)
    """The texts that the organisation's template gives it. A missing part has the default text."""
    faults: tuple[str, ...] = ()
    """Why parts of the template were not used, in words."""
    answered: int = 0
    """How many pages of a message for several were stopped when the attempt was claimed; its text names none of them."""

    @property
    def words(self) -> Words:
        """The default texts in the user's language."""
        return words_of(self.language)

    @property
    def digest_words(self) -> DigestWords:
        """Those of digests."""
        return digest_words_of(self.language)

    def worded(self, part: Part) -> str:
        """The template's text of this part; empty: the default text is to be used."""
        return self.wording.get(part, "")


class BadAddress(ValueError):
    """The address cannot be used. The text continues the name of a field: `must be …`."""


@dataclass(frozen=True, slots=True)
class Sequel:
    """A message that was sent, and what happened to its incident since, in the words of a log: `acknowledged by
    users/ana`."""

    target: Target
    kind: Kind
    job: NotificationJob
    provider_id: str
    reason: str
    language: str = LANGUAGES[0]

    @property
    def words(self) -> str:
        """As people read it: `Acknowledged by ana.`"""
        return happened(words_of(self.language), self.reason, self.job.time_zone)


class NotStarted(Exception):
    """The call must not begin any more; no byte of it left this process."""


class Permit(Protocol):
    """The right of one attempt to call its provider."""

    async def begin(self, call: Callable[[], Awaitable[T]], *, repeat: bool = False) -> T:
        """Run `call`, whose first step writes to the provider. Raises NotStarted when its incident was stopped since.

        Everything that makes a provider act goes through here. `repeat`: this attempt has called before.
        """
        ...


class Always:
    """The permit of calls that page no one: updates of a message, and answers to a person."""

    async def begin(self, call: Callable[[], Awaitable[T]], *, repeat: bool = False) -> T:
        """See `Permit`."""
        return await call()


class ChannelSender(Protocol):
    """Sends messages of one channel."""

    concurrency: int
    """Calls at once that begin without waiting for one another. The deliverer never starts more: a call that waited
    inside a channel would begin after a cancel had returned."""

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """Try once, within the channel's own timeout. Failures are outcomes; an exception is a defect.

        NotStarted may be raised, or be turned into any outcome: the caller remembers what it refused.
        """
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


@runtime_checkable
class Vetting(Protocol):
    """A channel that checks addresses with the code that sends, which may take a while."""

    async def vet(self, org_id: str, address: str) -> None:
        """Raises BadAddress; OVERLOADED when it cannot check at the moment."""
        ...


@runtime_checkable
class Follower(Protocol):
    """A channel whose messages can be updated when their incident was answered."""

    rings: bool
    """Its messages keep ringing until they are updated."""

    async def follow(self, sequel: Sequel, permit: Permit) -> Outcome:
        """Update the message at the provider. Like `send`; it may be asked twice."""
        ...
