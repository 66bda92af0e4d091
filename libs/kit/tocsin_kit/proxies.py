"""The address of a caller behind proxies.

Each proxy adds the address of its own caller at the end of `X-Forwarded-For`. Entries that trusted proxies have added count; the
caller wrote the entries before them, and may have invented them. So the list is read from its end, up to the first address that
is no trusted proxy. Without trusted proxies no header is read.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from tocsin_kit.errors import TocsinError
from tocsin_kit.keys.sources import Ranges, address_of, is_among, parse_ranges

HEADER: Final = "x-forwarded-for"
_MOST: Final = 32
"""Addresses that are examined: no installation has as many proxies in a row, and a caller may send any number."""


class Proxies:
    """The proxies that may report the address of a caller."""

    def __init__(self, trusted: Ranges = ()) -> None:
        self._trusted = trusted

    @classmethod
    def parse(cls, text: str) -> "Proxies":
        """From addresses and ranges in CIDR form, separated by commas. Raises ValueError, which says what is wrong with which."""
        try:
            ranges = parse_ranges([each.strip() for each in text.split(",")] if text.strip() else (), "TRUSTED_PROXIES")
        except TocsinError as error:
            [violation] = error.fields
            raise ValueError(f"{violation.field}: {violation.description}") from None
        for each in ranges:
            if each.prefixlen == 0:
                raise ValueError(f"{each} is every address there is: then any caller could say it were another one")
        return cls(ranges)

    def __bool__(self) -> bool:
        return bool(self._trusted)

    def trusts(self, peer: str) -> bool:
        """Whether a connection from `peer` is one of a trusted proxy."""
        return bool(self._trusted) and is_among(self._trusted, address_of(peer))

    def caller(self, peer: str, forwarded: Iterable[str]) -> str:
        """The address that a call comes from.

        `peer`: where its connection comes from. `forwarded`: the values of the header, in their order. An unreadable entry ends
        the list: the last readable address is used.
        """
        if not self.trusts(peer):
            return peer
        nearest = peer
        for text in reversed(_addresses(forwarded)):
            address = address_of(_without_port(text))
            if address is None:
                break
            nearest = str(address)
            if not is_among(self._trusted, address):
                break
        return nearest


def _addresses(forwarded: Iterable[str]) -> Sequence[str]:
    return [each.strip() for each in ",".join(forwarded).rsplit(",", _MOST)[-_MOST:]]


def _without_port(text: str) -> str:
    """Some proxies add the port of their caller: `192.0.2.1:5000`, `[2001:db8::1]:5000`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
