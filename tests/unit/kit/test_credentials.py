"""Wrong credentials: told so, then slowed down by address, and never to the harm of a right one from the same address."""

import asyncio
from typing import Any

import pytest
from tocsin_kit import credentials as module
from tocsin_kit.auth import Principal, invalid_credential
from tocsin_kit.credentials import Credentials, Throttled
from tocsin_kit.errors import TocsinError
from tocsin_kit.keys.sources import source_of
from tocsin_kit.metrics import Metrics

PROXY = "ipv4:10.0.0.1:5000"
SOMEBODY = Principal("acme", "users/ana", frozenset({"a"}))


class Keys:
    """Tokens that begin with `right` are right; counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def authenticate(self, token: str) -> Principal | None:
        self.asked.append(token)
        await asyncio.sleep(0)
        if not token.startswith("right"):
            raise invalid_credential("nobody made it")
        return SOMEBODY


class Door:
    def __init__(self, *, burst: float = 3) -> None:
        self.keys = Keys()
        self.metrics = Metrics()
        self.credentials = Credentials(rate=0.001, burst=burst, metrics=self.metrics)

    async def shows(self, token: str, peer: str = PROXY, way: str = "rpc") -> str:
        """`ok`, or the reason."""
        try:
            assert await self.credentials.judge([self.keys], token, lambda: peer, way=way) == SOMEBODY
        except TocsinError as error:
            return error.reason_name
        return "ok"

    def refused(self, how: str) -> float | None:
        return self.metrics.registry.get_sample_value("tocsin_credentials_refused_total", {"how": how})


@pytest.fixture
def no_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_SECONDS", 0.0)


async def flood(door: Door, count: int, peer: str = PROXY) -> list[str]:
    return [await door.shows(f"wrong {number}", peer) for number in range(count)]


async def test_an_address_with_too_many_wrong_ones_is_told_so(no_hold: None) -> None:
    door = Door()
    assert await flood(door, 5) == ["CREDENTIAL_INVALID"] * 3 + ["RATE_LIMITED"] * 2
    with pytest.raises(Throttled) as caught:
        await door.credentials.judge([door.keys], "wrong", lambda: PROXY)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 0
    assert caught.value.metadata["limit"] == "wrong credentials"
    assert await door.shows("wrong", "ipv4:10.0.0.2:5000") == "CREDENTIAL_INVALID"
    assert (door.refused("wrong"), door.refused("throttled")) == (4, 3)


async def test_who_was_right_before_is_judged_at_once_behind_the_same_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_SECONDS", 3600.0)
    door = Door()
    assert await door.shows("right") == "ok"
    flooding = asyncio.create_task(flood(door, 100))
    async with asyncio.timeout(30):
        while not door.credentials._held:
            await asyncio.sleep(0)
        assert await door.shows("right") == "ok"
    flooding.cancel()
    await asyncio.wait([flooding])
    assert not door.credentials._held


async def test_a_right_one_that_is_new_waits_a_moment_and_is_judged(no_hold: None) -> None:
    door = Door()
    await flood(door, 10)
    assert await door.shows("right and new") == "ok"


async def test_what_was_wrong_a_moment_ago_is_not_judged_again(no_hold: None) -> None:
    door = Door(burst=100)
    assert {await door.shows("wrong") for _ in range(50)} == {"CREDENTIAL_INVALID"}
    assert door.keys.asked == ["wrong"]
    await door.shows("wrong", way="http")
    assert door.keys.asked == ["wrong"] * 2


async def test_a_credential_that_was_right_and_is_revoked_is_wrong(no_hold: None) -> None:
    door = Door()
    assert await door.shows("right") == "ok"
    door.keys.authenticate = _refuse  # type: ignore[method-assign]
    assert [await door.shows("right") for _ in range(5)] == ["CREDENTIAL_INVALID"] * 3 + ["RATE_LIMITED"] * 2


async def _refuse(token: str) -> Principal | None:
    raise invalid_credential("it was revoked")


async def test_what_is_remembered_is_bounded(no_hold: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 10)
    door = Door()
    await flood(door, 100)
    for number in range(100):
        assert await door.shows(f"right {number}") == "ok"
    assert (len(door.credentials._wrong), len(door.credentials._right)) == (10, 10)


async def test_as_many_wait_as_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_SECONDS", 3600.0)
    monkeypatch.setattr(module, "_MOST_HELD_OF_SOURCE", 5)
    monkeypatch.setattr(module, "_MOST_HELD", 8)
    door = Door(burst=1)
    other = "ipv4:10.0.0.2:1"
    await door.shows("wrong")
    await door.shows("wrong", other)
    waiting = [asyncio.create_task(door.shows(f"wrong {n}", peer)) for peer in (PROXY, other) for n in range(9)]
    async with asyncio.timeout(30):
        while sum(task.done() for task in waiting) < 10:
            await asyncio.sleep(0)
    pending = [task for task in waiting if not task.done()]
    assert {task.result() for task in waiting if task.done()} == {"RATE_LIMITED"}
    assert len(pending) == door.credentials._held.total() == 8
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    assert door.refused("held") == 10
    assert not door.credentials._held


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("ipv6:%5B2001:db8:1:2::7%5D:5000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:ffff::9]:5000", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:5000", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fd00:1:2:3::7", "fd00:1:2:3::7"),
        ("64:ff9b::203.0.113.9", "203.0.113.9"),
        ("unix:/run/tocsin.sock", "unix:/run/tocsin.sock"),
        ("", ""),
    ],
)
def test_one_host_is_one_source(peer: str, source: str) -> None:
    assert source_of(peer) == source


async def test_the_pipeline_answers_as_the_contract_says(serve: Any, connect: Any, echo: Any, settings: Any) -> None:
    using = settings.model_copy(update={"auth_wrong_per_second": 0.001, "auth_wrong_burst": 2})
    server = await serve(echo.Echo(), using=using)
    honest, wrong = connect(server), [connect(server, using=f"nonsense {number}") for number in range(3)]
    request = echo.Request(text="x")
    assert await honest.call("Unary", request) == ["x"]
    codes = []
    for client in wrong:
        with pytest.raises(Exception, match="not valid") as caught:
            await client.call("Unary", request, timeout=30)
        codes.append(caught.value.code().name)  # type: ignore[attr-defined]
    assert codes == ["UNAUTHENTICATED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED"]
    assert await honest.call("Unary", request) == ["x"]
