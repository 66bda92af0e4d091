"""Two faults at once are of different things, and what a process needs to start is mended before it."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.chaos.faults import Kind
from tests.chaos.pairs import apart, paired

NAMES = (
    *(
        "one notify killed",
        "both escalation frozen",
        "one ingest cut off from PostgreSQL",
        "PostgreSQL killed",
        "Valkey hung",
    ),
    *("provider hangs", "rolling restart", "notify's database restored from an earlier copy"),
)


async def test_they_are_apart_and_nested() -> None:
    happened: list[str] = []

    def broken(name: str) -> Callable[[], AbstractAsyncContextManager[None]]:
        @asynccontextmanager
        async def breaking() -> AsyncIterator[None]:
            happened.append(f"breaks {name}")
            yield
            happened.append(f"mends {name}")

        return breaking

    kinds = [Kind(each, broken(each), 1, 2, restores="notify" if "restored" in each else "") for each in NAMES]
    pairs = paired(kinds, random.Random(1))
    assert len(pairs) == 6
    assert not apart(kinds[2], kinds[3])
    for each in pairs:
        one, other = each.name.split(", ")
        happened.clear()
        async with each.broken():
            pass
        assert happened == [f"breaks {one}", f"breaks {other}", f"mends {other}", f"mends {one}"]
        assert one != "PostgreSQL killed" or other in ("Valkey hung", "provider hangs")
