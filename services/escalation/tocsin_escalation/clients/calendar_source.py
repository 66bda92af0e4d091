"""External calendars: fetched over HTTP, and read by a program of its own."""

import asyncio
import json
import os
import sys
from typing import Final

import aiohttp
from tocsin_kit.addresses import PublicResolver
from tocsin_kit.http_answers import BoundedConnector, CostlyAnswer
from tocsin_kit.urls import BadUrl, read_url
from yarl import URL

from tocsin_escalation.domain.calendars.matching import Event, NotRead, Reading

MOST_BYTES: Final = 2 << 20
FETCH_SECONDS: Final = 15.0
READ_SECONDS: Final = 30.0
"""Time for the program on a busy processor; its own limit is lower."""
MOST_HOPS: Final = 3
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
# Some servers answer with a page for people, or in another format, if they do not know the client.
_HEADERS: Final = {"User-Agent": "Tocsin", "Accept": "text/calendar, */*;q=0.5", "Accept-Encoding": "identity"}


class CalendarSource:
    """`reading = await source.read(url, since, until, zone, most)`."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None

    async def read(self, url: str, since: int, until: int, zone: str, most: int) -> Reading:
        """The events within [since, until) by start, at most `most`. Raises NotRead."""
        content = await self._fetch(url)
        wanted = json.dumps({"since": since, "until": until, "zone": zone, "most": most}).encode()
        answer = json.loads(await _run(wanted + b"\n" + content) or b"{}")
        if "events" not in answer:
            raise NotRead(answer.get("error", "the calendar takes too long to be read"))
        events = [Event(start, end, tuple(people), text) for start, end, people, text in answer["events"]]
        return Reading(events, answer["cut"], answer["unread"])

    async def close(self) -> None:
        """Drop idle connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _fetch(self, text: str) -> bytes:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                url = read_url(text, allow_private=self._allow_private)
                for _ in range(MOST_HOPS + 1):
                    content, moved = await self._get(url)
                    if moved is None:
                        return content
                    # Each redirect is checked like the first URL.
                    url = read_url(str(url.join(moved)), allow_private=self._allow_private)
        except BadUrl as error:
            raise NotRead(f"the URL, or one that it leads to, {error}") from None
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise NotRead(f"cannot be fetched: {_reason(error)}") from None
        raise NotRead(f"leads on more than {MOST_HOPS} times")

    async def _get(self, url: URL) -> tuple[bytes, URL | None]:
        async with self._open().get(url, allow_redirects=False) as answer:
            if answer.status in _MOVED and "Location" in answer.headers:
                return b"", URL(answer.headers["Location"], encoded=True)
            if answer.status != 200:
                raise NotRead(f"{url.host} answers with {answer.status}")
            content = bytearray()
            async for chunk in answer.content.iter_chunked(1 << 16):
                content += chunk
                if len(content) > MOST_BYTES:
                    raise NotRead(f"the calendar is larger than {MOST_BYTES} bytes")
            return bytes(content), None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=BoundedConnector(resolver=PublicResolver(allow_private=self._allow_private)),
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            )
        return self._session


def _reason(error: Exception) -> str:
    """In words that contain no part of the URL, as the client's do."""
    match error:
        case TimeoutError():
            return f"no answer within {FETCH_SECONDS:g} s"
        case aiohttp.ClientConnectorDNSError():
            return "its host leads to no public address, or cannot be resolved"
        case CostlyAnswer():
            return str(error)
        case aiohttp.ClientSSLError():
            return "TLS does not hold"
        case aiohttp.ClientConnectorError():
            return "no connection"
        case _:
            return type(error).__name__


async def _run(content: bytes) -> bytes:
    """The output of the program; empty if it was killed. It gets none of this service's settings."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tocsin_escalation.calendar_reader",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ},
    )
    try:
        async with asyncio.timeout(READ_SECONDS):
            said, _ = await process.communicate(content)
    except TimeoutError:
        return b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said if process.returncode == 0 else b""
