"""Fetches documents that verify a sender: only from the hosts of one provider, and with a limit of size.

A proxy that the environment names (`HTTPS_PROXY`) is used.
"""

import re
import ssl
from typing import Final

import aiohttp
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.bounded import Bounded
from tocsin_kit.counts import Counts
from tocsin_kit.errors import TocsinError, invalid
from yarl import URL

_SECONDS: Final = 5.0
_MOST: Final = 64 << 10
_AT_ONCE: Final = 8
_OF_ONE: Final = 2
"""Of these, those of one tenant. Further ones are refused, to be repeated: each holds a connection and its body while it waits."""
_KEPT: Final = 100
_WRONG: Final = 4
_LATER: Final = (408, 429)
_SNS_HOST: Final = re.compile(r"sns\.[a-z0-9-]{1,40}\.amazonaws\.com(\.cn)?")


class Fetcher:
    """`await fetcher.get(url, place, org_id)`. No redirects, no other ports, no other hosts."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._asking: Counts[str] = Counts()
        self._kept: Bounded[str, bytes] = Bounded(_KEPT)

    async def get(self, url: str, place: str, org_id: str, *, keep: bool = False) -> bytes:
        """What is found there, for a tenant; `keep`: as it was found before. Raises INVALID_FIELD at `place` for a URL that is
        not called, and SERVICE_UNAVAILABLE, also when as much is asked already as may be at once.
        """
        if keep and url in self._kept:
            return self._kept[url]
        wanted = _checked(url, place)
        if self._asking[org_id] >= _OF_ONE or self._asking.total() >= _AT_ONCE:
            raise _unavailable(wanted, "is asked much at this moment")
        self._asking[org_id] += 1
        try:
            content = await self._get(wanted, place)
        finally:
            self._asking.less(org_id)
        if keep:
            self._kept[url] = content
        return content

    async def _get(self, wanted: URL, place: str) -> bytes:
        try:
            async with self._open().get(wanted, allow_redirects=False) as answer:
                content = await answer.content.read(_MOST)
                if answer.status == 200:
                    return content
                said = f"answered {answer.status}"
                if answer.status // 100 == _WRONG and answer.status not in _LATER:
                    # A repeat would fail in the same way: the sender and its owner must be told.
                    raise invalid(place, f"is what {wanted.host} has {said} to")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            said = f"did not answer ({type(error).__name__})"
        raise _unavailable(wanted, said)

    async def close(self) -> None:
        """Drop connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Made here, since it reads the files of certificate authorities, which takes about 50 ms.
            connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(), limit=_AT_ONCE)
            timeout = aiohttp.ClientTimeout(total=_SECONDS)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True)
        return self._session


def _unavailable(wanted: URL, said: str) -> TocsinError:
    return TocsinError(
        ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
        f"{wanted.host} {said}; send this again a little later",
        metadata={"service": str(wanted.host)},
    )


def _checked(url: str, place: str) -> URL:
    try:
        wanted = URL(url)
        right = (
            wanted.scheme == "https"
            and wanted.port == 443
            and wanted.user is None
            and wanted.password is None
            and _SNS_HOST.fullmatch(wanted.host or "") is not None
        )
    except ValueError:
        right = False
    if not right:
        raise invalid(place, "must be an https URL of sns.<region>.amazonaws.com")
    return wanted
