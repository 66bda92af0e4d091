"""Slack's text format (docs.slack.dev/messaging/formatting-message-text): what people write as plain text, and plain text in it."""

import re
from typing import Final

_SPECIAL: Final = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")
_ESCAPED: Final = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))


def plain(text: str) -> str:
    """Mentions by the name that stands in them, else by their ID; links with their text; `&`, `<` and `>` as they were typed."""
    text = _SPECIAL.sub(lambda found: _said(found[1], found[2] or ""), text)
    for escaped, character in _ESCAPED:
        text = text.replace(escaped, character)
    return text


def literal(text: str) -> str:
    """As Slack shows it letter by letter: a mention or a link in it is none."""
    for escaped, character in reversed(_ESCAPED):
        text = text.replace(character, escaped)
    return text


def _said(target: str, label: str) -> str:
    match target[:1]:
        case "@" | "#":
            return target[:1] + (label or target[1:]).removeprefix(target[:1])
        case "!":
            return label or f"@{target[1:].partition('^')[0]}"
        case _:
            return target if not label or label in target else f"{label} ({target})"
