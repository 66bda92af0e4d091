"""Group commit: what goes together, who waits for whom, and what happens to each when something fails."""

import asyncio
from collections.abc import Sequence

import pytest
import tocsin_kit.batches
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


@pytest.fixture
def order() -> list[str]:
    """What happened."""
    return []


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


async def test_the_next_batch_begins_before_the_callers_of_the_last_go_on(order: list[str]) -> None:
    """What they do with many answers would otherwise keep the database waiting."""

    async def work(items: list[str]) -> list[str]:
        order.append(f"begins {items}")
        await asyncio.sleep(0)
        return items

    batches = Batches(work, most=2)
    await asyncio.gather(*(answered(batches, items, order) for items in ("ab", "cd")))
    assert order == ["begins ['a', 'b']", "begins ['c', 'd']", "answered ab", "answered cd"]


async def test_calls_with_many_answers_go_on_one_after_the_other(
    order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(items: list[str]) -> list[str]:
        return items

    async def turns() -> None:
        while True:
            order.append("turn")
            await asyncio.sleep(0)

    monkeypatch.setattr(tocsin_kit.batches, "_AT_ONCE", 3)
    batches = Batches(work, most=10)
    others = asyncio.create_task(turns())
    await asyncio.gather(*(answered(batches, items, order) for items in ("ab", "cd", "e")))
    others.cancel()
    assert "".join(order).strip("turn") == "answered abturnanswered cdanswered e"


async def answered(batches: Batches[str, str], items: str, order: list[str]) -> None:
    assert await batches.enqueue_each(list(items)).answers() == list(items)
    order.append(f"answered {items}")


async def test_lanes_take_turns_and_a_flood_stands_behind_itself(commits: Commits) -> None:
    commits.gate.set()
    batches = Batches(commits, most=2, lane=tenant)
    await asyncio.gather(*map(batches.enqueue, [*(f"f{number}" for number in range(6)), "q"]))
    assert [batch[0] for batch in commits.batches] == ["f0", "q", "f2", "f4"]


async def test_lanes_with_little_travel_together_and_a_flood_by_itself(commits: Commits) -> None:
    commits.gate.set()
    batches = Batches(commits, most=4, lane=tenant, together=1)
    await asyncio.gather(*map(batches.enqueue, ["a1", *(f"f{number}" for number in range(6)), "b1", "c1", "d1", "e1"]))
    assert commits.batches == [["a1", "b1", "c1", "d1"], ["f0", "f1", "f2", "f3"], ["e1"], ["f4", "f5"]]
    assert batches.waiting == 0


async def test_a_lane_that_is_alone_travels_with_no_other(commits: Commits) -> None:
    commits.gate.set()
    batches = Batches(commits, most=4, lane=tenant, together=1, alone=lambda lane: lane == "b")
    await asyncio.gather(*map(batches.enqueue, ["a1", "b1", "c1", "d1"]))
    assert commits.batches == [["a1", "c1", "d1"], ["b1"]]
    await asyncio.gather(*map(batches.enqueue, ["b2", "c2"]))
    assert commits.batches[2:] == [["b2"], ["c2"]]


async def test_lanes_commit_side_by_side_up_to_a_bound_and_no_lane_with_itself(commits: Commits) -> None:
    batches = Batches(commits, most=1, lane=tenant, at_once=2)
    answers = [batches.enqueue(item) for item in ("a1", "a2", "b1", "c1")]
    await spin()
    assert commits.batches == [["a1"], ["b1"]]
    commits.gate.set()
    await asyncio.gather(*answers)
    assert commits.most == 2


async def test_a_lane_without_order_has_a_second_batch_beside_one_that_takes_long() -> None:
    ends = {item: asyncio.Event() for item in ("slow", "quick", "late", "last")}
    begun: list[str] = []

    async def work(items: list[str]) -> list[str]:
        begun.extend(items)
        for item in items:
            await ends[item].wait()
        return items

    batches = Batches(work, most=1, lane=lambda item: "a", at_once=3, beside=lambda lane: 2)
    answers = []
    for item in ends:
        answers.append(batches.enqueue(item))
        await spin()
    assert begun == ["slow", "quick"], "no third one, though three may run"
    ends["quick"].set()
    await answers[1]
    await spin()
    assert begun == ["slow", "quick", "late"], "it does not wait for the slow one"
    ends["late"].set()
    await answers[2]
    await spin()
    assert begun == ["slow", "quick", "late", "last"]
    ends["slow"].set()
    ends["last"].set()
    assert await asyncio.gather(*answers) == list(ends)
    assert batches.waiting == 0


async def test_what_is_left_of_a_full_batch_is_in_the_second_one_at_once(commits: Commits) -> None:
    batches = Batches(commits, most=1, lane=tenant, at_once=3, beside=lambda lane: 2)
    answers = [batches.enqueue(item) for item in ("a1", "a2", "a3", "b1")]
    await spin()
    assert commits.batches == [["a1"], ["b1"], ["a2"]]
    commits.gate.set()
    await asyncio.gather(*answers)
    assert commits.most == 3
    assert commits.batches[3:] == [["a3"]]


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


async def test_items_that_come_together_wait_for_one_future_and_are_answered_each(commits: Commits) -> None:
    batches = Batches(commits, most=3)
    commits.gate.set()
    several = batches.enqueue_each(["1", "?", "3", "4", "5"])
    assert batches.waiting == 5
    answers = await several.answers()
    assert [str(each) for each in answers] == ["did 1", "item: bad", "did 3", "did 4", "did 5"]
    assert commits.batches == [["1", "?", "3"], ["4", "5"]]
    assert await batches.enqueue_each([]).answers() == []


async def test_an_item_that_is_there_again_does_not_count_for_the_size_of_a_batch(commits: Commits) -> None:
    batches = Batches(commits, most=3)
    held = batches.enqueue("first")
    await spin()
    one, two, three, four = "1x", "2x", "3x", "4x"
    waiting = [batches.enqueue_each(part) for part in ([one, two, one], [two, three], [one] * 3, [four], [one])]
    commits.gate.set()
    for each in waiting:
        await each.answers()
    assert await held == "did first"
    assert commits.batches[1:] == [[one, two, one, two, three, one, one, one, one], [four]]
    # However few they are, a batch ends some time: what is answered together waits for the last of them.
    waiting = [batches.enqueue_each([one] * 3) for _ in range(20)]
    for each in waiting:
        await each.answers()
    assert max(map(len, commits.batches)) == 24


async def test_two_calls_that_repeat_each_other_travel_together_past_a_third_one(commits: Commits) -> None:
    batches = Batches(commits, most=2)
    held = batches.enqueue("first")
    await spin()
    a, b = ["a1", "a2"], ["b1", "b2"]
    waiting = [batches.enqueue_each(part) for part in (a, b, a, b, a)]
    commits.gate.set()
    assert [await each.answers() for each in waiting] == [[f"did {item}" for item in part] for part in (a, b, a, b, a)]
    await held
    assert commits.batches[1:] == [a * 3, b * 2]


async def test_items_that_are_alike_count_once(commits: Commits) -> None:
    batches = Batches(commits, most=2, alike=lambda item: item[:2])
    held = batches.enqueue("first")
    await spin()
    waiting = [batches.enqueue_each(part) for part in (["a1", "a2"], ["b1", "b2"], ["a1 again", "a2 again"])]
    commits.gate.set()
    for each in waiting:
        await each.answers()
    await held
    assert commits.batches[1:] == [["a1", "a2", "a1 again", "a2 again"], ["b1", "b2"]]


async def test_what_has_an_order_keeps_it_also_when_repeats_travel_together(commits: Commits) -> None:
    batches = Batches(commits, most=2)
    held = batches.enqueue("first")
    await spin()
    a, b = ["a1", "a2"], ["b1", "b2"]
    call = object()
    # The third is a part of the call whose second part is left; the fourth stands behind one that came alone.
    waiting = [batches.enqueue_each(part, call) for part in (a, b, a)]
    alone = batches.enqueue("b3")
    last = batches.enqueue_each(a)
    commits.gate.set()
    for each in (*waiting, last):
        await each.answers()
    await asyncio.gather(held, alone)
    assert commits.batches[1:] == [a, b, a, ["b3"], a]


async def test_of_items_that_come_together_those_without_room_are_refused(commits: Commits) -> None:
    batches = Batches(commits, most=10, waiting=8, lane=tenant)
    held = batches.enqueue("a0")
    await spin()
    waiting = batches.enqueue_each([f"a{number}" for number in range(1, 7)])
    other = batches.enqueue_each(["b1"])
    commits.gate.set()
    answers = await waiting.answers()
    assert answers[:4] == [f"did a{number}" for number in range(1, 5)]
    assert [each.reason_name for each in answers[4:] if isinstance(each, TocsinError)] == ["OVERLOADED"] * 2
    assert await other.answers() == ["did b1"]
    assert await held == "did a0"


async def test_one_item_that_spoils_the_batch_fails_alone_also_among_those_that_came_with_it(commits: Commits) -> None:
    batches = Batches(commits, most=10)
    commits.gate.set()
    single = batches.enqueue("s")
    answers = await batches.enqueue_each(["1", "2", "3!", "4"]).answers()
    assert [repr(each) if isinstance(each, Exception) else each for each in answers] == [
        *("did 1", "did 2", "ValueError('one of them cannot be stored')", "did 4")
    ]
    assert await single == "did s"


async def test_a_caller_that_leaves_takes_its_items_along(commits: Commits) -> None:
    batches = Batches(commits, most=2)
    held = batches.enqueue("first")
    await spin()
    leaving = asyncio.create_task(batches.enqueue_each(["1", "2", "3"]).answers())
    staying = batches.enqueue_each(["4"])
    await spin()
    leaving.cancel()
    await spin()
    commits.gate.set()
    assert await staying.answers() == ["did 4"]
    assert await held == "did first"
    assert commits.done == ["first", "4"]
    await batches.drain()
    assert batches.waiting == 0
