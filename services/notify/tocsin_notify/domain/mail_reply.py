"""What a person answers by mail: one word above what they quote, such as `ack`, or `note` and a text.

The words are those of text messages. What is quoted never counts, wherever it stands: it may hold words of others, and of alerts.
"""

import re
from collections.abc import Sequence
from typing import Final

from tocsin_notify.domain.action import WORDS, Asked

_QUOTED: Final = re.compile(r"\s*>")
_NOTE: Final = re.compile(r"note(?:\s*[:,]\s*|\s+|$)(.*)", re.IGNORECASE)
_END: Final = re.compile(r"\s*>|--\s*$|_{5,}|-{2,}.*-{2,}\s*$")
"""What follows is quoted, or a signature (RFC 3676 §4.3), or the mail that is answered, as Outlook puts it."""
_ATTRIBUTION: Final = 3
"""Lines into which mail programs break `On …, somebody wrote:`."""


def read_mail_reply(text: str) -> Asked | None:
    """What the first line that the person wrote says; None if it is no such word.

    `text`: the body as plain text.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if not line.strip() or _QUOTED.match(line):
            continue
        asked = _asked(lines[number:])
        if asked is not None or not _attributes(lines[number:]):
            return asked
    return None


def _asked(lines: Sequence[str]) -> Asked | None:
    said = lines[0].strip()
    action = WORDS.get(said.lower().rstrip(".! "))
    if action is not None:
        return Asked(action)
    note = _NOTE.fullmatch(said)
    if note is None:
        return None
    asked = Asked.note("\n".join([note[1], *_own(lines[1:])]))
    return asked if asked.text else None


def _own(lines: Sequence[str]) -> list[str]:
    end = next((at for at, line in enumerate(lines) if _END.match(line) or _attributes(lines[at:])), len(lines))
    return list(lines[:end])


def _attributes(lines: Sequence[str]) -> bool:
    """Whether it is the line that says whose words are quoted below, or one of those into which it was broken."""
    for number, line in enumerate(lines[:_ATTRIBUTION]):
        if not line.strip():
            return False
        if line.rstrip().endswith(":"):
            following = next((each for each in lines[number + 1 :] if each.strip()), "")
            return _QUOTED.match(following) is not None
    return False
