"""Reads all URLs that people enter and that a service calls.

A URL that passes can be called by the HTTP client as it was written: percent-encoding, the order of a query, `//` and
`..` stay as they are, since signed URLs break when a byte changes. Characters that no URI may hold (RFC 3986 §2) are
percent-encoded as UTF-8 (RFC 3987 §3.1), and a host in another script is written in ASCII (IDNA).

Hosts that look like numbers must be an IPv4 address of four decimal parts. The C library also reads `127.1`,
`2130706433` and `0x7f.1` as addresses, and URL libraries do not; a host that two programs read differently is refused.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from yarl import URL

from tocsin_kit.public_addresses import is_public, literal

_FORM: Final = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE)
_FORBIDDEN: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_AS_WRITTEN: Final = "!#$%&'()*+,/:;=?@[]~"
"""Beside letters, digits and `-._~`: what stays in a path or a query as it is."""
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_LONGEST_NAME: Final = 253
_LONGEST_TARGET: Final = 8000
"""Bytes of path and query, once encoded: what RFC 9110 §4.1 asks every receiver to take."""
_SHAPE: Final = "must be an http or https URL with a host, such as https://example.com/path"


class BadUrl(ValueError):
    """Nothing can be called by this URL."""


@lru_cache(maxsize=1024)
def read_url(text: str, *, allow_private: bool) -> URL:
    """The URL as it is called. Raises BadUrl; unless `allow_private`, also for addresses that are visibly private.

    Names that lead to private addresses are found when they are resolved (`addresses.PublicResolver`).
    """
    form = None if _FORBIDDEN.search(text) else _FORM.fullmatch(text)
    if form is None:
        raise BadUrl(_SHAPE)
    scheme, authority, path, query = form.groups()
    if "@" in authority:
        raise BadUrl("must not hold a user name or password; leave them out")
    host, port = _split(authority)
    host = _address6(host) if host.startswith("[") else _name(host)
    if not allow_private and _is_private(host):
        raise BadUrl("leads to a private address, which this installation does not call")
    target = _encoded(path or "/"), _encoded(query or "")
    if sum(map(len, target)) > _LONGEST_TARGET:
        raise BadUrl(f"must have at most {_LONGEST_TARGET} bytes of path and query once it is percent-encoded")
    return URL.build(scheme=scheme.lower(), host=host, port=port, path=target[0], query_string=target[1], encoded=True)


def _split(authority: str) -> tuple[str, int | None]:
    """Host and port; None stands for the scheme's own, also when nothing follows the colon (RFC 3986 §3.2.3)."""
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):  # the last colon is inside of an IPv6 address
        return authority, None
    if not port:
        return host, None
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise BadUrl("must have a port from 1 to 65535, or none")
    return host, int(port)


def _address6(host: str) -> str:
    try:
        if not host.endswith("]") or "%" in host:  # a zone means nothing beyond one machine
            raise ValueError
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    except ValueError as error:
        raise BadUrl("must have an IPv6 address without a zone in its brackets") from error


def _name(host: str) -> str:
    """A name in lower case ASCII, or an IPv4 address."""
    if not host:
        raise BadUrl(_SHAPE)
    if not host.isascii():
        try:
            host = URL.build(scheme="http", host=host).raw_host or ""
        except ValueError as error:
            raise BadUrl("must have a host that IDNA can write in ASCII") from error
    host = host.lower()
    labels = host.removesuffix(".").split(".")
    if len(host.removesuffix(".")) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)) or host.startswith("-"):
        raise BadUrl(
            f"must have a host of at most {_LONGEST_NAME} letters, digits and hyphens, with 1 to 63 between two dots"
        )
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError as error:
            raise BadUrl("must write an IPv4 address as four decimal numbers, such as 192.0.2.1") from error
    return host


def _is_private(host: str) -> bool:
    name = host.removesuffix(".")
    address = literal(host)
    return name == "localhost" or name.endswith(".localhost") or (address is not None and not is_public(address))


def _encoded(text: str) -> str:
    return quote(text, safe=_AS_WRITTEN)
