"""The attempt that a callback is about: our own URL names it (`channels.callbacks`)."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from tocsin_kit.errors import invalid

from tocsin_notify.app.delivery.receipts import AttemptName

_LONGEST_NUMBER: Final = 9


def attempt_of(query: Mapping[str, str]) -> AttemptName:
    """Raises INVALID_FIELD."""
    try:
        number = query["attempt"]
        if not number.isascii() or not number.isdigit() or len(number) > _LONGEST_NUMBER or "\0" in query["org"]:
            raise ValueError
        return AttemptName(query["org"], UUID(query["notification"]), int(number))
    except (KeyError, ValueError) as error:
        raise invalid("query", "must name org, notification and attempt, as the callback's URL did") from error
