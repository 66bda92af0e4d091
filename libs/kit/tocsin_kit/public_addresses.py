"""The rule of which addresses are public. A module of its own, so that it can be used in a process that loads no other part of
the kit."""

import ipaddress
from typing import Final

# Ranges of IPv6 that carry an IPv4 address, and where it lies: RFC 6052 (NAT64), RFC 3056 (6to4).
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.ip_network("64:ff9b:1::/48")
_SPECIAL_V4: Final = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("192.88.99.0/24"))
_SPECIAL_V6: Final = (_NAT64_LOCAL, ipaddress.ip_network("3fff::/20"), ipaddress.ip_network("5f00::/16"))
"""Of IANA's registries of special addresses (RFC 6890): what some of the supported versions of Python take for public. A cloud
answers with the secrets of its machines at 192.0.0.192."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: Address) -> bool:
    """Whether it is a unicast address of the public internet, also when it hides an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        hidden = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if hidden is None and address in _NAT64:
            hidden = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if hidden is not None:
            return is_public(hidden)
        if address.is_site_local or any(address in each for each in _SPECIAL_V6):
            return False
    elif any(address in each for each in _SPECIAL_V4):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def literal(host: str) -> Address | None:
    """The address a URL names directly; None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
