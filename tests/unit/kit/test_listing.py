"""Pages of lists: as many items as are wanted and as fit, each once and in order, for any sizes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tocsin_kit import time_slices
from tocsin_kit.auth import SigningKeys
from tocsin_kit.rpc import listing
from tocsin_kit.rpc.call import enter
from tocsin_kit.rpc.listing import ANSWER_BYTES, filled, listed, made_in_slices, searched
from tocsin_kit.rpc.paging import PageTokens

from tests.unit.kit.test_paging import call

TOKENS = PageTokens(SigningKeys((("new", b"k" * 32),)))
PORTION = 4


class Table:
    """Rows that are known by their numbers, of these sizes."""

    def __init__(self, echo: Any, sizes: Sequence[int]) -> None:
        self.echo = echo
        self.sizes = sizes
        self.asked: list[int] = []

    async def read(self, after: Any, limit: int) -> Sequence[int]:
        self.asked.append(limit)
        return range(len(self.sizes))[after[0] + 1 :][:limit]

    async def search(self, after: Any, limit: int) -> tuple[Sequence[int], tuple[int] | None]:
        """As a search that looks at three rows and finds what is not empty among them."""
        self.asked.append(limit)
        looked_at = range(len(self.sizes))[after[0] + 1 :][:3]
        found = [row for row in looked_at if self.sizes[row]]
        more = bool(looked_at) and looked_at[-1] + 1 < len(self.sizes)
        return found[:limit], (found[limit - 1],) if len(found) > limit else (looked_at[-1],) if more else None

    def encode(self, row: int) -> Any:
        return self.echo.Request(text="x" * self.sizes[row], page_size=row)

    async def pages(self, how: Any, read: Any, size: int) -> list[list[Any]]:
        """All pages, each until there is no token."""
        enter(call())
        pages, token = [], ""
        while True:
            request = self.echo.Request(page_size=size, page_token=token)
            found, token = await how(TOKENS, request, (-1,), read, self.encode, lambda row: (row,), portion=PORTION)
            pages.append(found)
            if not token:
                return pages


@given(
    st.lists(st.sampled_from((0, 1, ANSWER_BYTES // 3, ANSWER_BYTES - 9, ANSWER_BYTES, ANSWER_BYTES * 2)), max_size=14),
    st.integers(1, 9),
)
@example([], 1)
@example([1] * 9, 9)
async def test_every_row_is_told_once_and_no_page_is_large(echo: Any, sizes: list[int], size: int) -> None:
    table = Table(echo, sizes)
    pages = await table.pages(listed, table.read, size)
    assert [each.page_size for page in pages for each in page] == [*range(len(sizes))]
    assert all(len(page) <= size for page in pages)
    assert all(len(page) == 1 or sum(each.ByteSize() for each in page) <= ANSWER_BYTES for page in pages if page)
    assert max(table.asked) <= PORTION + 1


@given(st.lists(st.sampled_from((0, 1, ANSWER_BYTES // 2)), max_size=14), st.integers(1, 9))
async def test_a_search_goes_on_where_it_stopped(echo: Any, sizes: list[int], size: int) -> None:
    table = Table(echo, sizes)
    pages = await table.pages(searched, table.search, size)
    assert [each.page_size for page in pages for each in page] == [n for n, each in enumerate(sizes) if each]


async def test_a_page_of_small_rows_is_full(echo: Any) -> None:
    table = Table(echo, [1] * 20)
    assert [len(page) for page in await table.pages(listed, table.read, 9)] == [9, 9, 2]


@pytest.mark.parametrize(
    ("sizes", "fit"),
    [([], 0), ([1, 1], 2), ([ANSWER_BYTES * 2, 1], 1), ([ANSWER_BYTES // 2, 1, ANSWER_BYTES // 2], 2)],
)
async def test_a_page_takes_as_many_rows_as_fit(echo: Any, sizes: list[int], fit: int) -> None:
    table = Table(echo, sizes)
    found, count = await filled(
        range(len(sizes)), lambda row: [table.encode(row)] * 2 if sizes[row] == 1 else [table.encode(row)]
    )
    assert count == fit
    assert list(dict.fromkeys(each.page_size for each in found)) == [*range(fit)]


@pytest.mark.parametrize("how", ["listed", "made_in_slices", "filled"])
async def test_others_have_their_turns_between_the_rows(echo: Any, monkeypatch: Any, how: str) -> None:
    monkeypatch.setattr(time_slices, "SLICE_SECONDS", 0.0)
    table, ran = Table(echo, [1] * PORTION), list[None]()

    async def other() -> None:
        while True:
            ran.append(None)
            await asyncio.sleep(0)

    def encode(row: int) -> Any:
        before.append(len(ran))
        return table.encode(row)

    enter(call())
    before: list[int] = []
    running = asyncio.create_task(other())
    if how == "listed":
        await listing.listed(TOKENS, echo.Request(), (-1,), table.read, encode, lambda row: (row,))
    elif how == "filled":
        await filled(range(PORTION), lambda row: [encode(row)])
    else:
        await made_in_slices(range(PORTION), encode)
    running.cancel()
    assert before == sorted(set(before))
    assert len(before) == PORTION
