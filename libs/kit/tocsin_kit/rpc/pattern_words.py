"""What the patterns of the contracts ask for, in words: callers should not have to read regular expressions."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

_SAID: Final = re.compile(r"does not match regex pattern `(.+)`", re.DOTALL)
_NOTHING: Final = {
    "must be at least 1 characters": "must not be empty",
    "must contain at least 1 item(s)": "must have at least one entry",
}
_ID: Final = "lower-case letters, digits, `.`, `_` and `-`, at most 63, the first a letter or a digit"
_URL: Final = "must begin with `https://` or `http://`"
_TENANT: Final = "letters, digits, `.`, `_`, `:` and `-`, at most 100, the first a letter or a digit"
_WORDS: Final[tuple[tuple[re.Pattern[str], Callable[..., str]], ...]] = tuple(
    (re.compile(re.escape(pattern).replace("COLLECTION", "([a-zA-Z]+)")), words)
    for pattern, words in (
        ("^COLLECTION/[a-z0-9][a-z0-9._-]{0,62}$", lambda name: f"must be `{name}/` and an id of {_ID}"),
        (
            "^COLLECTION/([a-z0-9][a-z0-9._-]{0,62}|[*])$",
            lambda name: f"must be `{name}/` and an id of {_ID}, or `{name}/*`",
        ),
        (
            "^(COLLECTION|COLLECTION)/[a-z0-9][a-z0-9._-]{0,62}$",
            lambda one, other: f"must be `{one}/` or `{other}/` and an id of {_ID}",
        ),
        (
            "^(COLLECTION|COLLECTION)/[A-Za-z0-9._-]{1,128}$",
            lambda one, other: (
                f"must be `{one}/` or `{other}/` and an id of letters, digits, `.`, `_` and `-`, at most 128"
            ),
        ),
        ("^COLLECTION/[0-9a-f-]{36}$", lambda name: f"must be `{name}/` and a UUID in lower case"),
        ("^COLLECTION/[1-9][0-9]{0,17}$", lambda name: f"must be `{name}/` and a number"),
        (
            "^queues/[a-z0-9][a-z0-9._-]{0,62}/tasks/[a-zA-Z]{1,32}[.][0-9a-f-]{36}$",
            lambda: "must be the name of a task, as ListTasks tells it: `queues/{queue}/tasks/{kind}.{UUID}`",
        ),
        ("^(en|de)?$", lambda: "must be `en` or `de`, or empty"),
        ("^[a-z0-9][a-z0-9._-]{0,62}$", lambda: f"must be of {_ID}"),
        ("^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$", lambda: f"must be of {_TENANT}"),
        ("^([*]|[A-Za-z0-9][A-Za-z0-9._:-]{0,99})$", lambda: f"must be of {_TENANT}; or `*`"),
        ("^([01][0-9]|2[0-3]):[0-5][0-9]$", lambda: "must be a time of day, as `09:00`"),
        ("^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", lambda: "must be a time of day, as `17:00`, or `24:00`"),
        (
            "^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}$",
            lambda: "must be a local time without seconds and without an offset, as `2026-01-05T09:00`",
        ),
        (
            "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?$",
            lambda: "must be a local time without an offset, as `2026-01-05T09:00`",
        ),
        ("^(?i:https?)://", lambda: _URL),
        ("^https?://", lambda: _URL),
        ("^[A-Za-z0-9]{1,32}://", lambda: "must begin with a scheme and `://`, as `tgram://`"),
        ("^[+][0-9 ().-]{5,30}$", lambda: "must be a number in international form, as `+4915112345678`"),
        ("^[A-Z]{2}$", lambda: "must be two capital letters, as `DE`"),
        ("^[a-z]{1,30}:[a-z]{1,30}$", lambda: "must be two words in lower case with a colon between them"),
        ("^[A-Za-z0-9-]{0,32}$", lambda: "must be letters, digits and hyphens, at most 32"),
        ("^[A-Za-z0-9-]{1,100}$", lambda: "must be letters, digits and hyphens, 1 to 100"),
        ("^[A-Za-z -]*$", lambda: "must be letters, spaces and hyphens"),
        ("^[A-Za-z0-9_.-]*$", lambda: "must be letters, digits, `_`, `.` and `-`"),
        ("^[A-Za-z0-9]{30}$", lambda: "must be 30 letters and digits"),
        ("^[0-9]{6}$", lambda: "must be six digits"),
        ("^-?[0-9]{1,15}$", lambda: "must be a whole number of at most 15 digits"),
        ("^[CGDUW][A-Z0-9]{6,20}$", lambda: "must be an ID as `C0123456789` or `U0123456789`"),
        ("^S[A-Z0-9]{6,20}$", lambda: "must be an ID as `S0604QSJC`"),
    )
)


@lru_cache(256)
def in_words(message: str) -> str:
    """A violation's message; one about a pattern that is known says what to write, and one about nothing says so."""
    if message in _NOTHING:
        return _NOTHING[message]
    said = _SAID.fullmatch(message)
    for pattern, words in _WORDS if said else ():
        found = pattern.fullmatch(said.group(1)) if said else None
        if found is not None:
            return words(*found.groups())
    return message
