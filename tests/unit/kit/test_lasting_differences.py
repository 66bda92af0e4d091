"""Which differences last long enough to be mended."""

import asyncio
import itertools

from tocsin_kit.lasting_differences import LastingDifferences


async def test_what_is_seen_once_or_goes_away_is_never_due() -> None:
    differences = LastingDifferences[str](0.0)
    assert differences.due(["a", "b"]) == []
    differences.forget_others()
    assert differences.due(["a"]) == ["a"]
    differences.forget_others()
    assert differences.due(["b"]) == [], "it differed no more in between"


async def test_a_grace_must_pass() -> None:
    differences = LastingDifferences[str](60.0)
    differences.due(["a"])
    assert differences.due(["a"]) == []
    assert differences.lasting() == []


async def test_what_could_not_be_tried_stays_due() -> None:
    differences = LastingDifferences[str](0.0)
    differences.due(["a"])
    assert [differences.due(["a"]) for _ in range(3)] == [["a"]] * 3


async def test_what_mending_does_not_help_comes_again_after_growing_pauses() -> None:
    clock = asyncio.get_running_loop().time
    differences = LastingDifferences[str](0.001)
    due: list[tuple[float, float]] = []
    while len(due) < 5:
        before = clock()
        if differences.due(["a"]):
            due.append((before, clock()))
            differences.tried(["a"])
        await asyncio.sleep(0)
    pauses = [later - earlier for (earlier, _), (_, later) in itertools.pairwise(due)]
    assert all(pause >= 0.002 * 2**number for number, pause in enumerate(pauses))
    assert differences.lasting() == ["a"]
