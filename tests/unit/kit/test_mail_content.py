"""Where a mail ends and what its lines are, in any pieces."""

import random

import pytest
from tocsin_kit.mail.content import MailContent

MOST = 1000
ALPHABET = (b"\r", b"\n", b"\r\n", b".", b"x", b"\r\n.", b".\r\n", b"\r\n.\r\n")


def by_lines(sent: bytes) -> tuple[bytes, bytes]:
    """As RFC 5321 says it: the lines before the one that is a dot, and what comes behind it."""
    lines = list[bytes]()
    while True:
        line, end, sent = sent.partition(b"\r\n")
        assert end, "it has no end"
        if line == b".":
            return b"".join(lines), sent
        lines.append(line.removeprefix(b".") + end)


def fed(content: MailContent, sent: bytes, most: int, rng: random.Random) -> bytes:
    """What comes behind the mail."""
    while True:
        size = rng.randint(1, most)
        piece, sent = sent[:size], sent[size:]
        behind = content.feed(piece)
        if behind is not None:
            return behind + sent
        assert piece, "its end was not found"


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_it_is_the_same_in_any_pieces(most: int) -> None:
    rng = random.Random(most)
    for _ in range(400):
        sent = b"".join(rng.choices(ALPHABET, k=rng.randint(0, 40))) + b"\r\n.\r\nRSET\r\n"
        wanted, behind = by_lines(sent)
        content = MailContent(MOST)
        assert fed(content, sent, most, rng) == behind
        assert content.taken == wanted
        assert content.came == len(sent) - len(behind) - len(b".\r\n")


@pytest.mark.parametrize("line", [b"\r\n", b".\r\n..", b"x" * 999 + b"\r\n"])
def test_what_is_too_large_is_counted_and_not_kept(line: bytes) -> None:
    content = MailContent(MOST)
    content.feed(b"x")
    for _ in range(3000):
        assert content.feed(line) is None
        assert len(content._taken) <= MOST
        assert len(content._held) <= 10
    assert content.feed(b"\r\n.\r\n") == b""
    assert content.taken is None
    assert content.came > 2 * MOST
