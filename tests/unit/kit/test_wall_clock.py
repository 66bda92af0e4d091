"""Services whose hosts' clocks differ by hours take each other's tokens: each judges and makes them by its database's clock."""

import time
from collections.abc import Iterator

import pytest
from tocsin_kit import wall_clock
from tocsin_kit.auth import JwtAuthenticator, SigningKeys, TokenSource, mint
from tocsin_kit.errors import TocsinError

KEYS = SigningKeys.parse("k1:" + "Ab3dEf6hIj9lMn" * 3 + "A")
TRUE = 1_800_000_000.0
HOUR = 3600.0


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator["Host"]:
    with monkeypatch.context() as patched:
        patched.setattr(wall_clock, "_ahead", 0.0)
        yield Host(patched)


class Host:
    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self._patched = patched

    def shows(self, epoch: float) -> float:
        self._patched.setattr(time, "time", lambda: epoch)
        return epoch

    def is_off_by(self, seconds: float) -> None:
        """A host with such a clock, whose database's is right, and has just been asked."""
        wall_clock.told(TRUE, self.shows(TRUE + seconds))


async def accepted(token: str) -> bool:
    try:
        return await JwtAuthenticator(KEYS, max_lifetime=3600).authenticate(token) is not None
    except TocsinError:
        return False


@pytest.mark.parametrize("maker", [-30 * HOUR, -HOUR, -660, 0, 660, HOUR])
@pytest.mark.parametrize("judge", [-HOUR, 0, HOUR])
@pytest.mark.parametrize("what", ["of a service", "of a minute"])
async def test_tokens_are_taken(host: Host, maker: float, judge: float, what: str) -> None:
    host.is_off_by(maker)
    if what == "of a service":
        token = TokenSource(KEYS, "ingest").token()
    else:
        token = mint(KEYS, org_id="acme", subject="users/ana", scopes=(), ttl=60)
    host.is_off_by(judge)
    assert await accepted(token)
    wall_clock.told(TRUE + 2 * HOUR, host.shows(TRUE + judge))
    assert not await accepted(token), "it ends all the same"


def test_an_answer_that_took_long_tells_nothing(host: Host) -> None:
    host.is_off_by(HOUR)
    asked = TRUE + HOUR
    host.shows(asked + 5)
    wall_clock.told(TRUE + 100, asked)
    assert wall_clock.now() == pytest.approx(TRUE + 5)


def test_a_clock_that_is_set_is_followed(host: Host) -> None:
    host.is_off_by(HOUR)
    wall_clock.told(TRUE + 1, host.shows(TRUE + 1))
    assert wall_clock.now() == TRUE + 1
