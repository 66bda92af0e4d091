"""Which URLs a webhook may have, and what is called by them."""

from itertools import product

import pytest
from tocsin_notify.channels.urls import BadUrl, read_url


@pytest.mark.parametrize(
    ("written", "called"),
    [
        ("https://example.com", "https://example.com/"),
        ("https://example.com?x=1", "https://example.com/?x=1"),
        ("https://example.com/a#part", "https://example.com/a"),
        ("https://Example.COM:443/A", "https://example.com/A"),
        ("https://example.com:/a", "https://example.com/a"),
        ("https://example.com./a", "https://example.com./a"),
        ("https://example.com/ü?ß=|", "https://example.com/%C3%BC?%C3%9F=%7C"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("http://[2606:4700::1111]:8080/", "http://[2606:4700::1111]:8080/"),
        ("http://1.1.1.1:0080/", "http://1.1.1.1/"),
        ("http://a_b.example/", "http://a_b.example/"),
        ("https://" + "a" * 63 + ".example/", "https://" + "a" * 63 + ".example/"),
    ],
)
def test_what_is_called(written: str, called: str) -> None:
    assert str(read_url(written, allow_private=False)) == called


HOSTS = [
    *(
        "",
        ".",
        "a..b",
        ".a",
        "a" * 64 + ".example",
        "a" * 70,
        ".".join(["a" * 50] * 6),
        "-a.example",
        "a b",
        "a%2e",
        "a\\b",
    ),
    *("127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.01", "1.2.3", "1.2.3.4.5", "256.1.1.1"),
    *(
        "127.0.0.1.",
        "１２７.1",
        "example.0x1",
        "example.123",
        "0x",
        "a,b",
        "a;b",
        "*",
        "a'b",
        "[::1",
        "[]",
        "::1",
        "[::g]",
    ),
    *(
        "[fe80::1%25eth0]",
        "[127.0.0.1]",
        "[v1.x]",
        "[::1]x",
        "ü" * 60 + ".example",
        "\u200d",
        "me@example.com",
        "u:p@h",
    ),
]
PORTS = ["0", "65536", "99999", "-1", "+80", "8a", "８０", "1" * 400, "80:80"]


@pytest.mark.parametrize(
    "authority",
    [*(host + port for host, port in product(HOSTS, ("", ":8080"))), *(f"example.com:{port}" for port in PORTS)],
)
def test_hosts_that_can_never_be_called(authority: str) -> None:
    for allow_private in (True, False):
        with pytest.raises(BadUrl, match=r"^must "):
            read_url(f"https://{authority}/hook", allow_private=allow_private)


@pytest.mark.parametrize(
    "text", ["", "https:/x", "ftp://x/", "https:///x", "https://x/ y", "https://x/\ny", "//x", "x"]
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(BadUrl, match=r"^must "):
        read_url(text, allow_private=True)


PRIVATE = ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]"]
PRIVATE += ["[::ffff:10.0.0.1]", "１２７.0.0.1", "127。0。0。1"]


@pytest.mark.parametrize("host", PRIVATE)
def test_private_hosts_need_the_operators_leave(host: str) -> None:
    read_url(f"http://{host}/", allow_private=True)
    with pytest.raises(BadUrl, match="private address"):
        read_url(f"http://{host}/", allow_private=False)
