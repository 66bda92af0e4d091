"""Rows that leave a store as dataclasses."""

import dataclasses
from typing import Any


def columns(kind: type[Any], *, of: str = "") -> str:
    """The columns that make a `kind`, in its fields' order: `SELECT {columns(Row)} …` answers with rows for `Row(*row)`.

    `of`: the alias of the table in the statement.
    """
    prefix = f"{of}." if of else ""
    return ", ".join(f"{prefix}{field.name}" for field in dataclasses.fields(kind))
