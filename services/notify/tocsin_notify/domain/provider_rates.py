"""How many calls a second providers allow the operator's accounts, as a setting gives it."""

import re
from typing import Final

from tocsin_notify.domain.page import ONE_ACCOUNT, Channel

_RATE: Final = re.compile(f"({'|'.join(ONE_ACCOUNT)})=([1-9][0-9]{{0,5}})")


def read_rates(text: str) -> dict[Channel, int]:
    """`telegram=30,sms=10`; the last one of a channel counts. Raises ValueError."""
    rates = {}
    for part in text.split(",") if text else ():
        match = _RATE.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                "must be pairs of channel and calls per second separated by commas, such as telegram=30,sms=10; "
                f"channels are {', '.join(ONE_ACCOUNT)}"
            )
        rates[Channel(match[1])] = int(match[2])
    return rates


def checked_rates(text: str) -> str:
    """The same text, once it was read. Raises ValueError."""
    read_rates(text)
    return text
