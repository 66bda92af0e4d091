"""Settings of every service reach what they are about, in a service that the kit's own lifecycle has made."""

import time
from types import SimpleNamespace

import pytest
from tocsin_kit.auth import Principal, SigningKeys, mint
from tocsin_kit.db import connections
from tocsin_kit.errors import TocsinError

from tests.store.kit.widget import Settings, build
from tests.wired import KEYS, wired


@pytest.mark.parametrize(("seconds", "replaced"), [("1000", False), ("100", True)])
async def test_at_which_age_a_connection_is_replaced(
    url: str, monkeypatch: pytest.MonkeyPatch, seconds: str, replaced: bool
) -> None:
    async with wired("widget", Settings, build, url, DATABASE_CONNECTION_MAX_AGE_SECONDS=seconds) as runtime:

        async def backend() -> int:
            async with runtime.database.system() as tx:
                return int(await tx.fetchval("SELECT pg_backend_pid()"))

        first = await backend()
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 500)
        monkeypatch.setattr(connections, "time", later)
        assert (await backend() != first) is replaced


async def test_how_long_a_token_may_live(url: str) -> None:
    token = mint(SigningKeys.parse(KEYS), org_id="acme", subject="users/ana", scopes=["a"], ttl=5000)
    async with wired("widget", Settings, build, url, AUTH_MAX_TOKEN_SECONDS="6000") as runtime:
        [own] = runtime.authenticators
        assert isinstance(await own.authenticate(token), Principal)
    async with wired("widget", Settings, build, url, AUTH_MAX_TOKEN_SECONDS="4000") as runtime:
        [own] = runtime.authenticators
        with pytest.raises(TocsinError, match="longer than the 4000 s"):
            await own.authenticate(token)
