"""From where a credential may be used: ranges of addresses in CIDR form (RFC 4632, RFC 4291).

The address is that of the connection, or the one that trusted proxies report (`tocsin_kit.proxies`).
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.errors import TocsinError, invalid

Ranges = tuple[IPv4Network | IPv6Network, ...]

_LOCAL: Final = IPv6Network("fc00::/7")
_NAT64: Final = IPv6Network("64:ff9b::/96")


def host_of(peer: str) -> str:
    """The host in a peer as gRPC writes it (`ipv4:10.0.0.1:5000`, `ipv6:%5B::1%5D:5000`), or an address alone."""
    kind, _, rest = peer.partition(":")
    host = rest.rpartition(":")[0] if kind in ("ipv4", "ipv6") else peer
    return host.replace("%5B", "").replace("%5D", "").strip("[]").partition("%")[0]


def address_of(peer: str) -> IPv4Address | IPv6Address | None:
    """The address of a peer, an IPv4 one in IPv6 form as IPv4. None for a Unix socket."""
    try:
        address = ip_address(host_of(peer))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


@lru_cache(4096)
def source_of(peer: str) -> str:
    """The address by which connections, calls and failures are counted: of public IPv6 the first 64 bits.

    A subscriber's network has at least 64 bits for hosts (RFC 4291, RFC 6177), so one machine can have any number of addresses in
    it. Local networks (RFC 4193, and of one link) give each machine an address, as those of containers do: there each counts.
    What a NAT64 translates (RFC 6052) counts by its IPv4 address. `peer` is as gRPC writes it (`ipv4:10.0.0.1:5000`,
    `ipv6:%5B::1%5D:5000`) or an address alone.
    """
    address = address_of(peer)
    if address is None:
        return host_of(peer)[:64]
    if not isinstance(address, IPv6Address) or address.is_link_local or address in _LOCAL:
        return str(address)
    if address in _NAT64:
        return str(IPv4Address(address.packed[-4:]))
    return str(ip_network((address, 64), strict=False))


def is_among(ranges: Ranges, address: IPv4Address | IPv6Address | None) -> bool:
    """Whether the address lies in one of the ranges."""
    return address is not None and any(address in each for each in ranges)


def parse_ranges(given: Sequence[str], field: str) -> Ranges:
    """Ranges as people wrote them, each once. Raises INVALID_FIELD, which names the place in `field`."""
    return tuple(dict.fromkeys(_range(text, f"{field}[{position}]") for position, text in enumerate(given)))


def read_ranges(stored: Sequence[str]) -> Ranges:
    """Ranges that `parse_ranges` has let through before."""
    return tuple(map(ip_network, stored))


def source_not_allowed(address: IPv4Address | IPv6Address | None) -> TocsinError:
    """SOURCE_NOT_ALLOWED."""
    shown = "a local socket" if address is None else str(address)
    return TocsinError(
        ErrorReason.ERROR_REASON_SOURCE_NOT_ALLOWED,
        f"the credential may not be used from {shown}, which is none of its source ranges; behind a NAT its address "
        "counts, and behind a proxy, too, unless the operator trusts it (TRUSTED_PROXIES)",
        metadata={"address": shown},
    )


def _range(text: str, field: str) -> IPv4Network | IPv6Network:
    try:
        if "%" in text:
            raise ValueError("a zone is known to one host only")
        found = ip_network(text, strict=False)
    except ValueError:
        raise invalid(
            field, "must be an address or a range in CIDR form, such as 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    if "/" in text and ip_address(text.partition("/")[0]) != found.network_address:
        raise invalid(field, f"has bits beyond its prefix; the range is {found}")
    if isinstance(found, IPv6Network) and found.network_address.ipv4_mapped is not None:
        raise invalid(field, "is an IPv4 address in IPv6 form; write it as IPv4, such as 192.0.2.0/24")
    return found
