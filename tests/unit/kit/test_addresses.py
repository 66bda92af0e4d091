"""Which addresses a webhook may reach."""

import ipaddress

import pytest
from tocsin_kit.addresses import NoPublicAddress, PublicResolver
from tocsin_kit.public_addresses import is_public, literal

PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1"),
    *("255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2002:0a00:0001::1", "fec0::1", "2001:db8::1"),
]
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]

SPECIAL = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "2001::/23"),
    *("2001:db8::/32", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
)
"""IANA's registries of special addresses: ranges that are not reachable from everywhere, or lead to no single host."""


def test_no_range_of_special_addresses_is_public() -> None:
    """Whichever version of Python it runs on: some take 192.0.0.192, at which a cloud answers with secrets, for public."""
    networks = [ipaddress.ip_network(each) for each in SPECIAL]
    ends = [network[at] for network in networks for at in (0, 1, network.num_addresses // 2 + 7, -1)]
    assert [str(each) for each in (*ends, ipaddress.ip_address("192.0.0.192")) if is_public(each)] == []


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_in_every_disguise(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_literals() -> None:
    assert literal("[::1]") == ipaddress.ip_address("::1")
    assert literal("fe80::1%eth0") == ipaddress.ip_address("fe80::1")
    assert literal("example.com") is None


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "nowhere.invalid"])
async def test_what_the_system_resolves_to_a_private_address_is_refused(host: str) -> None:
    resolver = PublicResolver(allow_private=False)
    with pytest.raises(NoPublicAddress, match=f"^{host} leads to no public address, or cannot be resolved$"):
        await resolver.resolve(host, 80)
    await resolver.close()
    if host == "nowhere.invalid":  # the same words as for a name that is there
        return
    open_resolver = PublicResolver(allow_private=True)
    assert {entry["host"] for entry in await open_resolver.resolve(host, 80)} <= {"127.0.0.1", "::1"}
    await open_resolver.close()
