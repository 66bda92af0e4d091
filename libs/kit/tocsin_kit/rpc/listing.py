"""Answers to List RPCs: a page ends at a number of items or of bytes, whichever is first (AIP-158 allows fewer items).

Items may be a thousand times as large as usual, since callers decide their size. A page of 500 such items blocked the event loop
for half a second, and used 16 MB for as long as its caller did not read it; and most clients refuse more than 4 MiB.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from tocsin_kit.rpc.paging import CursorValue, PageTokens, page_size
from tocsin_kit.time_slices import TimeSlice

Row = TypeVar("Row")
M = TypeVar("M", bound=Message)
Made = TypeVar("Made")
Position = Sequence[CursorValue | None]
"""The sort key of a row; only output-only fields of rows that are not stored yet have no value."""

ANSWER_BYTES: Final = 1 << 20
"""A page has no more than this, or one item."""
MANY_ROWS: Final = 50
"""Rows of one query, for items of up to some 10 KiB."""
FEW_ROWS: Final = 16
"""Rows of one query, for items that may be larger. The size of the next ones is unknown before they are read."""
_FIRST_ROWS: Final = 4
"""Rows of the first query for those. The next ones are expected to be as large: rows that do not fit are not read."""


async def listed(
    pages: PageTokens,
    request: Message,
    first: Any,
    read: Callable[[Any, int], Awaitable[Sequence[Row]]],
    encode: Callable[[Row], M],
    place: Callable[[Row], Position],
    *,
    portion: int = MANY_ROWS,
) -> tuple[list[M], str]:
    """The messages of a page, and the token of the next one; other tasks run meanwhile.

    `read(after, limit)` returns so many rows after a position, `first` is the position before all rows, `place` returns that of a
    row.
    """

    async def stretch(after: Any, limit: int) -> tuple[Sequence[Row], Position | None]:
        rows = await read(after, limit + 1)
        return rows[:limit], place(rows[limit - 1]) if len(rows) > limit else None

    return await searched(pages, request, first, stretch, encode, place, portion=portion)


async def searched(
    pages: PageTokens,
    request: Message,
    first: Any,
    read: Callable[[Any, int], Awaitable[tuple[Sequence[Row], Position | None]]],
    encode: Callable[[Row], M],
    place: Callable[[Row], Position],
    *,
    portion: int = MANY_ROWS,
) -> tuple[list[M], str]:
    """Like `listed`, for a search that also returns where to continue: None at its end. One that finds fewer than so many ends
    the page."""
    after: Any = pages.decode(request) or first
    wanted = page_size(request.page_size)  # type: ignore[attr-defined]
    found: list[M] = []
    room, time_slice = ANSWER_BYTES, TimeSlice()
    limit = portion if portion > FEW_ROWS else min(portion, _FIRST_ROWS)
    while True:
        limit = min(limit, wanted - len(found))
        rows, end = await read(after, limit)
        for row in rows:
            await time_slice.yield_if_over()
            message = encode(row)
            room -= message.ByteSize()
            if room < 0 and found:
                return found, _token(pages, request, after)
            found.append(message)
            after = place(row)
        if end is None or len(rows) < limit or len(found) == wanted:
            return found, _token(pages, request, end) if end is not None else ""
        as_large = (ANSWER_BYTES - room) // len(found)
        limit = min(portion, room // max(1, as_large) + 1)


async def filled(rows: Sequence[Row], encode: Callable[[Row], Sequence[M]]) -> tuple[list[M], int]:
    """The messages of the first rows, as many as fit a page, and how many rows that are, at least one; other tasks run
    meanwhile."""
    time_slice, found, room = TimeSlice(), list[M](), ANSWER_BYTES
    for number, row in enumerate(rows):
        await time_slice.yield_if_over()
        messages = encode(row)
        room -= sum(message.ByteSize() for message in messages)
        if room < 0 and number:
            return found, number
        found += messages
    return found, len(rows)


async def made_in_slices(rows: Iterable[Row], function: Callable[[Row], Made]) -> list[Made]:
    """The result of the function for each of many rows; other tasks run meanwhile."""
    time_slice, made = TimeSlice(), []
    for row in rows:
        await time_slice.yield_if_over()
        made.append(function(row))
    return made


def _token(pages: PageTokens, request: Message, position: Position) -> str:
    values = [value for value in position if value is not None]
    assert len(values) == len(position), "a row that is stored has its whole key"
    return pages.encode(request, values)
