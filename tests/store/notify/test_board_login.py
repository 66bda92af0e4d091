"""Operators log in at the board through their organisation's login provider, a stand-in over real sockets."""

import re
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from tocsin_stack.ports import free_port
from tocsin_testkit import chromium
from tocsin_testkit.oidc_provider import CLIENT, SECRET, OidcProvider
from yarl import URL

from tests.store.notify.support import Notify, World, until

BOARD = "https://board.example.com"


@pytest.fixture
async def provider() -> AsyncIterator[OidcProvider]:
    made = OidcProvider()
    await made.start()
    made.returns_to = f"{BOARD}/board/login/oidc/done"
    yield made
    await made.stop()


def settings(provider: OidcProvider, url: str = BOARD) -> dict[str, Any]:
    return {
        "board_url": url,
        "board_oidc_issuer": provider.url,
        "board_oidc_client_id": CLIENT,
        "board_oidc_client_secret": SecretStr(SECRET),
        "board_oidc_readers": "support, oncall",
        "board_oidc_writers": "sre",
    }


@pytest.fixture
async def notify(world: World, provider: OidcProvider) -> AsyncIterator[Notify]:
    async with world.replica(works=False, **settings(provider)) as replica:
        yield replica


class Browser:
    """Comes by the board's public URL, which a proxy leads to the replica; keeps every cookie, and shows them all."""

    def __init__(self, notify: Notify, http: aiohttp.ClientSession) -> None:
        self._base = f"http://127.0.0.1:{notify.runtime.http.port}"
        self._http = http
        self.cookies: dict[str, str] = {}
        self.set: list[str] = []
        self.text = ""

    async def opens(self, url: str) -> tuple[int, str]:
        """The status, and where it leads. Redirects are not followed."""
        url = url.replace(BOARD, self._base) if "://" in url else self._base + url
        shown = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self._http.get(URL(url, encoded=True), headers={"Cookie": shown}, allow_redirects=False) as answer:
            self.text = await answer.text()
            self.set = answer.headers.getall("Set-Cookie", [])
            for line in self.set:
                self.cookies |= {name: each.value for name, each in SimpleCookie(line).items()}
            return answer.status, answer.headers.get("Location", "")

    async def logs_in(self) -> int:
        """The whole way there and back."""
        _, to_provider = await self.opens("/board/login/oidc")
        _, back = await self.opens(to_provider)
        return (await self.opens(back))[0]


@pytest.fixture
async def browser(notify: Notify) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Browser(notify, http)


async def test_an_operator_logs_in_with_the_account_of_their_organisation(browser: Browser) -> None:
    await browser.opens("/board/login")
    assert 'href="/board/login/oidc"' in browser.text
    assert await browser.logs_in() == 200
    [cookie] = [line for line in browser.set if line.startswith("tocsin_board=")]
    assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/board"} <= {part.strip() for part in cookie.split(";")}
    assert "url=/board" in browser.text, "the page leads on; a redirect from another site would not show the cookie"
    assert await browser.opens("/board") == (200, "")
    assert "Outbox of notify" in browser.text, "which does not answer here"
    assert (await browser.opens("/board/notify/drain"))[0] == 200
    assert "See what would go" in browser.text


async def test_who_may_do_what_the_settings_say(browser: Browser, provider: OidcProvider) -> None:
    for groups in (["sales"], [], ["SRE"]):
        provider.groups = groups
        assert await browser.logs_in() == 403
        assert ("you are no operator" if groups else "tells no groups of you") in browser.text
        assert (await browser.opens("/board"))[1] == "/board/login"
    provider.groups = ["support"]
    assert await browser.logs_in() == 200
    assert (await browser.opens("/board"))[0] == 200
    assert "Drain" not in browser.text, "without the scope it is for reading"


