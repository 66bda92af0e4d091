"""Reads TwiML as twilio.com/docs/voice/twiml describes it, and takes nothing else."""

from dataclasses import dataclass
from urllib.parse import urljoin
from xml.etree import ElementTree

LONGEST = 4000
"""Characters of TwiML in a request."""
_VERBS = {"Say", "Pause", "Hangup", "Gather"}
_INSIDE_GATHER = {"Say", "Pause"}


@dataclass(frozen=True, slots=True)
class Script:
    """What a call does next: `says` in order; `action` is where a key is told, and empty if none is taken."""

    says: tuple[str, ...]
    action: str = ""
    after: str = ""
    """What is said when no key was pressed."""


def read(text: str, base: str = "") -> Script:
    """Raises ValueError for what is no TwiML. `base`: the URL that the document came from, if it came from one."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"12100 Document parse failure: {error}") from error
    if root.tag != "Response":
        raise ValueError(f"12100 the root is {root.tag}")
    says: list[str] = []
    after: list[str] = []
    action = ""
    for verb in root:
        if verb.tag not in _VERBS:
            raise ValueError(f"12200 {verb.tag} is no verb")
        if verb.tag == "Gather":
            if verb.get("numDigits") != "1" or verb.get("method") != "POST":
                raise ValueError("13314 one digit is taken, by POST")
            action = urljoin(base, verb.get("action", ""))
            if not action.startswith(("http://", "https://")):
                raise ValueError("11100 the action is no absolute URL")
            if any(inner.tag not in _INSIDE_GATHER for inner in verb):
                raise ValueError("12200 a verb that Gather does not hold")
            says += [inner.text or "" for inner in verb if inner.tag == "Say"]
        elif verb.tag == "Say":
            (after if action else says).append(verb.text or "")
    return Script(tuple(says), action, " ".join(after))
