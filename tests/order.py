"""Which tests a worker of pytest-xdist runs together, which begin first, and when the servers that many share end."""

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadFileScheduling

_FLEET: Final = "tests/chaos"
"""Most of it uses one fleet of two replicas of each service; a fleet in each worker would cost a core while it idles."""

_TOGETHER: Final = (_FLEET, "tests/architecture")
"""Folders that one worker runs alone. Architecture parses each source once for all of its files."""

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

_SHARED: Final = ("fleet", "world")
"""Fixtures of the session that start a whole Tocsin. One that idles takes a tenth of a core, its sweeps being so frequent.

Files whose tests use the same one come one after the other, and it ends with the last of them.
"""
_STAGE: Final = pytest.StashKey[int]()

_WORLDS: Final = 2
"""How many workers start a world. The others run what needs none; a world in each of them would cost a tenth of the processors."""
_IN_WORLD: Final = re.compile(r"^from tocsin_testkit\.(?:world|tenant) import .*\b(?:World|Tenant)\b", re.MULTILINE)
_IN_FLEET: Final = re.compile(r"^from tests\.chaos\.fleet import .*\bFleet\b", re.MULTILINE)
_OF_ITS_OWN: Final = re.compile(r"^async def world\(", re.MULTILINE)


class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # the base class carries no types
    """A file's tests stay together, and so do those of a few folders. Files that share a world go to `_WORLDS` workers."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._with_world: set[Any] = set()

    def _assign_work_unit(self, node: Any) -> None:
        self.workqueue.move_to_end(self._next_for(node), last=False)
        super()._assign_work_unit(node)

    def _next_for(self, node: Any) -> str:
        """The first that this worker may run. Once nothing but worlds is left, it may start one more."""
        first: str = next(iter(self.workqueue))
        living = self._with_world.intersection(self.nodes)
        may = node in living or len(living) < _WORLDS
        chosen = first if may else next((each for each in self.workqueue if not uses_world(each)), first)
        if uses_world(chosen):
            self._with_world.add(node)
        return chosen

    def _split_scope(self, nodeid: str) -> str:
        scope = str(super()._split_scope(nodeid))
        folder = next((each for each in _TOGETHER if nodeid.startswith(each)), None)
        return scope if folder is None or (folder == _FLEET and not _uses_fleet(scope)) else folder


@cache
def uses_world(scope: str) -> bool:
    """Whether tests of this file share the world. Where this is wrong, a test starts one all the same."""
    path = Path(__file__).parents[1] / scope
    if not path.is_file() or scope.startswith(_FLEET):
        return False
    text = path.read_text()
    return _IN_WORLD.search(text) is not None and _OF_ITS_OWN.search(text) is None


@cache
def _uses_fleet(scope: str) -> bool:
    """Whether this file's tests use the fleet. It would stand idle beside those that do not."""
    path = Path(__file__).parents[1] / scope
    return not path.is_file() or _IN_FLEET.search(path.read_text()) is not None


def sort(items: list[pytest.Item]) -> None:
    """In place; within a stage and a folder the order stays."""
    stages: dict[str, int] = {}
    for item in items:
        stages[_file(item)] = min(_wanted(item), stages.get(_file(item), len(_SHARED)))
    for item in items:
        item.stash[_STAGE] = stages[_file(item)]
    items.sort(key=lambda item: (item.stash[_STAGE], _rank(item)))


def end_what_is_over(item: pytest.Item, following: pytest.Item | None) -> None:
    """Tear down what tests share of whom none is to come in this process.

    Were one to come all the same, its fixture would be set up anew.
    """
    if following is None or following.stash[_STAGE] == item.stash[_STAGE]:
        return
    of_item: Any = item
    for name in _SHARED:
        for fixture in item.session._fixturemanager.getfixturedefs(name, item) or ():
            if fixture.scope == "session":
                fixture.finish(of_item._request)


def _wanted(item: pytest.Item) -> int:
    """Which of `_SHARED`; tests without one come last."""
    of_item: Any = item
    fixtures = of_item._fixtureinfo.name2fixturedefs
    wanted = (each for each, name in enumerate(_SHARED) if name in fixtures and fixtures[name][-1].scope == "session")
    return next(wanted, len(_SHARED))


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _rank(item: pytest.Item) -> int:
    return next((rank for rank, folder in enumerate(_FIRST) if item.nodeid.startswith(folder)), len(_FIRST))
