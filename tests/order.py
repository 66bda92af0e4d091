"""Which tests a worker of pytest-xdist runs together, and which begin first."""

from typing import Final

import pytest
from xdist.scheduler import LoadFileScheduling

_TOGETHER: Final = "tests/chaos"
"""All of it uses one fleet of two replicas of each service; a fleet in each worker would cost a core while it idles."""

_FIRST: Final = (
    "tests/chaos",
    "tests/abuse",
    "tests/e2e",
    "tests/store",
    "tests/contract",
    "tests/timers",
    "tests/architecture",
    "tests/unit",
)
"""The longest first, so that no worker is left alone with them."""


class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # the base class carries no types
    """A file's tests stay together, and so do all that share the fleet."""

    def _split_scope(self, nodeid: str) -> str:
        return _TOGETHER if nodeid.startswith(_TOGETHER) else super()._split_scope(nodeid)


def sort(items: list[pytest.Item]) -> None:
    """In place; within a folder the order stays."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    return next((rank for rank, folder in enumerate(_FIRST) if item.nodeid.startswith(folder)), len(_FIRST))
