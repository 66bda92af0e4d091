"""A queue in which tenants are served in rotation."""

from collections.abc import Iterable

from tocsin_kit.fair_queue import FairQueue


def queue(*lines: str) -> FairQueue[str, str]:
    """`a123` is a line `a` with the items 1, 2 and 3."""
    made: FairQueue[str, str] = FairQueue()
    for line in lines:
        for item in line[1:]:
            made.add(line[0], item)
    return made


def order(queue: FairQueue[str, str]) -> list[str]:
    return ["".join(taken) for _ in range(len(queue)) if (taken := queue.take()) is not None]


def test_lines_are_served_in_rotation() -> None:
    waiting = queue("a123", "b1", "c12")
    assert order(waiting) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert (len(waiting), waiting.take(), "a" in waiting) == (0, None, False)


def test_a_line_that_may_not_be_served_keeps_its_place() -> None:
    waiting = queue("a12", "b12", "c1")
    assert waiting.take(lambda key: key != "a") == ("b", "1")
    assert waiting.take(lambda key: False) is None
    assert order(waiting) == ["a1", "c1", "b2", "a2"]


def test_who_leaves_holds_up_no_other_caller() -> None:
    waiting = queue("a123", "b1")
    for item in ("1", "3", "3", "9"):
        waiting.remove("a", item)
    waiting.remove("b", "1")
    waiting.remove("b", "1")
    assert (waiting.of("a"), waiting.of("b"), len(waiting), "b" in waiting) == (1, 0, 1, False)
    assert order(waiting) == ["a2"]


def test_as_much_is_served_as_there_is_room_for() -> None:
    waiting = queue("a123", "b12", "c9")
    room, served = 4, list[str]()

    def fits(line: Iterable[str]) -> str | None:
        for item in line:
            if item != "9" and len(served) < room:
                served.append(item)
                return item
        return None

    waiting.serve(fits)
    assert served == ["1", "1", "2", "2"]
    assert (len(waiting), waiting.of("c")) == (2, 1)
