"""How the tests of a run are shared out among its workers."""

import re
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests import order
from tests.order import Scheduling

TESTS = Path(order.__file__).parent
WORLDS = [f"tests/e2e/test_{name}.py::test_it" for name in ("audit", "bulk", "quiet", "turns", "urgency", "phones")]
OTHERS = [f"tests/store/kit/test_{number}.py::test_it" for number in range(6)]


class Worker:
    """Takes what it is given and has done it at once."""

    def __init__(self, number: int) -> None:
        self.gateway = SimpleNamespace(id=f"gw{number}")
        self.shutting_down = False
        self.given: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def share_out(tests: list[str], workers: int) -> list[list[str]]:
    """What each worker runs if all are equally fast."""
    config: Any = SimpleNamespace(
        getvalue=lambda _: ["popen"] * workers, option=SimpleNamespace(loadscopereorder=False), hook=None
    )
    scheduling = Scheduling(config, None)
    nodes = [Worker(number) for number in range(workers)]
    for node in nodes:
        scheduling.add_node(node)
        scheduling.add_node_collection(node, tests)
    scheduling.schedule()
    done = 0
    while done < len(tests):
        for node in nodes:
            for index in [each for each in node.given if not _is_done(scheduling, node, tests[each])][:1]:
                scheduling.mark_test_complete(node, index)
                done += 1
    return [[tests[index] for index in node.given] for node in nodes]


def _is_done(scheduling: Scheduling, node: Worker, test: str) -> bool:
    return bool(scheduling.assigned_work[node][scheduling._split_scope(test)][test])


def test_files_that_share_a_world_go_to_two_workers_and_the_others_to_all() -> None:
    shares = share_out(WORLDS + OTHERS, 4)
    assert sorted(chain.from_iterable(shares)) == sorted(WORLDS + OTHERS)
    with_world = [share for share in shares if any(each in WORLDS for each in share)]
    assert len(with_world) == 2
    assert {share[0] for share in with_world} == set(WORLDS[:2]), "they begin with it"


def test_when_nothing_but_worlds_is_left_no_worker_stands_still() -> None:
    shares = share_out(WORLDS, 4)
    assert sorted(chain.from_iterable(shares)) == sorted(WORLDS)
    assert all(shares)


def test_which_files_share_a_world() -> None:
    assert all(order.uses_world(each.partition("::")[0]) for each in WORLDS)
    assert not order.uses_world("tests/e2e/test_operator_doc.py"), "it has one of its own"
    assert not order.uses_world("tests/e2e/test_stack_valkey.py")
    assert not order.uses_world("tests/chaos")


def test_tests_of_the_fleet_stay_together_and_others_of_their_folder_do_not_keep_it_idle() -> None:
    fleet = [f"tests/chaos/test_{name}.py::test_it" for name in ("round", "frozen", "stores")]
    alone = [f"tests/chaos/test_{name}.py::test_it" for name in ("timers_faults", "checker")]
    shares = share_out(fleet + alone, 3)
    assert fleet in shares
    assert sorted(chain.from_iterable(shares)) == sorted(fleet + alone)


def test_files_that_share_a_world_or_the_fleet_are_seen_by_their_imports() -> None:
    """The patterns for them are of one line: an import of several lines, or of the module, would hide a file."""
    asks_world = re.compile(r"\b(?:world|tenant): (?:\w+\.)*(?:World|Tenant)\b")
    asks_fleet = re.compile(r"\b(?:fleet|tenant): (?:\w+\.)*(?:Fleet|Tenant)\b")
    missed = []
    for path in TESTS.rglob("test_*.py"):
        text, scope = path.read_text(), str(path.relative_to(TESTS.parent))
        if scope.startswith(order._FLEET):
            seen = order._uses_fleet(scope) or not asks_fleet.search(text)
        else:
            is_other = "tests.store.notify.support" in text or order._OF_ITS_OWN.search(text) is not None
            seen = order.uses_world(scope) or is_other or not asks_world.search(text)
        if not seen:
            missed.append(scope)
    assert not missed
