"""The text of a message for several pages, in the language of its person."""

from collections.abc import Sequence
from typing import Final

from tocsin_notify.domain.bundling import Member
from tocsin_notify.texts.words import Words

_ORDER: Final = ("critical", "error", "warning", "info")


def summary(members: Sequence[Member], words: Words, *, waited: bool = False) -> str:
    """`17 more pages: 3 error, 14 warning, the oldest since 03:12 UTC`; of one page its title.

    `waited`: for the end of quiet hours.
    """
    return _counted(members, words, words.bundle_waited if waited else words.bundle_more)


def left(members: Sequence[Member], words: Words) -> str:
    """The same for the pages that are left, after others were answered."""
    return _counted(members, words, words.bundle_left)


def _counted(members: Sequence[Member], words: Words, text: str) -> str:
    if len(members) == 1:
        return words.bundle_one.format(title=members[0].title)
    counts = [(sum(each.severity == word for each in members), str(getattr(words, word))) for word in _ORDER]
    listed = ", ".join(f"{count} {word}" for count, word in counts if count)
    oldest = min(each.since for each in members)
    return text.format(count=len(members), severities=listed, time=f"{oldest:%H:%M %Z}")


def line(member: Member, words: Words) -> str:
    """One of the pages."""
    return f"{member.since:%H:%M} {getattr(words, member.severity)}: {member.title}"
