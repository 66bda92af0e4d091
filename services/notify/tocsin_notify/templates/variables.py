"""What a template can name: a closed set of plain values, each of which is short.

`docs/templates.md` says the same to those who write templates; a test compares the two.
"""

from collections.abc import Mapping
from typing import Final

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.text import links_of, severity_word
from tocsin_notify.domain.page import Kind
from tocsin_notify.domain.template import Part
from tocsin_notify.templates.defaults import default_of
from tocsin_notify.templates.language import MOST_ITEMS

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
    "incident.name": "`incidents/{uuid}`",
    "incident.title": "its title; of a message its subject",
    "incident.source": "where it came from",
    "incident.severity": "`critical`, `error`, `warning` or `info`",
    "incident.alert_count": "how many alerts it held",
    "incident.policy": "`policies/{policy}`",
    "incident.links": f"its links, at most {MOST_ITEMS}, each with `text` and `href`",
    "incident.links.size": "how many those are",
}
"""Each with its meaning."""
KNOWN: Final = frozenset(NAMES)


def values_of(delivery: Delivery, part: Part) -> dict[str, object]:
    """The values for one part of one message. What is too long is cut; a link that is too long is left out."""
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
        "incident": {
            "name": job.incident if delivery.kind is not Kind.BUNDLE else "",
            "title": job.title[:_LONGEST],
            "source": job.source[:_LONGEST],
            "severity": severity_word(job.severity),
            "alert_count": job.alert_count,
            "policy": job.policy[:_LONGEST_NAME],
            "links": [
                {"text": text[:_LONGEST_NAME], "href": href} for text, href in links_of(job) if len(href) <= _LONGEST
            ][:MOST_ITEMS],
        },
    }


def _short(user: str) -> str:
    return user.removeprefix("users/")[:_LONGEST_NAME]
