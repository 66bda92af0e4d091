"""Rows that are named by their tenant and their id."""

from collections.abc import Collection
from uuid import UUID

Named = tuple[str, UUID]
"""The tenant and the id."""


def in_columns(named: Collection[Named]) -> tuple[list[str], list[UUID]]:
    """The two parameters of a statement that joins `unnest($1::text[], $2::uuid[])`."""
    return [org_id for org_id, _ in named], [id for _, id in named]
