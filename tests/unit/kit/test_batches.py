"""Group commit: what goes together, who waits for whom, and what happens to each when something fails."""

import asyncio
from collections.abc import Sequence

import pytest
from structlog.contextvars import bind_contextvars, get_contextvars
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.batches import Batches
from tocsin_kit.errors import TocsinError, invalid


class Commits:
    """A commit of items like `a1`, tenant `a`, that ends when it is told to. Nothing is stored with a `!` in the batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.done: list[str] = []
        self.gate = asyncio.Event()
        self.open_now = 0
        self.most = 0

    async def __call__(self, items: list[str]) -> Sequence[str | Exception]:
        self.batches.append(items)
        self.open_now += 1
        self.most = max(self.most, self.open_now)
        await self.gate.wait()
        self.open_now -= 1
        if any("!" in item for item in items):
            raise ValueError("one of them cannot be stored")
        self.done += items
        return [invalid("item", "bad") if "?" in item else f"did {item}" for item in items]


@pytest.fixture
def commits() -> Commits:
    return Commits()


def tenant(item: str) -> str:
    return item[0]


async def spin() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_arrives_while_a_batch_commits_is_the_next_batch(commits: Commits) -> None:
    batches = Batches(commits, most=3)
    first = [batches.enqueue(item) for item in "xy"]
    await spin()
    later = [batches.enqueue(item) for item in "1234"]
    await spin()
    assert commits.batches == [["x", "y"]]
    assert batches.waiting == 4
    commits.gate.set()
    assert await asyncio.gather(*first, *later) == [f"did {item}" for item in "xy1234"]
    assert commits.batches == [["x", "y"], ["1", "2", "3"], ["4"]]
    assert commits.most == 1


async def test_lanes_take_turns_and_a_flood_stands_behind_itself(commits: Commits) -> None:
    commits.gate.set()
    batches = Batches(commits, most=2, lane=tenant)
    await batches.submit_all([*(f"f{number}" for number in range(6)), "q"])
    assert [batch[0] for batch in commits.batches] == ["f0", "q", "f2", "f4"]


async def test_lanes_commit_side_by_side_up_to_a_bound_and_no_lane_with_itself(commits: Commits) -> None:
    batches = Batches(commits, most=1, lane=tenant, at_once=2)
    answers = [batches.enqueue(item) for item in ("a1", "a2", "b1", "c1")]
    await spin()
    assert commits.batches == [["a1"], ["b1"]]
    commits.gate.set()
    await asyncio.gather(*answers)
    assert commits.most == 2


async def test_a_full_queue_is_refused_and_one_lane_cannot_fill_it(commits: Commits) -> None:
    batches = Batches(commits, most=1, waiting=8, lane=tenant)
    answers = [batches.enqueue(f"f{number}") for number in range(4)]
    with pytest.raises(TocsinError) as caught:
        batches.enqueue("f5")
    assert caught.value.reason == ErrorReason.ERROR_REASON_OVERLOADED
    assert caught.value.retry_after
    answers += [batches.enqueue(f"{letter}1") for letter in "abcd"]
    with pytest.raises(TocsinError):
        batches.enqueue("e1")
    commits.gate.set()
    await asyncio.gather(*answers)


@pytest.mark.parametrize("bad", [{0}, {6}, {2, 3}, set(range(7))], ids=str)
async def test_what_cannot_be_stored_fails_alone(commits: Commits, bad: set[int]) -> None:
    commits.gate.set()
    batches = Batches(commits, most=10)
    answers = [batches.enqueue(f"{number}!" if number in bad else f"{number}") for number in range(7)]
    ended = await asyncio.gather(*answers, return_exceptions=True)
    assert {number for number, answer in enumerate(ended) if isinstance(answer, ValueError)} == bad
    assert sorted(commits.done) == [f"{number}" for number in range(7) if number not in bad]


async def test_an_answer_may_be_an_error_of_its_item_alone(commits: Commits) -> None:
    commits.gate.set()
    good, bad = (Batches(commits, most=10).enqueue(item) for item in ("a", "b?"))
    assert await good == "did a"
    with pytest.raises(TocsinError):
        await bad


async def test_a_failure_with_a_reason_is_everybody_s_and_not_repeated(commits: Commits) -> None:
    calls = 0

    async def away(items: list[str]) -> list[str]:
        nonlocal calls
        calls += 1
        raise TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "away")

    batches = Batches(away, most=10)
    both = [batches.enqueue(item) for item in "ab"]
    assert all(isinstance(each, TocsinError) for each in await asyncio.gather(*both, return_exceptions=True))
    assert (calls, batches.waiting) == (1, 0)


async def test_an_item_whose_caller_left_is_not_committed(commits: Commits) -> None:
    batches = Batches(commits, most=10)
    first = batches.enqueue("first")
    await spin()
    gone, stays = batches.enqueue("gone"), batches.enqueue("stays")
    gone.cancel()
    commits.gate.set()
    await asyncio.gather(first, stays)
    assert commits.batches[1] == ["stays"]


async def test_a_batch_is_no_part_of_the_call_that_came_first() -> None:
    async def context(items: list[str]) -> list[dict[str, object]]:
        return [get_contextvars()] * len(items)

    bind_contextvars(rpc="SendAlert")
    assert await Batches(context, most=10).submit("a") == {}


async def test_drain_waits_for_everything(commits: Commits) -> None:
    batches = Batches(commits, most=1)
    answers = [batches.enqueue(item) for item in "abc"]
    asyncio.get_running_loop().call_later(0.01, commits.gate.set)
    await batches.drain()
    assert all(answer.done() for answer in answers)
