"""Which differences last long enough to be mended."""

import asyncio
import itertools

from tocsin_kit.suspects import Suspects


async def test_what_is_seen_once_or_goes_away_is_never_due() -> None:
    suspects = Suspects[str](0.0)
    assert suspects.due(["a", "b"]) == []
    suspects.forget_others()
    assert suspects.due(["a"]) == ["a"]
    suspects.forget_others()
    assert suspects.due(["b"]) == [], "it differed no more in between"


async def test_a_grace_must_pass() -> None:
    suspects = Suspects[str](60.0)
    suspects.due(["a"])
    assert suspects.due(["a"]) == []
    assert suspects.lasting() == []


async def test_what_could_not_be_tried_stays_due() -> None:
    suspects = Suspects[str](0.0)
    suspects.due(["a"])
    assert [suspects.due(["a"]) for _ in range(3)] == [["a"]] * 3


async def test_what_mending_does_not_help_comes_again_after_growing_pauses() -> None:
    clock = asyncio.get_running_loop().time
    suspects = Suspects[str](0.001)
    due: list[tuple[float, float]] = []
    while len(due) < 5:
        before = clock()
        if suspects.due(["a"]):
            due.append((before, clock()))
            suspects.tried(["a"])
        await asyncio.sleep(0)
    pauses = [later - earlier for (earlier, _), (_, later) in itertools.pairwise(due)]
    assert all(pause >= 0.002 * 2**number for number, pause in enumerate(pauses))
    assert suspects.lasting() == ["a"]
