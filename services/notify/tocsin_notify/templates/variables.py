"""The variables of templates: a closed set of plain values, each of which is short.

`docs/templates.md` says the same to those who write templates; a test compares the two.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from tocsin.notify.v1.notification_pb2 import NotificationJob

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.text import links_of, severity_word
from tocsin_notify.domain.page import Kind
from tocsin_notify.domain.template import Part
from tocsin_notify.templates.defaults import default_of
from tocsin_notify.templates.language import MOST_ITEMS
from tocsin_notify.texts import shifts

_LONGEST: Final = 1024
_LONGEST_TEXT: Final = 4096
_LONGEST_NAME: Final = 255

NAMES: Final[Mapping[str, str]] = {
    "type": "why the user is notified: `new_incident`, `escalation`, `urgency_raised`, `acknowledgment`, `resolution`, `message`, "
    "`bundle`, `test`",
    "user": "whom it is for, without `users/`",
    "actor": "who did it, asked for it or sent it, without `users/`; empty for a sender's own doing",
    "answer_url": "where the person answers; empty when there is nothing to answer",
    "default": "the default text of the same part",
    "level": "the level that pages, from 1; 0 for the fallback target, and for what is no page",
    "repeat": "the repeat of the policy",
    "text": "what a message says; the list of a bundle",
    "about": "what a message is about, by name",
    "notice": "what Tocsin itself tells by a message: `reminder`, or of time on call `before`, `hand_over`, `week_ahead`, "
    "`changed`, `swap_offered`, `swap_accepted`, `swap_declined`; empty for the text of a person",
    "shifts": f"the time on call that a message tells of, at most {MOST_ITEMS}, each with `schedule`, `start`, `end` and `line`, "
    "the line of the default text, which it reads as a whole",
    "shifts.size": "how many those are",
    "incident.name": "`incidents/{uuid}`",
    "incident.title": "its title; of a message its subject",
    "incident.source": "where it came from",
    "incident.severity": "`critical`, `error`, `warning` or `info`",
    "incident.alert_count": "how many alerts it held",
    "incident.policy": "`policies/{policy}`",
    "incident.links": f"its links, at most {MOST_ITEMS}, each with `text` and `href`; as a whole it reads `text: href`",
    "incident.links.size": "how many those are",
}
"""Each with its meaning."""
KNOWN: Final = frozenset(NAMES)


class _Item(dict[str, str]):
    """An item of a list. A template that writes a whole item shows `whole`: otherwise a person would read Python's text
    for it."""

    def __init__(self, parts: Mapping[str, str], whole: str) -> None:
        super().__init__(parts)
        self._whole = whole

    def __str__(self) -> str:
        return self._whole


def values_of(delivery: Delivery, part: Part) -> dict[str, object]:
    """The values for one part of one message. Too long values are cut; a link that is too long is left out."""
    job = delivery.job
    return {
        "type": str(delivery.kind),
        "user": _short(job.user),
        "actor": _short(job.actor),
        "answer_url": delivery.link,
        "default": default_of(part, delivery)[:_LONGEST_TEXT],
        "level": job.level,
        "repeat": job.repeat,
        "text": job.text[:_LONGEST_TEXT],
        "about": job.about[:_LONGEST_NAME],
        "notice": _notice(job),
        "shifts": [
            _Item({name: value[:_LONGEST] for name, value in each.items()}, each["line"][:_LONGEST])
            for each in islice(shifts.listed(job.shift, delivery.language), MOST_ITEMS)
        ],
        "incident": {
            "name": job.incident if delivery.kind is not Kind.BUNDLE else "",
            "title": job.title[:_LONGEST],
            "source": job.source[:_LONGEST],
            "severity": severity_word(job.severity),
            "alert_count": job.alert_count,
            "policy": job.policy[:_LONGEST_NAME],
            "links": [
                _Item({"text": text, "href": href}, f"{text}: {href}" if text else href)
                for text, href in (
                    (text[:_LONGEST_NAME], href) for text, href in links_of(job) if len(href) <= _LONGEST
                )
            ][:MOST_ITEMS],
        },
    }


def _notice(job: NotificationJob) -> str:
    if job.HasField("shift"):
        return shifts.word_of(job.shift)
    return "reminder" if job.HasField("reminder") else ""


def _short(user: str) -> str:
    return user.removeprefix("users/")[:_LONGEST_NAME]
