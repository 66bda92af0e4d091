"""The answer of a person by mail: one word above the quoted mail, such as `ack`, or `note` and a text.

The words are those of text messages. Quoted text never counts, wherever it stands. It may hold words of other people
and of alerts, and the link by which this person answers, which a note must not publish.
"""

import re
from collections.abc import Sequence
from typing import Final

from tocsin_notify.domain.action import WORDS, Asked

_QUOTED: Final = re.compile(r"\s*>")
_NOTE: Final = re.compile(r"note(?:\s*[:,]\s*|\s+|$)(.*)", re.IGNORECASE)
# Of a line of dashes `-{2,}.*-{2,}` would try every way to part it in three: hours for one of 16 KiB.
_END: Final = re.compile(r"\s*>|--\s*$|_{5,}|--.*--\s*$")
"""What follows is quoted, or a signature (RFC 3676 §4.3), or the mail that is answered, as Outlook puts it."""
_BEGINNING: Final = 8
"""Lines of the rest that are checked for being quoted."""
_ATTRIBUTION: Final = 3
"""Lines into which mail programs break the sentence `On …, NAME wrote:`."""
_MAILBOX: Final = re.compile(r"[<\[](?:mailto:)?[^\s<>\[\]@]{1,64}@[^\s<>\[\]@]{1,255}[>\]]")
_FIELD: Final = re.compile(r"\s*\*?[^\W\d_][\w .-]{0,20}\*?\s?[:\uff1a].*")
_FIELDS: Final = 3
"""Lines of the head that Outlook puts before the quoted mail: `From: Tocsin <page@example.com>`, `Sent: …`, `To: …`, in
any language."""
_UNSEEN: Final = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
"""Spaces, and characters without a width, which editors of mail programs leave at the ends of lines."""


def read_mail_reply(text: str, link: str = "") -> Asked | None:
    """The meaning of the first line that the person wrote; None if it begins with no known word.

    `text`: the body as plain text. `link`: the start of every answer link; empty if there are no links.
    """
    lines = [line.strip(_UNSEEN) for line in text.split("\n")]
    for number, line in enumerate(lines):
        if not line or _QUOTED.match(line):
            continue
        asked = _asked(lines[number:], link)
        if asked is not None or not _attributes(lines[number : number + _BEGINNING]):
            return asked
    return None


def _asked(lines: Sequence[str], link: str) -> Asked | None:
    said = lines[0]
    action = WORDS.get(said.lower().rstrip(".! "))
    if action is not None:
        return Asked(action)
    note = _NOTE.fullmatch(said)
    if note is None:
        return None
    asked = Asked.note("\n".join(_own([note[1], *lines[1:]], link)))
    return asked if asked.text else None


def _own(lines: Sequence[str], link: str) -> list[str]:
    end = next((at for at in range(len(lines)) if _ends(lines[at : at + _BEGINNING], link)), len(lines))
    return list(lines[:end])


def _ends(lines: Sequence[str], link: str) -> bool:
    """Whether the person's own text ends before these lines. The link ends it where no program has marked the quoted
    text."""
    return bool(_END.match(lines[0]) or _attribution(lines) or _heads(lines) or (link and link in lines[0]))


def _attributes(lines: Sequence[str]) -> bool:
    """Whether it is the line that names the author of the quoted text, or a part of that line."""
    broken = _attribution(lines)
    return bool(broken) and _is_quoted(lines[broken:])


def _attribution(lines: Sequence[str]) -> int:
    """How many lines the sentence has that names the author of the text that follows; 0: it is no such sentence.

    That text is marked as quoted, or the sentence has the address of its author.
    """
    for number, line in enumerate(lines[:_ATTRIBUTION], 1):
        if not line:
            break
        if line.endswith((":", "\uff1a")):
            named = _MAILBOX.search(" ".join(lines[:number]))
            return number if named or _is_quoted(lines[number:]) else 0
    return 0


def _is_quoted(lines: Sequence[str]) -> bool:
    return _QUOTED.match(next(filter(None, lines), "")) is not None


def _heads(lines: Sequence[str]) -> bool:
    """Whether they are the head of the quoted mail, as Outlook puts it."""
    fields = lines[:_FIELDS]
    return len(fields) == _FIELDS and all(map(_FIELD.fullmatch, fields)) and _MAILBOX.search(fields[0]) is not None
