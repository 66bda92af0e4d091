"""What the patterns of the contracts ask for, in words: callers should not have to read regular expressions."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

_SAID: Final = re.compile(r"does not match regex pattern `(.+)`", re.DOTALL)
_ID: Final = "lower-case letters, digits, `.`, `_` and `-`, at most 63, the first a letter or a digit"
_WORDS: Final[tuple[tuple[re.Pattern[str], Callable[[str], str]], ...]] = tuple(
    (re.compile(re.escape(pattern).replace("COLLECTION", "([a-zA-Z]+)")), words)
    for pattern, words in (
        ("^COLLECTION/[a-z0-9][a-z0-9._-]{0,62}$", lambda name: f"must be `{name}/` and an id of {_ID}"),
        ("^COLLECTION/[0-9a-f-]{36}$", lambda name: f"must be `{name}/` and a UUID in lower case"),
        (
            "^queues/[a-z0-9][a-z0-9._-]{0,62}/tasks/[a-zA-Z]{1,32}[.][0-9a-f-]{36}$",
            lambda _: "must be the name of a task, as ListTasks tells it: `queues/{queue}/tasks/{kind}.{UUID}`",
        ),
        ("^(en|de)?$", lambda _: "must be `en` or `de`, or empty for all languages"),
        ("^[a-z0-9][a-z0-9._-]{0,62}$", lambda _: f"must be of {_ID}"),
        ("^([01][0-9]|2[0-3]):[0-5][0-9]$", lambda _: "must be a time of day, as `09:00`"),
        ("^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", lambda _: "must be a time of day, as `17:00`, or `24:00`"),
        (
            "^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}$",
            lambda _: "must be a local time without seconds and without an offset, as `2026-01-05T09:00`",
        ),
    )
)


@lru_cache(256)
def in_words(message: str) -> str:
    """A violation's message; one about a pattern that is known says what to write."""
    said = _SAID.fullmatch(message)
    for pattern, words in _WORDS if said else ():
        found = pattern.fullmatch(said.group(1)) if said else None
        if found is not None:
            return words(found.group(1) if pattern.groups else "")
    return message
