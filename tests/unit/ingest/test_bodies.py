"""Bodies that are not taken: what was read of them is gone at once, as the budget has it."""

import zlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tocsin_ingest.http.body import Bodies, Refused
from tocsin_kit.errors import TocsinError

LIMIT = 1 << 20


class Content:
    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = list(pieces)

    async def readany(self) -> bytes:
        piece = self._pieces.pop(0) if self._pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    def at_eof(self) -> bool:
        return not self._pieces

    def feed_eof(self) -> None:
        """Nothing waits."""


def request(*pieces: bytes | Exception, encoding: str = "") -> Any:
    headers = {"Content-Encoding": encoding} if encoding else {}
    return SimpleNamespace(content_length=None, headers=headers, content=Content(*pieces))


def held_by(error: BaseException | None) -> Iterator[bytearray]:
    """By the frames of its traceback, and of what it came from."""
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            yield from (each for each in trace.tb_frame.f_locals.values() if isinstance(each, bytearray))
            trace = trace.tb_next
        error = error.__cause__ or error.__context__


SOME = b"x" * (LIMIT // 2)
BOMB = zlib.compress(bytes(2 * LIMIT))
HALF = zlib.compress(SOME)[:-9]


@pytest.mark.parametrize(
    ("given", "budget"),
    [
        (lambda: request(SOME, SOME, SOME), 8 * LIMIT),
        (lambda: request(SOME, SOME), LIMIT),
        (lambda: request(SOME, SOME, ConnectionResetError()), 8 * LIMIT),
        (lambda: request(BOMB, encoding="deflate"), 8 * LIMIT),
        (lambda: request(BOMB, encoding="deflate"), LIMIT),
        (lambda: request(HALF, encoding="deflate"), 8 * LIMIT),
        (lambda: request(HALF, ConnectionResetError(), encoding="deflate"), 8 * LIMIT),
    ],
    ids=["too large", "no room", "cut off", "bomb", "bomb without room", "half a bomb", "bomb cut off"],
)
async def test_a_body_that_is_not_taken_is_held_by_nothing(given: Any, budget: int) -> None:
    """Its error has a traceback, and twenty bodies of 32 MiB waited there for the cycle collector: 1 GB after a few rounds."""
    bodies = Bodies(limit=LIMIT, budget=budget)
    bodies.held = LIMIT // 4 if budget == LIMIT else 0
    with pytest.raises((Refused, TocsinError)) as caught, bodies.lend() as loan:
        await loan.read(given())
    found = list(held_by(caught.value))
    assert found
    assert not any(found)
