"""Group commit: what goes together, who waits for whom, and what happens to each when something fails."""

import asyncio
from collections.abc import Sequence

import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_ingest.app.batcher import Answer, Batcher, Entry
from tocsin_kit.errors import TocsinError, invalid

from tests.unit.ingest.model import message


class Commits:
    """A commit that ends when it is told to."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[str]]] = []
        self.gate = asyncio.Event()
        self.open_now = 0
        self.most = 0

    async def __call__(self, org_id: str, entries: Sequence[Entry]) -> Sequence[Answer]:
        self.batches.append((org_id, [entry.message.dedup_key for entry in entries]))
        self.open_now += 1
        self.most = max(self.most, self.open_now)
        await self.gate.wait()
        self.open_now -= 1
        return [
            invalid("alert", "bad") if entry.message.dedup_key == "bad" else SendAlertResponse(dedup_key="ok")
            for entry in entries
        ]


def entry(key: str) -> Entry:
    return Entry(message(key))


async def spin() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_arrives_while_a_batch_commits_is_the_next_batch() -> None:
    commits = Commits()
    batcher = Batcher(commits, batch_size=3)
    first = [batcher.submit("a", entry(key)) for key in "xy"]
    await spin()
    later = [batcher.submit("a", entry(key)) for key in "1234"]
    await spin()
    assert commits.batches == [("a", ["x", "y"])]
    assert batcher.waiting == 4
    commits.gate.set()
    await asyncio.gather(*first, *later)
    assert commits.batches == [("a", ["x", "y"]), ("a", ["1", "2", "3"]), ("a", ["4"])]
    assert commits.most == 1


async def test_tenants_take_turns_and_a_flood_stands_behind_itself() -> None:
    commits = Commits()
    commits.gate.set()
    batcher = Batcher(commits, batch_size=2, lanes=1)
    answers = [batcher.submit("flood", entry(str(number))) for number in range(6)]
    answers.append(batcher.submit("quiet", entry("q")))
    await asyncio.gather(*answers)
    assert [org for org, _ in commits.batches] == ["flood", "quiet", "flood", "flood"]


async def test_tenants_commit_side_by_side_up_to_the_lanes() -> None:
    commits = Commits()
    batcher = Batcher(commits, lanes=2)
    answers = [batcher.submit(org, entry("k")) for org in "abc"]
    await spin()
    assert [org for org, _ in commits.batches] == ["a", "b"]
    commits.gate.set()
    await asyncio.gather(*answers)
    assert commits.most == 2


async def test_a_full_queue_is_refused_and_one_tenant_cannot_fill_it() -> None:
    commits = Commits()
    batcher = Batcher(commits, batch_size=1, capacity=8)
    answers = [batcher.submit("flood", entry(str(number))) for number in range(4)]
    with pytest.raises(TocsinError) as caught:
        batcher.submit("flood", entry("5"))
    assert caught.value.reason == ErrorReason.ERROR_REASON_OVERLOADED
    assert caught.value.retry_after
    answers.append(batcher.submit("quiet", entry("q")))
    commits.gate.set()
    await asyncio.gather(*answers)


async def test_a_bad_entry_fails_alone_and_a_failed_commit_fails_all() -> None:
    commits = Commits()
    commits.gate.set()
    good, bad = (Batcher(commits).submit("a", entry(key)) for key in ("good", "bad"))
    assert (await good).dedup_key == "ok"
    with pytest.raises(TocsinError):
        await bad

    async def broken(org_id: str, entries: Sequence[Entry]) -> Sequence[Answer]:
        raise invalid("everything", "is wrong")

    batcher = Batcher(broken)
    both = [batcher.submit("a", entry(key)) for key in "ab"]
    assert all(isinstance(each, TocsinError) for each in await asyncio.gather(*both, return_exceptions=True))
    assert batcher.waiting == 0


async def test_an_entry_whose_caller_left_is_not_committed() -> None:
    commits = Commits()
    batcher = Batcher(commits)
    first = batcher.submit("a", entry("first"))
    await spin()
    gone, stays = batcher.submit("a", entry("gone")), batcher.submit("a", entry("stays"))
    gone.cancel()
    commits.gate.set()
    await asyncio.gather(first, stays)
    assert commits.batches[1] == ("a", ["stays"])


async def test_drain_waits_for_everything() -> None:
    commits = Commits()
    batcher = Batcher(commits, batch_size=1)
    answers = [batcher.submit("a", entry(str(number))) for number in range(3)]
    asyncio.get_running_loop().call_later(0.01, commits.gate.set)
    await batcher.drain()
    assert all(answer.done() for answer in answers)
