"""Rows that a statement is given come out as they were, whichever values they share."""

from typing import Any, Final

from tocsin_kit.db.pool import Database
from tocsin_kit.db.row_arrays import RowArrays

ROWS: Final = RowArrays(2, "number bigint, word text, blob bytea, maybe text, flag boolean")
STATEMENT: Final = f"SELECT $1::text AS of, number, word, blob, maybe, flag FROM {ROWS.sql} AS u"


CASES: Final[dict[str, list[tuple[Any, ...]]]] = {
    "none": [],
    "one": [(1, "a", b"x", None, True)],
    "nothing alike": [(1, "a", b"x", "m", True), (2, "b", b"y", "n", False)],
    "all but one alike": [(1, "a", b"x", "m", True), (2, "a", b"x", "m", True), (3, "a", b"x", "m", True)],
    "all null": [(1, "a", b"x", None, True), (2, "a", b"x", None, True)],
    "ends alike": [(1, "a", b"x", "m", True), (2, "b", b"x", None, True), (3, "a", b"x", "m", True)],
    "ends null": [(1, "a", b"x", None, True), (2, "a", b"x", "m", True), (3, "a", b"x", None, True)],
    "the same twice": [(7, "a", b"x", "m", True), (7, "a", b"x", "m", True)],
}


async def test_rows_come_out_as_they_were(db: Database) -> None:
    async with db.system() as tx:
        for name, rows in CASES.items():
            found = await tx.fetch(STATEMENT, "x", *ROWS.parameters(rows))
            assert [tuple(each) for each in found] == [("x", *row) for row in rows], name


def test_what_all_rows_have_stands_once() -> None:
    numbers, words, *_ = ROWS.parameters([(number, "a", b"x", None, True) for number in range(9)])
    assert list(numbers) == [*range(9)]
    assert list(words) == ["a"]
