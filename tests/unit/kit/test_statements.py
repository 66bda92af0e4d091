"""Statements built with Core: the text that asyncpg gets, and the order of its values."""

from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from tocsin_kit.db.statements import Filtered, Statement, columns_of, constant, param, params_of

TABLE = sa.Table("widgets", sa.MetaData(), *(sa.Column(name, sa.Text) for name in ("org_id", "name", "colour", "size")))
C = TABLE.c
MINE = C.org_id == param("org_id")


@dataclass
class Widget:
    size: str
    name: str
    count: int


def words(call: tuple[Any, ...]) -> tuple[Any, ...]:
    """The text on one line, and the values."""
    return " ".join(str(call[0]).split()), *call[1:]


def test_values_stand_in_the_order_of_their_numbers_and_a_parameter_used_twice_is_one() -> None:
    statement = Statement(
        sa.update(TABLE)
        .where(MINE, C.name == param("name"))
        .values(params_of(TABLE, ["colour"]) | {"size": param("name")})
    )
    assert words(statement(name="n", colour="c", org_id="o")) == (
        "UPDATE widgets SET colour=$1, size=$2 WHERE widgets.org_id = $3 AND widgets.name = $2",
        *("c", "n", "o"),
    )


def test_a_call_gives_each_value_and_no_other() -> None:
    statement = Statement(sa.select(C.name).where(MINE))
    with pytest.raises(TypeError, match="the parameters are org_id; given were org_id, name"):
        statement(org_id="o", name="n")
    with pytest.raises(TypeError):
        statement()
    with pytest.raises(KeyError):
        statement(tenant="o")


@pytest.mark.parametrize(
    "built",
    [
        sa.select(C.name).where(C.name == "red"),
        sa.select(C.name).limit(10),
        sa.select(C.name).where(C.name.in_(["red"])),
    ],
    ids=["compared", "limit", "list"],
)
def test_a_value_that_no_call_can_give_is_refused_at_import(built: sa.Select[Any]) -> None:
    with pytest.raises(ValueError, match="write a constant"):
        Statement(built)


def test_constants_are_part_of_the_text() -> None:
    statement = Statement(sa.select(C.name).where(C.name == constant("it's")).limit(constant(10)))
    assert words(statement()) == ("SELECT widgets.name FROM widgets WHERE widgets.name = 'it''s' LIMIT 10",)


def test_a_filter_is_part_of_the_text_when_its_parameters_have_values() -> None:
    page = Filtered(
        sa.select(C.name).where(MINE).limit(param("limit")),
        C.colour == param("colour"),
        sa.tuple_(C.size, C.name) < sa.tuple_(param("size"), param("name")),
    )
    nothing = dict.fromkeys(page.names)
    head = "SELECT widgets.name FROM widgets WHERE widgets.org_id = $1"
    assert words(page(**nothing | {"org_id": "o", "limit": 3, "size": "s"})) == (f"{head} LIMIT $2", "o", 3)
    assert words(page(**nothing | {"org_id": "o", "limit": 3, "colour": "", "size": "s", "name": "n"})) == (
        f"{head} AND widgets.colour = $2 AND (widgets.size, widgets.name) < ($3, $4) LIMIT $5",
        *("o", "", "s", "n", 3),
    )


def test_a_misspelled_filter_is_not_left_out_in_silence() -> None:
    page = Filtered(sa.select(C.name).where(MINE), C.colour == param("colour"))
    with pytest.raises(TypeError):
        page(org_id="o", color="red")


def test_columns_come_in_the_order_of_the_fields() -> None:
    count: sa.ColumnElement[int] = sa.literal_column("(SELECT 1)")
    statement = Statement(sa.select(*columns_of(TABLE, Widget, count=count)))
    assert words(statement()) == ("SELECT widgets.size, widgets.name, (SELECT 1) AS count FROM widgets",)
    with pytest.raises(KeyError, match="count"):
        columns_of(TABLE, Widget)
    with pytest.raises(KeyError, match="weight"):
        params_of(TABLE, ["weight"])
