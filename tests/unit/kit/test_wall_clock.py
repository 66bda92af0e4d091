"""Services whose hosts' clocks differ by hours, or are set, take each other's tokens: each goes by its database's clock."""

import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from tocsin_kit import wall_clock
from tocsin_kit.auth import JwtAuthenticator, SigningKeys, TokenSource, mint
from tocsin_kit.errors import TocsinError

KEYS = SigningKeys.parse("k1:" + "Ab3dEf6hIj9lMn" * 3 + "A")
TRUE = 1_800_000_000.0
HOUR = 3600.0


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator["Host"]:
    with monkeypatch.context() as patched:
        patched.setattr(wall_clock, "_ahead", wall_clock._ahead)
        patched.setattr(wall_clock, "_set_at", float("-inf"))
        yield Host(patched)


class Host:
    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self._patched = patched

    def shows(self, epoch: float) -> None:
        self._patched.setattr(time, "time", lambda: epoch)

    def is_off_by(self, seconds: float) -> None:
        """A host with such a clock, whose database's is right, and has just been asked."""
        self.shows(TRUE + seconds)
        wall_clock.told(TRUE, time.monotonic())


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
    wall_clock.told(TRUE + 2 * HOUR, time.monotonic())
    assert not await accepted(token), "it ends all the same"


@pytest.mark.parametrize("jump", [-HOUR, -30, 30, HOUR])
async def test_tokens_are_taken_by_a_host_whose_clock_is_set(host: Host, jump: float) -> None:
    """Before its database is asked once more."""
    host.is_off_by(0)
    before = mint(KEYS, org_id="acme", subject="users/ana", scopes=(), ttl=60)
    host.shows(TRUE + jump)
    after = mint(KEYS, org_id="acme", subject="users/ana", scopes=(), ttl=60)
    assert await accepted(before)
    assert await accepted(after)
    assert wall_clock.now() == pytest.approx(TRUE, abs=20)


@pytest.mark.parametrize(("off", "said"), [(HOUR, "behind"), (-HOUR, "ahead of")])
def test_the_log_says_which_clock_is_ahead(host: Host, monkeypatch: pytest.MonkeyPatch, off: float, said: str) -> None:
    monkeypatch.setattr(wall_clock, "_said", 0.0)
    with capture_logs() as lines:
        host.is_off_by(off)
    assert [line["meaning"] for line in lines if line["event"] == "clock_differs"] == [
        f"the database's clock is {said} this host's"
    ]


def test_an_answer_that_took_long_tells_nothing(host: Host) -> None:
    host.is_off_by(HOUR)
    wall_clock.told(TRUE + 100, time.monotonic() - 5)
    assert wall_clock.now() == pytest.approx(TRUE, abs=20)


def test_the_databases_clock_is_followed_and_known_to_have_been_set(host: Host) -> None:
    host.is_off_by(HOUR)
    for passed in (HOUR, 0):
        wall_clock.told(TRUE + passed, time.monotonic())
        assert wall_clock.now() == pytest.approx(TRUE + passed, abs=20)
        assert wall_clock.was_set_ahead(60), "its second step was back"
    wall_clock.told(TRUE + 0.5, time.monotonic())
    assert not wall_clock.was_set_ahead(0)
