"""What a person answers by text message: `12a`, `ack 12`, `STOP`.

Each incident, and each message for several, has a code of at most three digits for each phone. It is computed, and
never stored. Two incidents sent to one phone on one day may have the same code, rarely. Then no action is taken, and
the person is told to open the link.

A text message that the provider accepted may not be on the phone yet. So if all other incidents are answered, a reply
without a code still does not mean the remaining one: the author may have read only about one of the others.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from uuid import UUID

from tocsin_notify.domain.action import WORDS, Action

_MOST: Final = 999
_REPLY: Final = re.compile(r"(?:([0-9]{1,3})[ ]?([a-z]+)|([a-z]+)[ ]?([0-9]{1,3})|([a-z]+))[.!]?")
# twilio.com/docs/messaging/tutorials/advanced-opt-out, and CTIA's handbook of messaging: a message of this one word.
_STOP: Final = frozenset({"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"})
_START: Final = frozenset({"start", "unstop", "yes"})


class Request(Enum):
    """Requests of a message that are no action."""

    STOP = auto()
    START = auto()
    UNCLEAR = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """An action, on the incident with this code. None: the only incident that was sent lately."""

    action: Action
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Texted:
    """An incident that was sent to the phone. `stopped`: it was answered, or is resolved. `lately`: within an hour."""

    incident: UUID
    stopped: bool
    lately: bool


def code_of(incident: UUID, number: str) -> int:
    """The incident's code on this phone (E.164): 1 to 999."""
    digest = hashlib.sha256(incident.bytes + number.encode()).digest()
    return int.from_bytes(digest[:4], "big") % _MOST + 1


def read_reply(text: str) -> Reply | Request:
    """The meaning of the message, in any case and with spaces around it."""
    words = " ".join(text.lower().split())
    if words in _STOP:
        return Request.STOP
    if words in _START:
        return Request.START
    found = _REPLY.fullmatch(words)
    if found is None:
        return Request.UNCLEAR
    action = WORDS.get(found[2] or found[3] or found[5])
    digits = found[1] or found[4]
    return Request.UNCLEAR if action is None else Reply(action, int(digits) if digits else None)


def candidates(reply: Reply, texted: Sequence[Texted], number: str) -> list[UUID]:
    """The incidents that the reply may mean: those with its code. Without a code: those sent lately, and those that
    wait."""
    if reply.code is None:
        return [each.incident for each in texted if each.lately or not each.stopped]
    return [each.incident for each in texted if code_of(each.incident, number) == reply.code]


def meant(reply: Reply, texted: Sequence[Texted], number: str) -> UUID | None:
    """The incident of the reply, if only one is possible. Without a code it must also have been sent lately."""
    found = candidates(reply, texted, number)
    if len(found) != 1:
        return None
    lately = reply.code is not None or any(each.lately for each in texted if each.incident == found[0])
    return found[0] if lately else None


def shortened(title: str, length: int) -> str:
    """At most so many characters: cut after a word if one ends in its second half, with dots that cost a text message nothing."""
    if len(title) <= length:
        return title
    room = title[: length - 3]
    words = room[: room.rfind(" ")] if title[length - 3] != " " and room.rfind(" ") > length // 2 else room
    return words.rstrip(" ,;:-") + "..."