async def test_a_provider_that_tells_groups_only_when_asked_for_them_is_asked(
    world: World, provider: OidcProvider, browser: Browser
) -> None:
    """Dex and Okta; seen with oidc-provider 9 of npm."""
    provider.groups_need = "groups"
    assert await browser.logs_in() == 403
    assert "what it is asked for is NOTIFY_BOARD_OIDC_SCOPES" in browser.text
    asks: dict[str, Any] = {**settings(provider), "board_oidc_scopes": "openid profile groups"}
    async with (
        world.replica(works=False, **asks) as replica,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        assert await Browser(replica, http).logs_in() == 200


async def test_only_the_claim_that_the_settings_name_says_who_may(world: World, provider: OidcProvider) -> None:
    async with (
        world.replica(works=False, board_oidc_claim="roles", **settings(provider)) as notify,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        browser = Browser(notify, http)
        assert provider.groups == ["sre"]
        assert await browser.logs_in() == 403
        provider.says = {"groups": ["sales"], "roles": ["sre"]}
        assert await browser.logs_in() == 200


async def test_a_token_that_is_not_for_this_login_is_refused(browser: Browser, provider: OidcProvider) -> None:
    wrong: list[dict[str, Any]] = [
        {"nonce": "another"},
        {"aud": "another"},
        {"iss": "https://elsewhere.example.com"},
        {"exp": 1},
        {"azp": "another"},
        {"sub": ""},
    ]
    for says in wrong:
        provider.says = says
        assert await browser.logs_in() == 401, says
        assert (await browser.opens("/board"))[1] == "/board/login"


async def test_what_was_not_begun_in_this_browser_or_is_said_twice_is_refused(
    browser: Browser, provider: OidcProvider
) -> None:
    _, to_provider = await browser.opens("/board/login/oidc")
    kept = dict(browser.cookies)
    assert re.search(r"code_challenge=[\w-]{43}&code_challenge_method=S256", to_provider)
    [cookie] = browser.set
    assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/board/login"} <= {part.strip() for part in cookie.split(";")}
    _, back = await browser.opens(to_provider)
    browser.cookies = {}
    assert (await browser.opens(back))[0] == 401, "another browser"
    browser.cookies = {**kept, "tocsin_board_login": kept["tocsin_board_login"][:-4] + "AAAA"}
    assert (await browser.opens(back))[0] == 401, "a cookie that was changed"
    browser.cookies = dict(kept)
    assert (await browser.opens(re.sub("state=[^&]*", "state=guessed", back)))[0] == 401
    browser.cookies = dict(kept)
    assert (await browser.opens(back))[0] == 200
    browser.cookies = dict(kept)
    assert (await browser.opens(back))[0] == 401, "a code counts once"
    provider.denies = True
    browser.cookies = {}
    assert await browser.logs_in() == 401
    assert "access_denied" in browser.text


async def test_a_provider_that_is_away_is_told_and_the_token_still_works(
    browser: Browser, provider: OidcProvider
) -> None:
    await provider.stop()
    assert (await browser.opens("/board/login/oidc"))[0] == 503
    assert "the login provider cannot be reached" in browser.text
    assert 'name="token"' in browser.text
    await provider.start()


@pytest.mark.long
@pytest.mark.skipif(chromium.PROGRAM is None, reason="chromium is not installed (Debian: apt install chromium)")
async def test_a_real_browser_comes_back_from_the_provider_and_is_logged_in(
    world: World, provider: OidcProvider
) -> None:
    """Without scripts. Whether its cookies are shown after a way over another site, only a browser can tell."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    provider.url = provider.url.replace("127.0.0.1", "localhost")  # another site than the board's
    provider.returns_to = f"{base}/board/login/oidc/done"
    listen: dict[str, Any] = {"http_listen": f"127.0.0.1:{port}"}
    async with world.replica(**settings(provider, base), **listen), chromium.phone(scripts=False) as phone:
        await phone.opens(f"{base}/board/login")
        link = await phone.asks("document.querySelector('a[href$=oidc]').href")
        await phone.opens(link)

        async def on_the_board() -> bool:
            return bool(await phone.asks("location.pathname") == "/board")

        await until(on_the_board)
        await until(lambda: _says(phone, "Log out"))


async def _says(phone: chromium.Phone, words: str) -> bool:
    return words in str(await phone.asks("document.body.innerText"))
