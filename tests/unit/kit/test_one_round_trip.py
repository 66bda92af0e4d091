"""Writes that go together: one statement for all of them."""

from typing import Any

import pytest
from tocsin_kit.db.pool import OneRoundTrip, Tx


class Connection:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[object, ...]]] = []

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        self.asked.append((sql, args))
        return [{"id": 1}]


async def test_what_is_gathered_goes_in_front_of_the_next_question_in_one_statement() -> None:
    connection = Connection()
    round_trip = OneRoundTrip(Tx(connection, "acme"))  # type: ignore[arg-type]
    await round_trip.execute("DELETE FROM a WHERE x = $1", 1)
    await round_trip.execute("UPDATE b SET y = $2 WHERE z = $1", 2, 3)
    assert connection.asked == []
    [record] = await round_trip.fetch("INSERT INTO c VALUES ($1) RETURNING id", 4)
    assert record["id"] == 1
    await round_trip.send()
    [(sql, args)] = connection.asked
    assert sql == (
        "WITH part_0 AS (DELETE FROM a WHERE x = $1), part_1 AS (UPDATE b SET y = $3 WHERE z = $2) "
        "INSERT INTO c VALUES ($4) RETURNING id"
    )
    assert args == (1, 2, 3, 4)


@pytest.mark.parametrize("start", ["WITH ", "\nWITH "])
async def test_a_question_with_a_with_of_its_own_shares_it_with_what_was_gathered(start: str) -> None:
    connection = Connection()
    round_trip = OneRoundTrip(Tx(connection, "acme"))  # type: ignore[arg-type]
    await round_trip.execute("DELETE FROM a WHERE x = $1", 1)
    await round_trip.fetch(f"{start}given AS (SELECT $1::int AS x) SELECT x FROM given", 2)
    [(sql, _)] = connection.asked
    assert sql == ("WITH part_0 AS (DELETE FROM a WHERE x = $1), given AS (SELECT $2::int AS x) SELECT x FROM given")


async def test_what_nothing_follows_is_sent_once_and_nothing_is_not() -> None:
    connection = Connection()
    round_trip = OneRoundTrip(Tx(connection, "acme"))  # type: ignore[arg-type]
    await round_trip.send()
    await round_trip.execute("DELETE FROM a WHERE x = $1 OR y = $10", 1)
    await round_trip.send()
    await round_trip.send()
    assert connection.asked == [("DELETE FROM a WHERE x = $1 OR y = $10", (1,))]


async def test_a_single_row_is_not_asked_for_while_writes_wait() -> None:
    round_trip = OneRoundTrip(Tx(Connection(), "acme"))  # type: ignore[arg-type]
    for ask in (round_trip.fetchrow, round_trip.fetchval):
        with pytest.raises(TypeError, match="gathered"):
            await ask("SELECT 1")
    with pytest.raises(TypeError, match="gathered"):
        await round_trip.executemany("DELETE FROM a WHERE x = $1", [[1]])
