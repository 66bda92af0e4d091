"""What replicas remember for a moment: fresh values, rates."""

import asyncio
import uuid

import pytest
from tocsin_ingest.app.alerts.rate_limit import RateLimit
from tocsin_kit.fresh_cache import FreshCache
from tocsin_kit.metrics import Metrics

from tests.store.ingest.support import until


class Source:
    """Counts what is read; the value is the number of the read."""

    def __init__(self) -> None:
        self.reads = 0
        self.fails = False

    async def load(self, key: str) -> int:
        self.reads += 1
        mine = self.reads
        await asyncio.sleep(0)
        if self.fails:
            raise ValueError(key)
        return mine


async def test_many_callers_share_one_read() -> None:
    source = Source()
    cache = FreshCache(source.load, ttl=60, size=10)
    assert await asyncio.gather(*(cache.get("k") for _ in range(5))) == [1] * 5
    assert await cache.get("k") == 1
    assert await cache.get("other") == 2


async def test_a_value_is_renewed_in_the_background_and_never_older_than_its_time() -> None:
    source = Source()
    cache = FreshCache(source.load, ttl=0.1, size=10)
    loop = asyncio.get_running_loop()
    assert await cache.get("k") == 1
    begin = loop.time()
    seen = 1
    while seen == 1:
        seen = await cache.get("k")
        await asyncio.sleep(0)
    assert loop.time() - begin < 0.1 + 0.5  # the machine may be busy; without renewal it would be for ever
    assert source.reads == 2


async def test_what_must_be_renewed_is_not_fresh() -> None:
    source = Source()
    cache = FreshCache(source.load, ttl=60, size=10, renew_after=0)
    assert cache.fresh("k") is None
    await cache.get("k")
    assert cache.fresh("k") is None, "the next use must renew it"
    lasting = FreshCache(source.load, ttl=60, size=10)
    value = await lasting.get("k")
    assert lasting.fresh("k") == value
    lasting.forget("k")
    assert lasting.fresh("k") is None


async def test_an_expired_value_is_not_given_out_when_reading_fails() -> None:
    source = Source()
    cache = FreshCache(source.load, ttl=0.02, size=10)
    await cache.get("k")
    source.fails = True
    expiry = asyncio.get_running_loop().time() + 0.03
    await until(lambda: asyncio.get_running_loop().time() > expiry)
    with pytest.raises(ValueError, match="k"):
        await cache.get("k")
    source.fails = False
    assert await cache.get("k") > 1


async def test_forgetting_discards_also_a_read_under_way() -> None:
    source = Source()
    cache = FreshCache(source.load, ttl=60, size=10)
    reading = asyncio.create_task(cache.get("k"))
    await asyncio.sleep(0)
    cache.forget("k")
    await reading
    assert await cache.get("k") == 2


async def test_the_oldest_leaves_when_there_is_no_room() -> None:
    source = Source()
    cache = FreshCache(source.load, ttl=60, size=2)
    for key in ("a", "b", "c", "b"):
        await cache.get(key)
    assert source.reads == 3
    await cache.get("a")
    assert source.reads == 4


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    now = [0.0]
    limit = RateLimit(10, 3, Metrics(), clock=lambda: now[0])

    def take(org: str, integration: str, at: float) -> float:
        now[0] = at
        return limit.take(org, integration, uuid.uuid4())

    assert [take("a", "i", 0.0) for _ in range(3)] == [0.0] * 3
    assert take("a", "i", 0.0) == pytest.approx(0.1)
    assert take("a", "i", 0.05) == pytest.approx(0.05)
    assert take("a", "i", 0.1) == 0.0
    assert take("a", "i", 0.1) > 0
    assert take("a", "other", 0.1) == 0.0
    assert take("b", "i", 0.1) == 0.0
    assert [take("a", "i", 1000.0) for _ in range(4)][:3] == [0.0] * 3
    assert take("a", "i", 1000.0) > 0


def test_a_group_larger_than_the_burst_gets_in_by_repeats() -> None:
    now = [0.0]
    limit = RateLimit(10, 30, Metrics(), clock=lambda: now[0])
    keys = [uuid.uuid4() for _ in range(100)]
    taken: set[uuid.UUID] = set()
    for second in range(8):
        now[0] = float(second)
        taken |= {key for key in keys if limit.take("a", "i", key) == 0.0}
    assert taken == set(keys)
    # Repeats have a limit as well, ten times as high.
    now[0] = 8.0
    refused = [limit.take("a", "i", keys[0]) for _ in range(1000)]
    assert sum(wait > 0 for wait in refused) > 500
