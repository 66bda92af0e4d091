"""Calls that are made again when nothing is heard."""

import asyncio
import gc

import pytest
from tocsin_kit.rpc import hedge
from tocsin_kit.rpc.hedge import hedged
from tocsin_testkit.busy import until

DEADLINE = 60.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is short, and the deadline far away, however busy the machine is."""
    monkeypatch.setattr(hedge, "SILENCE", 0.02)


class Replicas:
    """What each call meets, in turn: silence, an error or an answer."""

    def __init__(self, *meets: str | Exception) -> None:
        self._meets = list(meets)
        self.left: list[float] = []
        self.after_silence: list[bool] = []
        self.cancelled = 0

    async def method(self, request: str, *, timeout: float, silent_for: float | None = None) -> str:
        assert request == "please"
        meets = self._meets[len(self.left)]
        self.left.append(timeout)
        self.after_silence.append(silent_for is not None)
        if isinstance(meets, Exception):
            raise meets
        if meets == "silence":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        return meets

    async def ask(self) -> str:
        return await hedged(self.method, "please", seconds=DEADLINE)


async def test_an_answer_in_time_is_one_call() -> None:
    replicas = Replicas("yes")
    assert await replicas.ask() == "yes"
    assert replicas.left == [DEADLINE]


async def test_silence_is_asked_again_within_the_same_deadline_and_then_hung_up_on() -> None:
    replicas = Replicas("silence", "silence", "yes")
    assert await replicas.ask() == "yes"
    assert replicas.cancelled == 2
    first, second, third = replicas.left
    assert first == DEADLINE > second > third > 0
    assert replicas.after_silence == [False, True, True]


async def test_an_error_is_an_answer() -> None:
    replicas = Replicas(LookupError("no"), "yes")
    with pytest.raises(LookupError):
        await replicas.ask()
    assert len(replicas.left) == 1


async def test_an_error_of_the_second_call_is_not_the_last_word_while_others_may_answer() -> None:
    replicas = Replicas("silence", LookupError("no"), "yes")
    assert await replicas.ask() == "yes"
    assert replicas.cancelled == 1


async def test_there_are_at_most_three_and_a_cancelled_caller_leaves_none_behind() -> None:
    replicas = Replicas("silence", "silence", "silence", "yes")
    caller = asyncio.create_task(replicas.ask())
    await until(lambda: len(replicas.left) == 3)
    await asyncio.wait({caller}, timeout=0.1)  # a fourth one would be there by now
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert len(replicas.left) == replicas.cancelled == 3


async def test_calls_that_fail_beside_a_good_one_leave_no_unretrieved_error() -> None:
    """asyncio would log each as a defect. All three end in the same moment, as when a lock is released."""
    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: unseen.append(about))

    async def ask() -> None:
        together, made = asyncio.Event(), list[str]()

        async def method(request: str, *, timeout: float, silent_for: float | None = None) -> str:
            made.append(request)
            good = len(made) == 2
            if len(made) == 3:
                together.set()
            await together.wait()
            if not good:
                raise ConnectionError("another call holds what this one needs")
            return "yes"

        assert await hedged(method, "please", seconds=DEADLINE) == "yes"

    await asyncio.gather(*(ask() for _ in range(20)))
    gc.collect()
    assert unseen == []
